"""The network in memory for the trio driver: its listener and its streams, with the connections of `network.py`.

    network = TrioMemoryNetwork()
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(serve, app, listeners=[network.listener]))
        client = network.connect()
        client.send(request)
        network.wake()

Clients act at once and wake no task: `wake` lets all waiting tasks check again.
"""

import trio

from h1core.testing.clock import FakeClock
from h1core.testing.network import MemoryClient, MemoryListener, MemoryNetwork, _Stream


class MemoryTrioStream(trio.abc.HalfCloseableStream):
    """The server's end of a connection. Closing it by force resets the connection.

    A task that waits to read parks in `changed`; one that waits for room to write parks in `has_room`, which is
    `changed` if not given.
    """

    def __init__(
        self, stream: _Stream, changed: trio.lowlevel.ParkingLot, has_room: trio.lowlevel.ParkingLot | None = None
    ) -> None:
        self._stream = stream
        self._changed = changed
        self._has_room = changed if has_room is None else has_room
        self._is_sending = False
        self._is_receiving = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what the client has sent."""
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving")
        await trio.lowlevel.checkpoint()
        self._is_receiving = True
        try:
            while True:
                try:
                    return self._stream.recv(max_bytes or 1 << 16)
                except BlockingIOError:
                    await self._changed.park()
                except OSError as error:
                    raise self._as_trio_does(error) from error
        finally:
            self._is_receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, as fast as the client's window allows."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            left = memoryview(data)
            while left:
                try:
                    left = left[self._stream.send(left) :]
                except BlockingIOError:
                    await self._has_room.park()
                except OSError as error:
                    raise self._as_trio_does(error) from error
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the client's window has room."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            while len(self._stream.outbox) >= self._stream.window_bytes:
                await self._has_room.park()
        finally:
            self._is_sending = False

    async def send_eof(self) -> None:
        """Close the writing side."""
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._stream.shutdown(1)
        except OSError as error:
            raise self._as_trio_does(error) from error
        finally:
            self._is_sending = False

    async def aclose(self) -> None:
        """Close both sides."""
        if self._stream.is_closed:
            return
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self._stream.resets_on_close = True
            raise
        finally:
            self._stream.close()
            self._changed.unpark_all()
            self._has_room.unpark_all()

    def _begin_sending(self) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._is_sending = True

    def _as_trio_does(self, error: OSError) -> trio.ClosedResourceError | trio.BrokenResourceError:
        if self._stream.is_closed:
            return trio.ClosedResourceError(str(error))
        return trio.BrokenResourceError(str(error))


class MemoryTrioListener(trio.abc.Listener[MemoryTrioStream]):
    """A listener whose connections are made by a test."""

    def __init__(self, listener: MemoryListener, changed: trio.lowlevel.ParkingLot) -> None:
        self._listener = listener
        self._changed = changed

    async def accept(self) -> MemoryTrioStream:
        """Take the next connection."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                await self._changed.park()
            else:
                return MemoryTrioStream(stream, self._changed)

    async def aclose(self) -> None:
        """Stop listening."""
        self._listener.close()
        await trio.lowlevel.checkpoint()


class TrioMemoryNetwork:
    """One listener and its connections."""

    def __init__(self) -> None:
        self._changed = trio.lowlevel.ParkingLot()
        self._listener = MemoryNetwork(FakeClock()).listen()
        self.listener = MemoryTrioListener(self._listener, self._changed)

    def connect(self, window_bytes: int = 1 << 20) -> MemoryClient:
        """Make a connection. Raises ConnectionRefusedError when the listener is closed."""
        return self._listener.connect(window_bytes)

    def wake(self) -> None:
        """Let all tasks that wait for a client check again."""
        self._changed.unpark_all()
