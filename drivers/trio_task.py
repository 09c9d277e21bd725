"""A task of a connection on trio: until when it is the connection's, and what it must not let out.

Theory
------
A handler runs in its connection's task, because a task for each request would cost more than the request. But a handler
may go on after its response, to send a mail, say, and no later request shall wait for that. So a task is run in steps,
from one wait to the next, and when it is about to wait, a handler that streams is told (`Waiter`). If its response has
been written, the connection leaves the task to it, and goes on in another (`Connection.go_on`). Who never waits after
its response pays nothing for that, and everybody one generator for each time that they wait.

A task in which a handler has left a context variable is not used for another request either, which may be another
user's.
"""

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from math import inf
from types import coroutine
from typing import Any, Final, Protocol

import trio


class Waiter(Protocol):
    """Who wants to know when the task waits."""

    def begin_wait(self) -> None:
        """The task is about to wait."""
        ...

    def end_wait(self) -> None:
        """The task goes on."""
        ...


class Task:
    """One task of a connection."""

    __slots__ = ("scope", "waiter")

    def __init__(self) -> None:
        self.scope: Final = trio.CancelScope()
        self.waiter: Waiter | None = None
        """The request that is in the hands of a handler that streams."""

    @coroutine
    def run(self, steps: Coroutine[Any, Any, bool]) -> Generator[Any, Any, bool]:
        """Run a coroutine step by step; what it returns."""
        step: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                trap = step(value)
            except StopIteration as end:
                return bool(end.value)
            waiter = self.waiter
            if waiter is not None:
                waiter.begin_wait()
            try:
                value = yield trap
                step = steps.send
            except BaseException as error:  # noqa: BLE001 - what trio throws at who awaits what is not trio's
                step, value = steps.throw, error
            if waiter is not None:
                waiter.end_wait()


def has_changed(context: Context) -> bool:
    """Whether context variables have other values than they had in `context`. In constant time when none was set."""
    try:
        return copy_context() != context
    except Exception:  # noqa: BLE001 - of two values that cannot be compared
        return True


def split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What of an error is for the server, and what is a failure of its own.

    A Cancelled is for the server only while that is being cancelled. An async generator that yields within a cancel
    scope lets its scope cancel whoever takes its pieces, and that is nobody else's.
    """
    group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
    cancelled, rest = group.split(trio.Cancelled)
    interrupts, failure = rest.split(KeyboardInterrupt) if rest is not None else (None, None)
    if cancelled is not None and trio.current_effective_deadline() != -inf:
        cancelled, failure = None, failure or cancelled
    passes = interrupts or cancelled
    if passes is not None and group is not error:
        return error, failure
    return passes, failure
