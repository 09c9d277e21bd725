"""Sockets as trio knows them: waiting for a descriptor, and an end to that when it is closed, in a world without any.

A wait ends when the stream behind the descriptor is ready, or for no reason at all if the run has that fault.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias
from unittest import mock

import outcome
import trio
from h1core.drivers import trio_driver

from h1core.testing.network import READ, WRITE

from .invariants import Invariant, violated
from .network import SimListener, SimStream

if TYPE_CHECKING:
    from .world import World

Awaited: TypeAlias = "int | SimListener"
"""Descriptors are waited for by their number, listeners as what they are."""


class SimSockets:
    """Who waits for which descriptor."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[tuple[int, int], trio.lowlevel.Task] = {}

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Let the driver find these sockets where it looks for the system's."""
        kinds = SimpleNamespace(socket=(socket.socket, SimListener))
        with (
            mock.patch.object(trio_driver, "socket", kinds),
            mock.patch.object(trio.lowlevel, "wait_readable", self.wait_readable),
            mock.patch.object(trio.lowlevel, "wait_writable", self.wait_writable),
            mock.patch.object(trio.lowlevel, "notify_closing", self.notify_closing),
        ):
            yield

    # What trio has

    async def wait_readable(self, what: Awaited) -> None:
        await self._wait(what, READ)

    async def wait_writable(self, what: Awaited) -> None:
        await self._wait(what, WRITE)

    def notify_closing(self, what: Awaited) -> None:
        for event in (READ, WRITE):
            self._wake(self._number(what), event, outcome.Error(trio.ClosedResourceError()))

    async def _wait(self, what: Awaited, event: int) -> None:
        if self._of(what).ready & event or self._is_spurious():
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

    def _is_spurious(self) -> bool:
        rate = self._world.faults.get("spurious_ready")
        return rate is not None and self._world.dice.network.random() < rate

    # What happens

    def changed(self, what: SimStream | SimListener) -> None:
        """A client did something, or wants to be accepted."""
        for event in (READ, WRITE):
            if what.ready & event:
                self._wake(what.fileno(), event, outcome.Value(None))

    def _wake(self, number: int, event: int, result: outcome.Outcome[Any]) -> None:
        task = self._waiting.pop((number, event), None)
        if task is not None:
            trio.lowlevel.reschedule(task, result)

    def _number(self, what: Awaited) -> int:
        return what if isinstance(what, int) else what.fileno()

    def _of(self, what: Awaited) -> SimStream | SimListener:
        if isinstance(what, SimListener):
            return what
        stream = self._world.network.streams[what]
        if stream.is_closed:
            violated(Invariant.SLOTS, "a descriptor is waited for that was closed", stream.lane)
        return stream
