"""The network in memory, held against the real one where both can do the same."""

import errno
import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from h1core.testing import Deadlock, FakeClock, MemoryClient, MemoryListener, MemoryNetwork, MemorySelector

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def network(clock: FakeClock) -> MemoryNetwork:
    return MemoryNetwork(clock)


@pytest.fixture
def listener(network: MemoryNetwork) -> MemoryListener:
    return network.listen()


@dataclass
class Pair:
    """A connection from both ends: the server's transport, and what the client can do and see."""

    transport: Any
    send: Callable[[bytes], object]
    end: Callable[[], object]
    reset: Callable[[], object]
    read: Callable[[], bytes | None]
    """What has come, empty at the end, None when nothing has, OSError after a reset."""


def memory_pair() -> Iterator[Pair]:
    listener = MemoryNetwork(FakeClock()).listen()
    client = listener.connect()
    transport, _ = listener.accept()

    def read() -> bytes | None:
        if data := client.read():
            return data
        if client.sees_reset:
            raise ConnectionResetError
        return b"" if client.sees_end else None

    yield Pair(transport, client.send, client.end, client.reset, read)


def socket_pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        transport, _ = server.accept()
        transport.setblocking(False)
        client.setblocking(False)

        def reset() -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        def read() -> bytes | None:
            try:
                return client.recv(1000)
            except BlockingIOError:
                return None

        with transport:
            yield Pair(transport, client.sendall, lambda: client.shutdown(socket.SHUT_WR), reset, read)


@pytest.fixture(params=[memory_pair, socket_pair], ids=["memory", "sockets"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    yield from request.param()


# Both networks.


def test_what_the_client_sends_is_read_in_order_and_then_would_block(pair: Pair) -> None:
    pair.send(b"hello ")
    pair.send(b"world")
    assert pair.transport.recv(7) == b"hello w"
    assert pair.transport.recv(100) == b"orld"
    with pytest.raises(BlockingIOError):
        pair.transport.recv(100)


def test_the_end_comes_behind_the_data_and_stays(pair: Pair) -> None:
    pair.send(b"hello")
    pair.end()
    assert [pair.transport.recv(100) for _ in range(3)] == [b"hello", b"", b""]
    assert pair.transport.send(b"still there") == 11
    assert pair.read() == b"still there"


def test_what_the_server_sends_is_read_and_then_the_end(pair: Pair) -> None:
    assert pair.read() is None
    assert pair.transport.send(memoryview(b"hello")) == 5
    assert pair.transport.send(bytearray(b" world")) == 6
    assert pair.read() == b"hello world"
    assert pair.read() is None
    pair.transport.shutdown(socket.SHUT_WR)
    assert pair.read() == b""
    with pytest.raises(BrokenPipeError):
        pair.transport.send(b"more")
    pair.send(b"the other way is open")
    assert pair.transport.recv(100) == b"the other way is open"


def test_a_reset_breaks_both_directions(pair: Pair) -> None:
    pair.reset()
    with pytest.raises(ConnectionError):
        pair.transport.recv(100)
    with pytest.raises(ConnectionError):
        pair.transport.send(b"x")


def test_a_reset_overtakes_what_was_sent(listener: MemoryListener) -> None:
    """So it does on some systems; on Linux, what has arrived is still read first."""
    client = listener.connect()
    transport, _ = listener.accept()
    client.send(b"lost")
    client.reset()
    with pytest.raises(ConnectionResetError):
        transport.recv(100)


def test_closing_in_order_is_an_end(pair: Pair) -> None:
    pair.transport.send(b"bye")
    pair.transport.close()
    assert (pair.read(), pair.read()) == (b"bye", b"")


def test_closing_with_unread_input_is_a_reset(pair: Pair) -> None:
    pair.send(b"nobody reads this")
    pair.transport.close()
    with pytest.raises(ConnectionResetError):
        pair.read()


def test_closing_after_so_linger_is_a_reset(pair: Pair) -> None:
    pair.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.transport.close()
    with pytest.raises(ConnectionResetError):
        pair.read()


def test_other_options_change_nothing(pair: Pair) -> None:
    pair.transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pair.transport.close()
    assert pair.read() == b""


def test_a_closed_transport_is_of_no_use(pair: Pair) -> None:
    assert pair.transport.fileno() > 0
    pair.transport.close()
    pair.transport.close()
    assert pair.transport.fileno() == -1
    uses: list[Callable[[], object]] = [
        lambda: pair.transport.recv(1),
        lambda: pair.transport.send(b"x"),
        lambda: pair.transport.shutdown(socket.SHUT_WR),
        lambda: pair.transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for use in uses:
        with pytest.raises(OSError, match=rf"\[Errno {errno.EBADF}\]"):
            use()


# The window.


def test_only_so_much_may_be_unread(listener: MemoryListener) -> None:
    client = listener.connect(window_bytes=10)
    transport, _ = listener.accept()
    assert transport.send(b"0123456") == 7
    assert transport.send(b"789ab") == 3
    with pytest.raises(BlockingIOError):
        transport.send(b"ab")
    assert client.read(4) == b"0123"
    assert transport.send(b"abcdef") == 4
    assert client.read() == b"456789abcd"
    assert client.received == b"0123456789abcd"
    client.widen(0)
    with pytest.raises(BlockingIOError):
        transport.send(b"x")


def test_what_is_sent_to_a_closed_server_is_lost(listener: MemoryListener) -> None:
    client = listener.connect()
    transport, _ = listener.accept()
    transport.close()
    client.send(b"too late")
    assert client.is_closed
    assert not client.sees_reset


# Listening.


def test_newcomers_come_in_their_order_each_with_an_address(listener: MemoryListener) -> None:
    clients = [listener.connect() for _ in range(3)]
    assert listener.waiting == 3
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    accepted = [listener.accept() for _ in range(3)]
    assert [transport.recv(9) for transport, _ in accepted] == [b"0", b"1", b"2"]
    assert len({address for _, address in accepted}) == 3
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_failure_comes_once_and_in_its_place(listener: MemoryListener) -> None:
    listener.connect()
    listener.fail(OSError(errno.EMFILE, "full"))
    listener.connect()
    listener.accept()
    with pytest.raises(OSError, match="full"):
        listener.accept()
    listener.accept()


def test_a_closed_listener_cuts_who_waits_and_refuses_who_comes(listener: MemoryListener) -> None:
    waiting = listener.connect()
    listener.fail(OSError(errno.EMFILE, "full"))
    assert listener.fileno() > 0
    listener.close()
    assert (listener.is_closed, listener.fileno(), listener.waiting) == (True, -1, 0)
    assert waiting.sees_reset
    with pytest.raises(ConnectionRefusedError):
        listener.connect()


def test_descriptors_differ(network: MemoryNetwork) -> None:
    listeners = [network.listen(), network.listen()]
    for listener in listeners:
        listener.connect()
    transports = [listener.accept()[0] for listener in listeners]
    assert len({thing.fileno() for things in (listeners, transports) for thing in things}) == 4


# Selecting.


@pytest.fixture
def selector(network: MemoryNetwork) -> MemorySelector:
    return network.selector


def accepted(listener: MemoryListener, window_bytes: int = 100) -> tuple[MemoryClient, Any]:
    client = listener.connect(window_bytes)
    return client, listener.accept()[0]


def ready(selector: MemorySelector) -> list[tuple[object, int]]:
    return [(key.data, events) for key, events in selector.select(0)]


def test_a_listener_is_ready_while_somebody_waits(listener: MemoryListener, selector: MemorySelector) -> None:
    selector.register(listener, READ, "listener")
    assert ready(selector) == []
    listener.connect()
    assert ready(selector) == ready(selector) == [("listener", READ)]
    listener.accept()
    assert ready(selector) == []


def test_a_transport_is_ready_for_what_it_can_do_and_was_asked_for(
    listener: MemoryListener, selector: MemorySelector
) -> None:
    client, transport = accepted(listener, window_bytes=1)
    selector.register(transport, READ | WRITE, "it")
    assert ready(selector) == [("it", WRITE)]
    client.send(b"x")
    assert ready(selector) == [("it", READ | WRITE)]
    selector.modify(transport, READ, "only")
    assert ready(selector) == [("only", READ)]
    transport.recv(1)
    assert ready(selector) == []
    selector.modify(transport, WRITE, "it")
    transport.send(b"x")
    assert ready(selector) == []
    client.read()
    assert ready(selector) == [("it", WRITE)]


@pytest.mark.parametrize(
    ("way", "events"), [(MemoryClient.end, READ), (MemoryClient.reset, READ | WRITE)], ids=["end", "reset"]
)
def test_the_end_makes_a_transport_ready(
    listener: MemoryListener, selector: MemorySelector, way: Callable[[MemoryClient], None], events: int
) -> None:
    client, transport = accepted(listener, window_bytes=0)
    selector.register(transport, READ | WRITE, "it")
    assert ready(selector) == []
    way(client)
    assert ready(selector) == [("it", events)]


def test_ready_ones_come_in_the_order_of_their_registration(listener: MemoryListener, selector: MemorySelector) -> None:
    transports = [accepted(listener)[1] for _ in range(4)]
    for number in (2, 0, 3, 1):
        selector.register(transports[number], WRITE, number)
    assert [data for data, _ in ready(selector)] == [2, 0, 3, 1]
    selector.modify(transports[0], READ | WRITE, 0)
    assert [data for data, _ in ready(selector)] == [2, 0, 3, 1]


def test_when_nothing_is_ready_time_passes(
    listener: MemoryListener, selector: MemorySelector, clock: FakeClock
) -> None:
    selector.register(listener, READ)
    assert selector.select(2.5) == []
    assert clock.now == 2.5
    assert selector.select(-1.0) == []
    assert clock.now == 2.5
    listener.connect()
    assert len(selector.select(10.0)) == 1
    assert clock.now == 2.5


def test_waiting_for_ever_for_nothing_is_a_deadlock(listener: MemoryListener, selector: MemorySelector) -> None:
    selector.register(listener, READ)
    with pytest.raises(Deadlock):
        selector.select()
    listener.connect()
    assert len(selector.select()) == 1


def test_what_knows_no_readiness_is_never_ready(selector: MemorySelector) -> None:
    class Channel:
        def fileno(self) -> int:
            return 5

    channel = Channel()
    selector.register(channel, READ)
    assert selector.select(0) == []
    selector.unregister(channel)


def test_its_mistakes_are_those_of_the_real_one(listener: MemoryListener, selector: MemorySelector) -> None:
    with pytest.raises(ValueError, match="cannot wait"):
        selector.register(listener, 0)
    with pytest.raises(KeyError):
        selector.modify(listener, READ)
    with pytest.raises(KeyError):
        selector.unregister(listener)
    selector.register(listener, READ)
    with pytest.raises(KeyError):
        selector.register(listener, READ)
    listener.close()
    selector.unregister(listener)
    with pytest.raises(ValueError, match="cannot wait"):
        selector.register(listener, READ)


def test_its_calls_and_its_watched_objects_are_counted(listener: MemoryListener, selector: MemorySelector) -> None:
    _, transport = accepted(listener)
    selector.register(listener, READ)
    selector.register(transport, READ)
    selector.modify(transport, WRITE)
    assert (selector.calls, selector.watched) == (3, 2)
    selector.unregister(transport)
    selector.select(0)
    assert (selector.calls, selector.watched) == (4, 1)
    selector.close()
    assert selector.watched == 0
