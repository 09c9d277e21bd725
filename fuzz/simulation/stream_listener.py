"""Streams of trio as what the trio driver serves, in some of its runs: the adapters of the driver are the real ones.

An adapter takes a connection, and reads, before the engine asks; so what the engine knows is recorded where it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from h1core.drivers.trio_streams import StreamListener, StreamTransport

from h1core.testing.network import READ, WRITE
from h1core.testing.trio_network import MemoryTrioStream

from .network import SimDescriptorSelector, SimStream

if TYPE_CHECKING:
    from .swaps import Swap
    from .world import World

FAULTS_OF_SOCKETS = ("interrupted", "spurious_ready", "broken_calls")
"""Those that streams do not have."""


class SimInnerSelector(SimDescriptorSelector):
    """Has nothing but the wake channel. Between two steps of an adapter the world does not look."""

    def _look(self) -> None:
        pass


class SimTrioListener(trio.abc.Listener[MemoryTrioStream]):
    """The world's listener, as trio has them; each stream is woken by itself."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._newcomers = trio.lowlevel.ParkingLot()
        self._lots: dict[SimStream, tuple[trio.lowlevel.ParkingLot, trio.lowlevel.ParkingLot]] = {}
        """Who waits to read a stream, and who to write it."""

    async def accept(self) -> MemoryTrioStream:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                stream = self._world.listener.take()
            except BlockingIOError:
                await self._newcomers.park()
            else:
                stream.is_read_ahead = True
                self._lots[stream] = lots = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
                return MemoryTrioStream(stream, *lots)

    async def aclose(self) -> None:
        self._world.listener.close()
        await trio.lowlevel.checkpoint()

    def wake(self) -> None:
        """Somebody has come."""
        self._newcomers.unpark_all()

    def changed(self, stream: SimStream) -> None:
        """A client has done something."""
        if stream in self._lots:
            readable, writable = self._lots[stream]
            if stream.ready & READ:
                readable.unpark_all()
            if stream.ready & WRITE:
                writable.unpark_all()

    def swaps(self) -> tuple[Swap, ...]:
        """Let the world know what the engine is told of."""
        world, accept, recv = self._world, StreamListener.accept, StreamTransport.recv

        def watched_accept(listener: StreamListener) -> Any:
            transport, peer = accept(listener)
            world.accepted(stream_of(transport))
            return transport, peer

        def watched_recv(transport: StreamTransport, size: int, /) -> bytes:
            data = recv(transport, size)
            stream_of(transport).tell_read(data)
            return data

        return (StreamListener, "accept", watched_accept), (StreamTransport, "recv", watched_recv)


def stream_of(transport: Any) -> SimStream:
    """The stream below an adapter."""
    stream: SimStream = transport._stream._stream
    return stream
