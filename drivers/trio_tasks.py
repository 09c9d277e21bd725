"""Tasks on trio for the trio driver: wake one, run a coroutine in steps, detect a changed context."""

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any

import trio


class TaskSignal:
    """A signal on trio; one task waits for it at a time."""

    __slots__ = ("_is_set", "_task")

    def __init__(self) -> None:
        self._is_set = False
        self._task: trio.lowlevel.Task | None = None

    def set(self) -> None:
        """Let `wait` return."""
        self._is_set = True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Return when the signal is set."""
        if self._is_set:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


@coroutine
def run_in_steps(steps: Coroutine[Any, Any, None], on_first_wait: Callable[[], None]) -> Generator[Any, Any, bool]:
    """Run a coroutine to its end; call `on_first_wait` when it first waits. Return whether it has waited."""
    step: Callable[[Any], Any] = steps.send
    value: Any = None
    has_waited = False
    while True:
        try:
            trap = step(value)
        except StopIteration:
            return has_waited
        if not has_waited:
            has_waited = True
            on_first_wait()
        try:
            value = yield trap
            step = steps.send
        except BaseException as error:  # noqa: BLE001 - the coroutine gets it
            step, value = steps.throw, error


def has_changed(context: Context) -> bool:
    """Whether context variables differ from those in `context`. In constant time when none was set."""
    try:
        return copy_context() != context
    except Exception:  # noqa: BLE001 - of two values that cannot be compared
        return True


def only_error(error: BaseException) -> BaseException:
    """The one exception in groups of one, from nurseries in which only one task fails."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
