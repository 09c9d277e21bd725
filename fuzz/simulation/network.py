"""The network in memory, with what goes wrong on a real one."""

from __future__ import annotations

import errno
from math import inf
from typing import TYPE_CHECKING, Any, Final

from h1core.drivers.engine.responding import HALF_CLOSE_S

from h1core.testing import MemoryClient, MemoryListener, MemoryNetwork, MemorySelector
from h1core.testing.network import READ, WRITE, MemoryKey, _Stream

from .invariants import Invariant, violated

if TYPE_CHECKING:
    from .peers import Peer
    from .watched import WatchedConn
    from .world import World

LOSSES = (errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EPIPE)


class SimStream(_Stream):
    """The server's end of a connection: records everything, and misbehaves as the faults of the run have it."""

    def __init__(self, world: World, fd: int, window_bytes: int) -> None:
        super().__init__(fd, window_bytes)
        self.world = world
        self.peer: Peer | None = None
        self.lane = -1
        self.consumed = bytearray()
        """What the server has read."""
        self.reads = 0
        """In how many pieces, and their end."""
        self.end_seen = False
        self.end_seen_at = inf
        self.unread_since = inf
        """Since when there is something to read that the server has not tried to read."""
        self.loss_seen = False
        self.has_fin = False
        """The server has ended its side in order."""
        self.was_accepted = False
        self.is_read_ahead = False
        """Somebody stands between this stream and the engine, and says by `tell_read` what that has read."""
        self.conn: WatchedConn | None = None

    def recv(self, size: int, /) -> bytes:
        world = self.world
        self.unread_since = inf
        self._disturb()
        if self.is_reset and not self.is_closed:
            self.loss_seen = True
            world.progressed()
            raise OSError(LOSSES[self.lane % len(LOSSES)], "the connection broke")
        short = world.faults.get("short_reads")
        if short is not None and self.inbox and world.dice.network.random() < short:
            size = min(size, 1 + world.dice.network.below(world.dice.network.pick((1, 20, 500))))
            if size < len(self.inbox):
                world.driver.cut_short(self)
        data = super().recv(size)
        if not self.is_read_ahead:
            self.tell_read(data)
        world.progressed()
        return data

    def tell_read(self, data: bytes) -> None:
        """The engine has read something, or the end."""
        self.reads += 1
        if data:
            self.consumed += data
        else:
            self.end_seen = True
            self.end_seen_at = min(self.end_seen_at, self.world.clock.now)
        self.world.trace.note(self.lane, "server", "reads", data)

    def has_left(self, asked_at: float) -> bool:
        """Whether the server knows that the peer closed its side later than with its request."""
        return asked_at + HALF_CLOSE_S < self.end_seen_at < inf

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        world = self.world
        if self.output_ended and not self.is_closed:
            violated(Invariant.IN_ORDER, f"{len(data)} bytes are written behind the FIN", self.lane)
        if not data:
            violated(Invariant.NO_SPIN, "nothing is written, at some length", self.lane)
        self._disturb()
        if self.is_reset and not self.is_closed:
            self.loss_seen = True
            world.progressed()
            raise OSError(LOSSES[self.lane % len(LOSSES)], "the connection broke")
        short = world.faults.get("short_writes")
        if short is not None and world.dice.network.random() < short:
            data = data[: 1 + world.dice.network.below(world.dice.network.pick((1, 100, 5000)))]
        sent = super().send(data)
        world.progressed()
        world.trace.note(self.lane, "server", "writes", bytes(data[:sent]))
        self._tell()
        return sent

    def _disturb(self) -> None:
        """Let a call be in vain, as the system may."""
        rate = self.world.faults.get("interrupted")
        if rate is not None and not self.is_closed and self.world.dice.network.random() < rate:
            self.world.progressed()
            self.world.driver.cut_short(self)
            raise InterruptedError if self.world.dice.network.chance(0.5) else BlockingIOError

    def _break_call(self) -> None:
        rate = self.world.faults.get("broken_calls")
        if rate is not None and self.world.dice.network.random() < rate:
            raise OSError(errno.ENOTCONN, "the peer has gone first")

    def _tell(self) -> None:
        if self.peer is not None:
            self.peer.hear()

    def shutdown(self, how: int, /) -> None:
        if self.output_ended:
            violated(Invariant.IN_ORDER, "the writing side is shut down twice", self.lane)
        super().shutdown(how)
        self.has_fin = True
        self.world.progressed()
        self.world.trace.note(self.lane, "server", "ends its side")
        self._tell()
        self._break_call()

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        super().setsockopt(level, option, value)
        self._break_call()

    def close(self) -> None:
        if self.is_closed:
            violated(Invariant.SLOTS, "a transport is closed twice", self.lane)
        if not self.output_ended and not self.resets_on_close and not self.is_reset:
            self.has_fin = True
        super().close()
        self.world.progressed()
        self.world.trace.note(self.lane, "server", "resets" if self.resets_on_close else "closes")
        self.world.closed(self)
        self._tell()
        if self.was_accepted:
            self._break_call()


class SimListener(MemoryListener):
    """A listener whose accepting fails when the seed says."""

    world: World

    def accept(self) -> tuple[_Stream, tuple[str, int]]:
        stream = self.take()
        self.world.accepted(stream)
        return stream, ("127.0.0.1", 40000 + stream.fileno() % 20000)

    def take(self) -> SimStream:
        """Accept a connection of which the engine will be told later."""
        self.world.progressed()
        stream, _ = super().accept()
        assert isinstance(stream, SimStream)
        return stream


def stream_of(client: MemoryClient) -> SimStream:
    stream = client._stream
    assert isinstance(stream, SimStream)
    return stream


class SimNetwork(MemoryNetwork):
    """Makes streams of ours."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self.world = world
        self.streams: dict[int, SimStream] = {}
        """By their descriptors, which are not given out again."""

    def listen(self) -> SimListener:
        listener = SimListener(self, self.next_fd())
        listener.world = self.world
        return listener

    def make_stream(self, window_bytes: int) -> SimStream:
        fd = self.next_fd()
        stream = self.streams[fd] = SimStream(self.world, fd, window_bytes)
        return stream


class SimWake:
    """The channel by which others wake the loop: no descriptor, for there is one thread."""

    def __init__(self) -> None:
        self.ready = 0
        self.is_closed = False

    def fileno(self) -> int:
        return -1 if self.is_closed else 1 << 20

    def wake(self) -> None:
        self.ready = READ

    def clear(self) -> None:
        self.ready = 0

    def close(self) -> None:
        self.is_closed = True


class SimSelector(MemorySelector):
    """Where the loop sleeps, and so where everybody else does something."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._world = world
        self.left = 0
        """How much was still registered in the end."""

    def close(self) -> None:
        self.left = self.watched
        super().close()

    def _look(self) -> None:
        """Let the world see that all is in order."""
        self._world.see_step()

    def _tell(self) -> None:
        """Call for another round: what is ready now may still be so after this one."""
        self.on_event()

    def select(self, timeout: float | None = None) -> list[tuple[MemoryKey, int]]:
        world, clock = self._world, self._world.clock
        self._look()
        until = inf if timeout is None else clock.now + max(0.0, timeout)
        while True:
            world.run_due()
            ready = [(key, events) for key in self._keys.values() if (events := key.fileobj.ready & key.events)]
            if ready:
                self._disorder(ready)
                self._tell()
                return ready
            if timeout is not None and timeout <= 0:
                return ready
            if world.is_woken_early():
                return []
            next_at = world.next_at
            world.see_sleep(min(until, next_at), until)
            if next_at <= until:
                clock.now = max(clock.now, next_at)
                continue
            clock.now = max(clock.now, until) + world.lateness()
            world.be_paused()
            world.woke_for_deadline()
            return []

    def _disorder(self, ready: list[tuple[MemoryKey, int]]) -> None:
        """Shuffle what is ready, and perhaps tell of something that is not."""
        world = self._world
        dice = world.dice.network
        if len(ready) > 1:
            dice.shuffle(ready)
        rate = world.faults.get("spurious_ready")
        if rate is not None and dice.random() < rate:
            others = [key for key in self._keys.values() if isinstance(key.fileobj, SimStream)]
            if others:
                key = dice.pick(others)
                if all(key is not other for other, _ in ready):
                    ready.append((key, key.events & dice.pick((READ, WRITE, READ | WRITE)) or key.events))
                    world.progressed()


class SimDescriptorSelector(SimSelector):
    """The same with a descriptor for an event loop to wait for: nobody is called, who waits is told in each turn."""

    DESCRIPTOR: Final = 1 << 21
    """No number of the system's."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        del self.on_event

    def _tell(self) -> None:
        pass

    def fileno(self) -> int:
        return self.DESCRIPTOR
