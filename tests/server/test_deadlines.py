"""The deadline index against a dictionary: nothing is lost, nothing comes early, and nothing piles up."""

import random
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from h1core.server import deadlines
from h1core.server.deadlines import STALE_ALLOWANCE, DeadlineIndex

keys = st.integers(0, 5)
instants = st.integers(0, 20).map(float)

MANY = 1 << 30


class AgainstADict(RuleBasedStateMachine):
    """`look_at` is what the index promises: the earliest instant set for a key since it last came up."""

    def __init__(self) -> None:
        super().__init__()
        self.index = DeadlineIndex[int]()
        self.look_at: dict[int, float] = {}
        self.set_order: dict[int, int] = {}
        self.sets = 0
        self.now = 0.0
        self.is_asleep = False
        self.sleeps_until: float | None = None

    @rule()
    def sleep(self) -> None:
        """Until the next instant; who watches a key in between says when that is too late."""
        self.is_asleep = True
        self.sleeps_until = self.index.next

    @rule(key=keys, deadline=st.one_of(st.none(), instants))
    def watch(self, key: int, deadline: float | None) -> None:
        if self.index.watch(key, deadline):
            self.is_asleep = False
        if deadline is not None and (key not in self.look_at or deadline < self.look_at[key]):
            self.look_at[key] = deadline
            self.sets += 1
            self.set_order[key] = self.sets
            self.check_bound()

    @rule(key=keys)
    def forget(self, key: int) -> None:
        self.index.forget(key)
        self.look_at.pop(key, None)
        self.check_bound()

    @rule(seconds=instants)
    def take_what_is_due(self, seconds: float) -> None:
        self.now += seconds
        due = [key for key, at in self.look_at.items() if at <= self.now]
        due.sort(key=lambda key: (self.look_at[key], self.set_order[key]))
        assert self.index.due(self.now, MANY) == due
        for key in due:
            del self.look_at[key]

    def check_bound(self) -> None:
        assert self.index.entries <= 2 * len(self.look_at) + STALE_ALLOWANCE

    @invariant()
    def the_next_one_is_the_earliest(self) -> None:
        assert self.index.next == min(self.look_at.values(), default=None)

    @invariant()
    def nobody_oversleeps(self) -> None:
        earliest = min(self.look_at.values(), default=None)
        if self.is_asleep and earliest is not None:
            assert self.sleeps_until is not None
            assert self.sleeps_until <= earliest

    @invariant()
    def as_many_are_watched(self) -> None:
        assert len(self.index) == len(self.look_at)


TestAgainstADict = AgainstADict.TestCase


@pytest.mark.parametrize("seed", range(20))
def test_among_expired_and_living_keys_none_is_ever_lost(seed: int) -> None:
    """http.zig #222: sweeping the expired ones cut living ones off their list, and those never timed out."""
    choose = random.Random(seed)
    index = DeadlineIndex[int]()
    deadline: dict[int, float] = {}
    now = 0.0
    for step in range(2000):
        key = choose.randrange(50)
        if key in deadline or choose.random() < 0.5:  # a move to any side, or a newcomer
            deadline[key] = now + choose.choice([0, 1, 5, 5, 75, 75, 75]) * choose.random()
            index.watch(key, deadline[key])
        if choose.random() < 0.05 and deadline:
            gone = choose.choice(sorted(deadline))
            del deadline[gone]
            index.forget(gone)
        if step % 10 == 0:
            now += choose.random()
            expired = set()
            for candidate in index.due(now, MANY):
                if deadline[candidate] <= now:
                    expired.add(candidate)
                else:
                    index.watch(candidate, deadline[candidate])
            assert expired == {key for key, at in deadline.items() if at <= now}
            for key in expired:
                del deadline[key]
                index.forget(key)
        assert len(index) == len(deadline)
        assert index.entries <= 2 * len(deadline) + STALE_ALLOWANCE


def fail(*arguments: object) -> None:
    raise AssertionError(f"the heap was touched: {arguments}")


def test_a_deadline_that_moves_later_costs_no_heap_work(monkeypatch: pytest.MonkeyPatch) -> None:
    index = DeadlineIndex[str]()
    index.watch("a", 10.0)
    index.watch("b", 20.0)
    for name in ("heappush", "heappop", "heapify"):
        monkeypatch.setattr(deadlines, name, fail)
    for request in range(10_000):
        index.watch("a", 10.0 + request)
        index.watch("b", None)
        assert index.next == 10.0
    assert index.entries == 2


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Calls of one of the heap's functions; the list grows by one for each."""
    calls: list[int] = []
    original: Callable[..., object] = getattr(deadlines, name)

    def count(*arguments: object) -> object:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(deadlines, name, count)
    return calls


def test_a_busy_key_is_looked_at_once_in_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    index = DeadlineIndex[str]()
    pushes = counted(monkeypatch, "heappush")
    looks = 0
    for millisecond in range(100_000):  # a request every millisecond moves a keep-alive of 10 s
        now = millisecond / 1000
        index.watch("busy", now + 10.0)
        for key in index.due(now, MANY):
            looks += 1
            index.watch(key, now + 10.0)
    assert looks == 9
    assert len(pushes) == 10


def test_deadlines_that_keep_moving_earlier_leave_a_bounded_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    index = DeadlineIndex[int]()
    rebuilds = counted(monkeypatch, "heapify")
    for step in range(10_000):
        index.watch(step % 10, -float(step))
        assert index.entries <= 2 * len(index) + STALE_ALLOWANCE
    assert len(rebuilds) <= 10_000 / STALE_ALLOWANCE
    assert index.next == -9999.0


def test_a_key_that_comes_and_goes_at_one_instant_leaves_a_bounded_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    index = DeadlineIndex[str]()
    rebuilds = counted(monkeypatch, "heapify")
    for _ in range(1000):
        index.watch("a", 5.0)
        index.forget("a")
        assert index.entries <= STALE_ALLOWANCE
    assert len(rebuilds) <= 1000 / STALE_ALLOWANCE
    assert index.due(5.0, MANY) == []


def test_forgetting_most_keys_gives_their_entries_back() -> None:
    index = DeadlineIndex[int]()
    for key in range(1000):
        index.watch(key, float(key))
    for key in range(990):
        index.forget(key)
    assert index.entries <= 2 * 10 + STALE_ALLOWANCE
    assert index.due(1e9, MANY) == list(range(990, 1000))


def test_keys_are_not_compared() -> None:
    index = DeadlineIndex[object]()
    first, second = object(), object()
    index.watch(second, 5.0)
    index.watch(first, 5.0)
    assert index.due(5.0, MANY) == [second, first]


def test_due_includes_the_instant_itself_and_nothing_later() -> None:
    index = DeadlineIndex[str]()
    index.watch("a", 5.0)
    assert index.due(4.999, MANY) == []
    assert index.due(5.0, MANY) == ["a"]
    assert index.due(5.0, MANY) == []
    assert index.next is None


def test_forgetting_a_stranger_does_nothing() -> None:
    index = DeadlineIndex[str]()
    index.forget("a")
    assert (len(index), index.entries, index.next) == (0, 0, None)


def test_the_same_calls_give_the_same_order() -> None:
    def run() -> list[list[int]]:
        choose = random.Random(1)
        index = DeadlineIndex[int]()
        taken = []
        for step in range(500):
            index.watch(choose.randrange(100), choose.randrange(20))
            if step % 25 == 0:
                taken.append(index.due(choose.randrange(20), MANY))
        return taken

    assert run() == run()


def test_many_at_once_come_up_in_portions_and_in_order() -> None:
    index = DeadlineIndex[int]()
    for key in range(10):
        index.watch(key, 1.0)
    assert index.due(1.0, 4) == [0, 1, 2, 3]
    assert index.next == 1.0
    assert index.due(1.0, 4) == [4, 5, 6, 7]
    assert index.due(1.0, 4) == [8, 9]
    assert index.next is None
