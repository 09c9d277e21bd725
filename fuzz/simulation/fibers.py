"""Threads that take turns: code that waits in the middle of a call, in a world where only one thing happens at a time.

A fiber runs while whoever resumed it waits, and the other way round, so the order is that of the calls and no scheduler
of the system's has a say. The threads are kept for later runs: to make one costs as much as to use it twenty times.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import ClassVar


class FiberKilled(BaseException):
    """Raised in a fiber that waits when the run is over."""


class _Thread:
    """A thread for one fiber after another."""

    idle: ClassVar[list["_Thread"]] = []

    def __init__(self) -> None:
        self.go = threading.Lock()
        self.back = threading.Lock()
        self.go.acquire()
        self.back.acquire()
        self.fiber: Fiber | None = None
        threading.Thread(target=self._work, name="fiber", daemon=True).start()

    def _work(self) -> None:
        while True:
            self.go.acquire()
            assert self.fiber is not None
            self.fiber.run()
            self.fiber = None
            self.back.release()


class Fiber:
    """One call that may `pause` in the middle; each `resume` lets it go on to its next pause, or its end."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._thread = _Thread.idle.pop() if _Thread.idle else _Thread()
        self._thread.fiber = self
        self.failure: BaseException | None = None
        self.is_over = False
        self.is_killed = False

    def run(self) -> None:
        """In the thread."""
        try:
            with contextlib.suppress(FiberKilled):
                self._call()
        except BaseException as error:  # noqa: BLE001 - raised again where it was resumed
            self.failure = error
        self.is_over = True

    def resume(self) -> bool:
        """Let it go on, and wait for it; whether it is over. Raises what it raised."""
        thread = self._thread
        thread.go.release()
        thread.back.acquire()
        if self.is_over:
            _Thread.idle.append(thread)
            if self.failure is not None:
                raise self.failure
        return self.is_over

    def pause(self) -> None:
        """In the thread: wait to be resumed."""
        thread = self._thread
        thread.back.release()
        thread.go.acquire()
        if self.is_killed:
            raise FiberKilled

    def kill(self) -> None:
        """Let it end, from wherever it waits."""
        self.is_killed = True
        while not self.is_over:
            self.resume()
