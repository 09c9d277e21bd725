"""Fake worker threads: jobs run when a test calls `run_next`."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Runnable(Protocol):
    """The part of a job that is used here."""

    def run(self) -> None:
        """Do the work."""


JobT = TypeVar("JobT", bound=Runnable)


class FakeWorkers(Generic[JobT]):
    """Pass it to `Server(workers=...)`: requests that are ready wait in `jobs` until `run_next`.

    A job runs in the thread of the test, so one that streams must not have to wait for its client: keep its body below
    `max_output_bytes`, or use real threads. `on_submit` is called after a job was added to `jobs`.
    """

    def __init__(self, on_submit: Callable[[], object] = lambda: None) -> None:
        self.jobs: deque[JobT] = deque()
        self.is_closed = False
        self._on_submit = on_submit
        self._posted: deque[JobT] = deque()

    def submit(self, job: JobT) -> None:
        """Keep a job for later."""
        self.jobs.append(job)
        self._on_submit()

    def post(self, job: JobT) -> None:
        """Keep a job that has a result, or a piece of one, for the next tick."""
        self._posted.append(job)

    def take_posted(self) -> list[JobT]:
        """What was posted since the last call."""
        posted = list(self._posted)
        self._posted.clear()
        return posted

    def run_next(self) -> None:
        """Run the job that waits longest. Raises IndexError when none does."""
        self.jobs.popleft().run()

    def close(self) -> None:
        """Set `is_closed`: the server has ended."""
        self.is_closed = True
