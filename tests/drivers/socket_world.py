"""The world on real sockets: a driver runs in a thread of its own, on the real clock, and clients wait for it."""

import socket
import struct
import threading
from contextlib import ExitStack, suppress

from h1core.drivers import asyncio_driver, selectors_driver, trio_driver
from h1core.drivers.net.listeners import close_listener, listen

from h1core.addresses import TcpAddress

from .memory_worlds import run_without_waiting
from .scenario import PATIENCE_S, WIDE, Kind, Peer, Record, Row, World, join_chunks, play
from .scenario_handlers import as_kind, options_of

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SMALL_BUFFER = 4096


class SocketPeer(Peer):
    """A client that waits for the server, but not for ever."""

    def __init__(self, address: tuple[str, int], window_bytes: int) -> None:
        super().__init__()
        self.sock = socket.socket()
        try:
            if window_bytes < WIDE:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            self.sock.settimeout(PATIENCE_S)
            self.sock.connect(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise
        self.received = bytearray()
        self.sees_end = self.sees_reset = False

    def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.sock.sendall(data)

    def read(self, size: int) -> None:
        """Read what comes next."""
        try:
            data = self.sock.recv(size)
        except ConnectionError:
            self.sees_end = self.sees_reset = True
        except TimeoutError:
            raise AssertionError(f"nothing came after {bytes(self.received)[-1000:]!r}") from None
        else:
            self.received += data
            self.sees_end = not data

    def end(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()

    def widen(self, window_bytes: int) -> None:
        pass  # the window is what the kernel makes of it


class SocketWorld(World):
    in_memory = False

    def __init__(
        self,
        row: Row,
        kind: Kind,
        record: Record,
        driver: str,
        scale: float,
        at_exit: ExitStack,
    ) -> None:
        super().__init__(row, kind, record)
        self._at_exit = at_exit
        listener = listen(TcpAddress("127.0.0.1", 0))
        at_exit.callback(close_listener, listener)
        if row.window_bytes < WIDE:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        self._address = listener.getsockname()
        self._failure: BaseException | None = None
        handler = as_kind(row, kind, self.stage)
        options = options_of(row, kind, scale)
        self.server: selectors_driver.Server | asyncio_driver.Server | trio_driver.Server
        if driver == "trio":
            self.server = trio_driver.Server(handler, listeners=[listener], **options)
        elif driver == "selectors":
            self.server = selectors_driver.Server(handler, listeners=[listener], **options)
        else:
            self.server = asyncio_driver.Server(handler, listeners=[listener], loop=driver, **options)
        self._thread = threading.Thread(target=self._run)
        at_exit.callback(self._end)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the test
            self._failure = error

    def _end(self) -> None:
        self.stage.release()
        self.server.stop()
        self._join()

    def _join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server does not end"
        if self._failure is not None:
            raise self._failure

    async def connect(self, window_bytes: int) -> None:
        peer = SocketPeer(self._address, window_bytes)
        self._at_exit.callback(peer.sock.close)
        self.peers.append(peer)

    async def settle(self) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        pass

    async def receive(self, peer: Peer) -> None:
        assert isinstance(peer, SocketPeer)
        expected = len(join_chunks(peer.expected))
        while len(join_chunks(peer.received)) < expected and not peer.sees_end:
            peer.read(1 << 16)

    async def receive_end(self, peer: Peer) -> None:
        assert isinstance(peer, SocketPeer)
        while not peer.sees_end:
            peer.read(1 << 16)

    async def take(self, peer: Peer, count: int) -> None:
        assert isinstance(peer, SocketPeer)
        goal = len(peer.received) + count
        while len(peer.received) < goal and not peer.sees_end:
            peer.read(goal - len(peer.received))

    async def has_let_go(self, peer: Peer) -> bool:
        assert isinstance(peer, SocketPeer)
        peer.sock.close()
        return True

    async def has_stopped(self) -> bool:
        self._join()
        return True

    def begin_drain(self) -> None:
        self.server.begin_drain()

    def stop(self) -> None:
        self.server.stop()

    def finish(self) -> None:
        """Let the server end, which it does at once if it has let go of every connection."""
        self.server.begin_drain()
        self._join()


def play_on_sockets(row: Row, kind: Kind, record: Record, driver: str, scale: float) -> None:
    """Let a row happen on real sockets."""
    with ExitStack() as at_exit:
        world = SocketWorld(row, kind, record, driver, scale, at_exit)
        run_without_waiting(play(world))
        world.finish()
