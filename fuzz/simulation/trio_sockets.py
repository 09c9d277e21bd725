"""Sockets as trio knows them: waiting for a descriptor, and an end to that when it is closed, in a world without any.

A wait ends when the stream behind the descriptor is ready, or for no reason at all if the run has that fault. In some
runs there is an epoll, too, which tells of bytes once: when they come, and never again because they still lie there.
"""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias

import outcome
import trio
from h1core.drivers import trio_driver, trio_poller

from h1core.testing.network import READ, WRITE

from .invariants import Invariant, violated
from .network import SimListener, SimStream
from .swaps import Swap

if TYPE_CHECKING:
    from .world import World

Awaited: TypeAlias = "int | SimListener | SimEpoll"
"""Descriptors are waited for by their number, listeners as what they are."""

EPOLL_FD = 1 << 21


class SimEpoll:
    """An epoll for what can be read, edge-triggered."""

    def __init__(self, sockets: SimSockets) -> None:
        self._sockets = sockets
        self._known: dict[int, tuple[int, bool, bool]] = {}
        """How far each stream had come when it was told of last."""
        self._edges: dict[int, None] = {}

    def fileno(self) -> int:
        return EPOLL_FD

    def close(self) -> None:
        self._known.clear()
        self._edges.clear()

    def register(self, fd: int, events: int) -> None:
        if fd in self._known:
            raise FileExistsError(errno.EEXIST, "it is registered")
        if self._sockets.chance("broken_calls"):
            raise OSError(errno.ENOSPC, "nothing more can be registered")
        stream = self._sockets.stream(fd)
        self._known[fd] = how_far(stream)
        if stream.ready & READ:
            self._tell(fd)

    def unregister(self, fd: int) -> None:
        del self._known[fd]
        self._edges.pop(fd, None)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """What has come since the last time."""
        fds = list(self._edges)
        self._edges.clear()
        self._sockets.shuffle(fds)
        return [(fd, trio_poller.ENDS if self._known[fd][1] or self._known[fd][2] else 0) for fd in fds]

    @property
    def ready(self) -> int:
        return READ if self._edges else 0

    def see(self, stream: SimStream) -> None:
        """Tell of a stream, if something has come on it."""
        fd = stream.fileno()
        if fd in self._known and self._known[fd] != how_far(stream):
            self._known[fd] = how_far(stream)
            self._tell(fd)

    def tell_again(self, stream: SimStream) -> None:
        """A read was in vain, or came back short, although there was more: in truth the rest comes only now."""
        if stream.fileno() in self._known:
            self._tell(stream.fileno())

    def _tell(self, fd: int) -> None:
        self._edges[fd] = None
        self._sockets.changed(self)


def how_far(stream: SimStream) -> tuple[int, bool, bool]:
    put_bytes = stream.peer.put_bytes if stream.peer is not None else 0
    return put_bytes, stream.input_ended, stream.is_reset


class SimSockets:
    """Who waits for which descriptor."""

    def __init__(self, world: World, *, has_epoll: bool) -> None:
        self._world = world
        self._has_epoll = has_epoll
        self._epoll: SimEpoll | None = None
        self._waiting: dict[tuple[int, int], trio.lowlevel.Task] = {}

    def swaps(self) -> tuple[Swap, ...]:
        """What lets the driver find these sockets where it looks for the system's."""
        return (
            (trio_driver, "socket", SimpleNamespace(socket=(socket.socket, SimListener))),
            (trio_poller, "select", SimpleNamespace(epoll=self._make_epoll)),
            (trio_poller.Poller, "is_available", self._has_epoll),
            (trio.lowlevel, "wait_readable", self.wait_readable),
            (trio.lowlevel, "wait_writable", self.wait_writable),
            (trio.lowlevel, "notify_closing", self.notify_closing),
        )

    def _make_epoll(self) -> SimEpoll:
        self._epoll = SimEpoll(self)
        return self._epoll

    # What trio has

    async def wait_readable(self, what: Awaited) -> None:
        await self._wait(what, READ)

    async def wait_writable(self, what: Awaited) -> None:
        await self._wait(what, WRITE)

    def notify_closing(self, what: Awaited) -> None:
        for event in (READ, WRITE):
            task = self._waiting.pop((self._number(what), event), None)
            if task is not None:
                trio.lowlevel.reschedule(task, outcome.Error(trio.ClosedResourceError()))

    async def _wait(self, what: Awaited, event: int) -> None:
        if self._of(what).ready & event or self.chance("spurious_ready"):
            self._world.progressed()
            await trio.lowlevel.checkpoint()
            return
        key = self._number(what), event
        if key in self._waiting:
            raise trio.BusyResourceError("another task is waiting")
        self._waiting[key] = trio.lowlevel.current_task()

        def give_up(raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiting[key]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def chance(self, fault: str) -> bool:
        rate = self._world.faults.get(fault)
        return rate is not None and self._world.dice.network.random() < rate

    def shuffle(self, fds: list[int]) -> None:
        if len(fds) > 1:
            self._world.dice.network.shuffle(fds)

    # What happens

    def cut_short(self, stream: SimStream) -> None:
        """A read was in vain although there was something, or left some of it."""
        epoll = self._epoll
        if epoll is not None:
            self._world.after(0.0, lambda: epoll.tell_again(stream))

    def changed(self, what: SimStream | SimListener | SimEpoll) -> None:
        """A client did something, or wants to be accepted."""
        if self._epoll is not None and isinstance(what, SimStream):
            self._epoll.see(what)
        ready, number = what.ready, what.fileno()
        for event in (READ, WRITE):
            if ready & event and (task := self._waiting.pop((number, event), None)) is not None:
                trio.lowlevel.reschedule(task)

    def _number(self, what: Awaited) -> int:
        return what if isinstance(what, int) else what.fileno()

    def _of(self, what: Awaited) -> SimStream | SimListener | SimEpoll:
        return self.stream(what) if isinstance(what, int) else what

    def stream(self, fd: int) -> SimStream:
        stream = self._world.network.streams[fd]
        if stream.is_closed:
            violated(Invariant.SLOTS, "a descriptor is waited for that was closed", stream.lane)
        return stream
