"""A scenario: what clients do to a server, what they get to the byte, and how it ends; for any driver in any world.

A `Row` is data. A `World` is a server with a network, in memory or real; `play` lets a row happen in it. Time is a step
like others. In memory `wait` is exact, so that "not yet" can be said; on real sockets it is left out: there a client
waits for what is to come, and the one deadline that a row is about comes early (`Row.due`).
"""

import asyncio
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import anyio
import pytest
import sniffio
import trio
from h1core.drivers.engine.request_body import BodySpool

from h1core import CloseReason, Conn, Disposition, Limits, Timeouts
from h1core.app.handler import Handler
from h1core.http1.output import Buffer
from h1core.server import ServerCore

PATIENCE_S = 20.0
"""When a test that waits for something gives up; nothing waits for it to pass."""

WIDE = 1 << 20


class Kind(Enum):
    """How a driver runs a handler."""

    INLINE = "inline"
    THREADS = "threads"
    ASYNC = "async"
    EXCHANGE = "exchange"


ALL_KINDS = frozenset(Kind)
WAITING_KINDS = ALL_KINDS - {Kind.INLINE}
"""In which a handler can be held without holding the server."""
COLLECTING_KINDS = ALL_KINDS - {Kind.EXCHANGE}
THREADS = frozenset({Kind.THREADS})


@dataclass(frozen=True)
class End:
    """How a connection ends, and why. One that is kept is ended by its client."""

    disposition: Disposition
    reason: CloseReason = CloseReason.PEER_CLOSED


KEPT = End(Disposition.KEEP)


@dataclass(frozen=True)
class Row:
    name: str
    steps: "tuple[Step, ...]"
    end: End | tuple[End, ...] = KEPT
    """For each client, in the order of their coming; the first is there from the start."""
    handler: Handler | None = None
    """None is for one that is not called."""
    limits: Mapping[str, int] = field(default_factory=dict)
    timeouts: Mapping[str, float] = field(default_factory=dict)
    due: tuple[str, ...] = ()
    """The deadlines that pass."""
    window_bytes: int = WIDE
    """What the server may write without the first client reading it."""
    is_held: bool = False
    """The handler does not begin until `Release`."""
    held_after: int | None = None
    """The handler's stream does not go on after so many pieces until `Release`."""
    kinds: frozenset[Kind] = ALL_KINDS
    stops: bool = False
    """The server is over when its connections are."""

    @property
    def ends(self) -> tuple[End, ...]:
        return self.end if isinstance(self.end, tuple) else (self.end,)

    def make_limits(self) -> Limits:
        return Limits(**self.limits)

    def make_timeouts(self, scale: float) -> Timeouts:
        """The deadlines that pass are scaled, and no other: it shall not pass because the machine is busy."""
        timeouts = Timeouts(**self.timeouts)
        changed = {name: scale * getattr(timeouts, name) for name in self.due}
        if "body_timeout" in self.due:
            changed["min_body_rate"] = timeouts.min_body_rate / scale
        if "write_timeout" in self.due:
            changed["min_write_rate"] = timeouts.min_write_rate / scale
        return replace(timeouts, **changed)


# The world.


class Stage:
    """Where handlers of a row wait until they may begin, in whatever thread or task."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._released: list[Callable[[], object]] = []
        self._is_open = False
        self.arrived = 0
        self.parked_threads = 0
        self.on_park: Callable[[], None] = lambda: None

    def park(self) -> None:
        """Wait in a thread."""
        with self._changed:
            if self._is_open:
                return
            self.arrived += 1
            self.parked_threads += 1
            self._changed.notify_all()
            self.on_park()
            assert self._changed.wait_for(lambda: self._is_open, PATIENCE_S), "nobody released the handler"

    async def park_task(self) -> None:
        """Wait in a task of trio or asyncio."""
        event = anyio.Event()
        call_soon = _call_soon()
        with self._changed:
            if self._is_open:
                return
            self.arrived += 1
            self._changed.notify_all()
            self._released.append(lambda: call_soon(event.set))
        await event.wait()

    def release(self) -> None:
        with self._changed:
            self._is_open = True
            self.parked_threads = 0
            self._changed.notify_all()
            for tell in self._released:
                with suppress(trio.RunFinishedError, RuntimeError):  # the event loop has ended
                    tell()

    def wait_for_arrivals(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.arrived >= count, PATIENCE_S), "the handler was not called"


def _call_soon() -> Callable[[Callable[[], object]], object]:
    """What calls something in the event loop that runs, from any thread."""
    if sniffio.current_async_library() == "trio":
        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe


class Record:
    """What a server's core was told, and when: what happens in another thread can be waited for here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self.opened: list[Conn] = []
        self._watch(monkeypatch, "connection_opened", self.opened.append)
        for fact in ("connection_gone", "request_ready", "begin_drain"):
            self._watch(monkeypatch, fact, lambda _: None)
        self._watch_bodies(monkeypatch)

    def _watch_bodies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = BodySpool.add

        def add(spool: BodySpool, data: Buffer) -> None:
            original(spool, data)
            with self._changed:
                self._counts["collected"] += len(data)
                self._changed.notify_all()

        monkeypatch.setattr(BodySpool, "add", add)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, fact: str, take: Callable[[Any], None]) -> None:
        original = getattr(ServerCore, fact)

        def told(core: ServerCore, *args: Any) -> Any:
            answer = original(core, *args)
            with self._changed:
                take(answer)
                self._counts[fact] += 1
                self._changed.notify_all()
            return answer

        monkeypatch.setattr(ServerCore, fact, told)

    def count(self, fact: str) -> int:
        """How often the core was told this; of `collected`, bytes of bodies that have come to where they are kept."""
        return self._counts[fact]

    def wait_for(self, fact: str, count: int) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: self._counts[fact] >= count, PATIENCE_S)
        assert came, f"{fact} did not come to {count}"


class Peer(ABC):
    """A client, and what it should have got so far."""

    def __init__(self) -> None:
        self.expected = bytearray()
        self.may_be_cut = False
        """Any part of what is expected will do."""
        self.may_say_close = False
        """The last response may announce the end, or not."""
        self.has_reset = False

    @property
    def heard(self) -> bytearray:
        """What the client has received, without what may be announced or not."""
        return self.received.replace(b"connection: close\r\n", b"") if self.may_say_close else self.received

    received: bytearray
    sees_end: bool
    sees_reset: bool

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send all of it; what the server does not want any more is lost."""

    @abstractmethod
    def end(self) -> None:
        """Close the sending side."""

    @abstractmethod
    def reset(self) -> None:
        """Break the connection."""

    @abstractmethod
    def widen(self, window_bytes: int) -> None:
        """Take so much more from the server, unread."""


class World(ABC):
    """A server and its network. What is `async` may let the server run."""

    in_memory: bool

    def __init__(self, row: Row, kind: Kind, record: Record) -> None:
        self.row = row
        self.kind = kind
        self.record = record
        self.stage = Stage()
        self.peers: list[Peer] = []

    @abstractmethod
    async def connect(self, window_bytes: int) -> None:
        """Let another client come. Raises ConnectionRefusedError."""

    @abstractmethod
    async def settle(self) -> None:
        """Let the server do what it can do now; on real sockets nobody knows when that is."""

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def receive(self, peer: Peer) -> None:
        """Read what has come, in memory; on real sockets, until there is as much as expected, or the end."""

    @abstractmethod
    async def receive_end(self, peer: Peer) -> None:
        """Read to the end."""

    @abstractmethod
    async def take(self, peer: Peer, count: int) -> None:
        """Read exactly so much."""

    @abstractmethod
    async def has_let_go(self, peer: Peer) -> bool:
        """Whether the server has closed a connection; True on real sockets, where it shows when the server ends."""

    @abstractmethod
    async def has_stopped(self) -> bool:
        """Whether the server is over, or will be by itself."""

    async def see(self, fact: str, count: int) -> None:
        """See that the server's core was told something so often."""
        await self.settle()
        if not self.in_memory:
            self.record.wait_for(fact, count)
        assert self.record.count(fact) == count

    @abstractmethod
    def begin_drain(self) -> None:
        """Let the server begin to end."""

    @abstractmethod
    def stop(self) -> None:
        """Let the server end."""


@dataclass(frozen=True)
class Step(ABC):
    @abstractmethod
    async def play(self, world: World) -> None:
        """Do it."""


HEAD_END = b"\r\n\r\n"


def join_chunks(wire: bytes | bytearray) -> bytes:
    """The same responses, or the beginning of them, with the content of each chunked body in one piece."""
    joined, rest = b"", bytes(wire)
    while rest:
        head, end, rest = rest.partition(HEAD_END)
        joined += head + end
        if b"transfer-encoding: chunked" in head.lower():
            size = -1
            while rest and size:
                line, _, rest = rest.partition(b"\r\n")
                size = int(line, 16)
                joined += rest[:size]
                rest = rest[size + 2 :]
            joined += b"" if size else b"[end]"
        elif length := re.search(rb"(?i)content-length: (\d+)", head):
            joined += rest[: int(length[1])]
            rest = rest[int(length[1]) :]
    return joined


def check_same(got: bytearray, expected: bytearray) -> None:
    """Compare what came; how a body is cut into chunks makes no difference."""
    if got == expected or join_chunks(got) == join_chunks(expected):
        return
    pairs = enumerate(zip(got, expected, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(got), len(expected)))
    here = slice(max(0, at - 60), at + 200)
    sizes = f"{len(got)} bytes came and {len(expected)} should have"
    raise AssertionError(
        f"{sizes}; from {at} on they are not the same:\n{bytes(got[here])!r}\n{bytes(expected[here])!r}"
    )


# Playing.


async def play(world: World) -> None:
    """Let a row happen, to its end."""
    row = world.row
    try:
        await world.connect(row.window_bytes)
        for step in row.steps:
            await step.play(world)
        assert len(row.ends) == len(world.peers)
        for peer, end in zip(world.peers, row.ends, strict=True):
            await _see_end(world, peer, end)
        if row.stops:
            assert await world.has_stopped()
    finally:
        world.stage.release()


async def _see_end(world: World, peer: Peer, end: End) -> None:
    if peer.has_reset:
        assert await world.has_let_go(peer)
        return
    if end.disposition is Disposition.KEEP:
        await world.receive(peer)
        if world.in_memory:
            assert not peer.sees_end
        peer.end()
    await world.receive_end(peer)
    assert peer.sees_end
    assert peer.sees_reset == (end.disposition is Disposition.ABORT)
    if peer.may_be_cut:
        assert join_chunks(peer.expected).startswith(join_chunks(peer.received))
    else:
        check_same(peer.heard, peer.expected)
    if end.disposition is Disposition.LINGER:
        assert not (world.in_memory and await world.has_let_go(peer))
        peer.end()
    assert await world.has_let_go(peer)


def check_reasons(row: Row, record: Record) -> None:
    """See why each connection has ended, once the server is over."""
    assert [conn.close_reason for conn in record.opened] == [end.reason for end in row.ends]
    aborted = [conn.disposition is Disposition.ABORT for conn in record.opened]
    assert aborted == [end.disposition is Disposition.ABORT for end in row.ends]
