"""What can happen in a scenario, step by step."""

from dataclasses import dataclass

import pytest

from .scenario import WIDE, Step, World, check_same, join_chunks


@dataclass(frozen=True)
class Send(Step):
    data: bytes
    client: int = 0

    async def play(self, world: World) -> None:
        world.peers[self.client].send(self.data)


@dataclass(frozen=True)
class Dribble(Step):
    """Send pieces, and let the server see each by itself."""

    data: bytes
    size: int = 1
    every_s: float = 0.0
    client: int = 0

    async def play(self, world: World) -> None:
        for at in range(0, len(self.data), self.size):
            world.peers[self.client].send(self.data[at : at + self.size])
            await world.settle()
            if self.every_s:
                await world.wait(self.every_s)


@dataclass(frozen=True)
class HalfClose(Step):
    client: int = 0

    async def play(self, world: World) -> None:
        world.peers[self.client].end()


@dataclass(frozen=True)
class Reset(Step):
    client: int = 0

    async def play(self, world: World) -> None:
        await world.settle()
        peer = world.peers[self.client]
        peer.has_reset = True
        peer.reset()


@dataclass(frozen=True)
class Gets(Step):
    """The client gets exactly this, now; in memory it gets nothing beyond."""

    data: bytes
    client: int = 0

    async def play(self, world: World) -> None:
        peer = world.peers[self.client]
        peer.expected += self.data
        await world.receive(peer)
        if world.in_memory or not join_chunks(peer.received).startswith(join_chunks(peer.expected)):
            check_same(peer.received, peer.expected)


@dataclass(frozen=True)
class GetsLast(Step):
    """The same, and its end may say `connection: close`: the server has perhaps read the end of the input by then."""

    data: bytes
    client: int = 0

    async def play(self, world: World) -> None:
        peer = world.peers[self.client]
        peer.expected += self.data
        peer.may_say_close = True
        await world.receive(peer)
        if world.in_memory:
            check_same(peer.heard, peer.expected)


@dataclass(frozen=True)
class GetsPart(Step):
    """The client gets some of this, perhaps nothing, before its connection is cut."""

    data: bytes
    client: int = 0

    async def play(self, world: World) -> None:
        peer = world.peers[self.client]
        peer.expected += self.data
        peer.may_be_cut = True


@dataclass(frozen=True)
class Takes(Step):
    """The client reads so many of the bytes that `GetsPart` or a later `Gets` names."""

    count: int
    client: int = 0

    async def play(self, world: World) -> None:
        await world.take(world.peers[self.client], self.count)


@dataclass(frozen=True)
class Widen(Step):
    window_bytes: int = WIDE
    client: int = 0

    async def play(self, world: World) -> None:
        world.peers[self.client].widen(self.window_bytes)


@dataclass(frozen=True)
class StillOpen(Step):
    """The server has not ended its side; in memory."""

    client: int = 0

    async def play(self, world: World) -> None:
        await world.settle()
        assert not (world.in_memory and world.peers[self.client].sees_end)


@dataclass(frozen=True)
class SeesEnd(Step):
    """The server has ended its side in order."""

    client: int = 0

    async def play(self, world: World) -> None:
        peer = world.peers[self.client]
        await world.receive_end(peer)
        assert peer.sees_end
        assert not peer.sees_reset


@dataclass(frozen=True)
class Leaves(Step):
    """The client closes its side, later than with its request; in memory, where time passes at once."""

    client: int = 0

    async def play(self, world: World) -> None:
        await world.wait(1)
        world.peers[self.client].end()


@dataclass(frozen=True)
class Wait(Step):
    seconds: float

    async def play(self, world: World) -> None:
        await world.wait(self.seconds)


@dataclass(frozen=True)
class Connect(Step):
    window_bytes: int = WIDE

    async def play(self, world: World) -> None:
        await world.connect(self.window_bytes)


@dataclass(frozen=True)
class CannotConnect(Step):
    async def play(self, world: World) -> None:
        with pytest.raises(ConnectionRefusedError):
            await world.connect(WIDE)


@dataclass(frozen=True)
class Drain(Step):
    async def play(self, world: World) -> None:
        await world.settle()
        world.begin_drain()
        await world.see("begin_drain", 1)


@dataclass(frozen=True)
class Stop(Step):
    async def play(self, world: World) -> None:
        await world.settle()
        world.stop()
        await world.settle()


@dataclass(frozen=True)
class Called(Step):
    """The held handler was called so often."""

    times: int

    async def play(self, world: World) -> None:
        await world.settle()
        if not world.in_memory:
            world.stage.wait_for_arrivals(self.times)
        assert world.stage.arrived == self.times


@dataclass(frozen=True)
class Asked(Step):
    """So many requests have asked for a worker."""

    times: int

    async def play(self, world: World) -> None:
        await world.see("request_ready", self.times)


@dataclass(frozen=True)
class Accepted(Step):
    """So many connections were accepted."""

    connections: int

    async def play(self, world: World) -> None:
        await world.see("connection_opened", self.connections)


@dataclass(frozen=True)
class Collected(Step):
    """So much of a body is kept for its handler, in memory or not."""

    size: int

    async def play(self, world: World) -> None:
        await world.see("collected", self.size)


@dataclass(frozen=True)
class Gone(Step):
    """So many connections are over for the server."""

    connections: int

    async def play(self, world: World) -> None:
        await world.see("connection_gone", self.connections)


@dataclass(frozen=True)
class Release(Step):
    async def play(self, world: World) -> None:
        await world.settle()
        world.stage.release()
