"""The wake channel, in both of its kinds, from threads and signal handlers, before and after its end."""

import os
import selectors
import signal
import threading
from collections.abc import Iterator

import pytest
from h1core.drivers.net.wake import WakeChannel


@pytest.fixture(params=["eventfd", "socketpair"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind: str = request.param
    if kind == "socketpair":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    return kind


@pytest.fixture
def channel(kind: str) -> Iterator[WakeChannel]:
    channel = WakeChannel()
    assert (channel._eventfd is not None) is (kind == "eventfd")
    yield channel
    channel.close()


def is_ready(channel: WakeChannel, timeout: float = 0.0) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def test_it_is_ready_from_a_wake_to_a_clear(channel: WakeChannel) -> None:
    for _ in range(3):
        assert not is_ready(channel)
        channel.wake()
        assert is_ready(channel)
        assert is_ready(channel), "looking changes nothing"
        channel.clear()
    assert not is_ready(channel)


def test_one_clear_is_for_all_wakes_so_far(channel: WakeChannel) -> None:
    for _ in range(10_000):
        channel.wake()
    assert is_ready(channel)
    channel.clear()
    assert not is_ready(channel)


def test_clearing_what_was_not_woken_does_not_wait(channel: WakeChannel) -> None:
    channel.clear()
    channel.clear()
    assert not is_ready(channel)


def test_waking_a_full_channel_does_not_wait(channel: WakeChannel, kind: str) -> None:
    if kind == "eventfd":
        os.eventfd_write(channel.fileno(), 2**64 - 2)
    channel.wake()
    assert is_ready(channel)


def test_another_thread_wakes_who_waits(channel: WakeChannel) -> None:
    thread = threading.Thread(target=channel.wake)
    thread.start()
    assert is_ready(channel, timeout=30.0)
    thread.join()


def test_many_threads_may_wake_at_once(channel: WakeChannel) -> None:
    def wake_often() -> None:
        for _ in range(200):
            channel.wake()

    threads = [threading.Thread(target=wake_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_ready(channel)
    channel.clear()
    assert not is_ready(channel)


def test_a_signal_handler_wakes_who_waits(channel: WakeChannel) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: channel.wake())
    try:
        waiter = threading.get_ident()  # the signal comes to the thread that waits, as it does when there is one only
        thread = threading.Thread(target=signal.pthread_kill, args=(waiter, signal.SIGUSR1))
        thread.start()
        assert is_ready(channel, timeout=30.0)
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_after_its_end_nothing_is_an_error(channel: WakeChannel) -> None:
    channel.wake()
    channel.close()
    assert channel.fileno() == -1
    channel.wake()
    channel.clear()
    channel.close()


def test_its_descriptors_are_given_back_and_not_inherited(kind: str) -> None:
    before = set(os.listdir("/dev/fd"))
    channel = WakeChannel()
    assert not os.get_inheritable(channel.fileno())
    channel.close()
    assert set(os.listdir("/dev/fd")) == before


def test_a_channel_is_not_closed_in_the_middle_of_a_wake(kind: str) -> None:
    """`Server.begin_drain` comes from any thread at any moment, also while the loop gives the channel back."""
    channel = WakeChannel()
    closing = threading.Thread(target=channel.close)
    with channel._lock:  # as `wake` holds it
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        channel.wake()  # a signal handler in this very thread
        assert channel.fileno() >= 0
    closing.join(10)
    channel.wake()
    assert channel.fileno() == -1
