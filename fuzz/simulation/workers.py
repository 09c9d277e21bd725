"""The pool of the readiness loop: the real one's posting and waking, with workers that go when the seed says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from h1core.drivers.engine.pool import Job, Pool
from h1core.drivers.engine.responses import release
from h1core.drivers.engine.session import Session

from h1core.testing.network import READ

from .fibers import Fiber
from .invariants import Invariant, violated

if TYPE_CHECKING:
    from .world import World


class SimCondition:
    """What `WorkerSource` waits on: a fiber waits by pausing, and is woken when the seed says."""

    pool: SimPool

    def __init__(self) -> None:
        self._waiting: Fiber | None = None

    def __enter__(self) -> bool:
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def wait(self) -> None:
        pool = self.pool
        fiber = pool.current
        if fiber is None:
            violated(Invariant.NOT_OVERLOOKED, "the loop waits for a worker, and the worker for the loop")
        self._waiting = fiber
        pool.pause()
        self._waiting = None

    def notify(self) -> None:
        fiber, self._waiting = self._waiting, None
        if fiber is not None:
            self.pool.resume_soon(fiber)

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits, and was not told to go on."""
        return self._waiting is not None


class SimThreading:
    """The part of `threading` that pool.py uses when it starts no thread."""

    Condition = SimCondition


class SimPool(Pool):
    """`submit` is the world's; `post` and `take_posted`, with their one pending wake-up, are the real ones."""

    def __init__(self, world: World, workers: int, wake: Callable[[], None]) -> None:
        super().__init__(0, wake)
        self._world = world
        self._free = workers
        self._queue: deque[Job] = deque()
        self._submitted: list[Job] = []
        self.fibers: list[Fiber] = []
        self.current: Fiber | None = None
        self.is_closed = False

    # The loop's side

    def submit(self, job: Job) -> None:
        self._submitted.append(job)
        self._queue.append(job)
        self._world.progressed()
        self._hire()

    def close(self) -> None:
        self.is_closed = True
        while self._queue:
            release(self._queue.popleft().request)
        super().close()

    # The workers' side

    def _hire(self) -> None:
        """Let a free worker take the next job, a little later."""
        if self._free and self._queue:
            self._free -= 1
            self._world.after(self._world.lag(self._world.dice.pool), self._begin)

    def _begin(self) -> None:
        if not self._queue:
            self._free += 1
            return
        job = self._queue.popleft()
        if self._world.waits(job.request):
            fiber = Fiber(job.run)
            self.fibers.append(fiber)
            self._resume(fiber)
        else:
            job.run()
            self._done()

    def _done(self) -> None:
        self._free += 1
        self._hire()

    def _resume(self, fiber: Fiber) -> None:
        if fiber.is_over:
            return
        self.current = fiber
        try:
            is_over = fiber.resume()
        finally:
            self.current = None
        if is_over:
            self.fibers.remove(fiber)
            self._done()

    def resume_soon(self, fiber: Fiber) -> None:
        self._world.after(self._world.lag(self._world.dice.pool), lambda: self._resume(fiber))

    def pause(self) -> None:
        """In a fiber: wait until somebody resumes it."""
        fiber = self.current
        assert fiber is not None
        fiber.pause()
        self.current = fiber

    def sleep(self, seconds: float) -> None:
        """In a fiber: let time pass."""
        fiber = self.current
        assert fiber is not None
        self._world.after(seconds, lambda: self._resume(fiber))
        self.pause()

    # Questions

    def post(self, job: Job) -> None:
        self._world.progressed()
        self._world.touched[job.owner.conn] = None  # type: ignore[attr-defined]  # it is the engine's Session
        super().post(job)

    @property
    def has_unseen(self) -> bool:
        """Whether something was posted that the loop has not taken."""
        return bool(self._posted)

    @property
    def uncounted(self) -> int:
        """Requests that were admitted, and that the loop does not know to be over."""
        self._submitted = [job for job in self._submitted if not job.is_counted]
        return len(self._submitted)

    def see_queue(self, since: float) -> None:
        """No request has waited for a worker since then that is still to be answered."""
        for job in self._queue:
            session = job.owner
            assert isinstance(session, Session)
            if session.job is not job:
                continue
            if session.began_at < since:
                violated(Invariant.OWING, "a request waits for a worker longer than it may")
            stream = session.conn.stream  # type: ignore[attr-defined]  # it is a WatchedConn
            if stream.ready & READ and session.conn.wants_read:
                violated(Invariant.NOT_OVERLOOKED, "nobody sees whether a client waits for its turn, or has left")
            if stream.has_left(session.began_at):
                violated(Invariant.NOT_OVERLOOKED, "a request waits for a worker, and its client has left")

    def kill_all(self) -> None:
        for fiber in list(self.fibers):
            fiber.kill()
        self.fibers.clear()
