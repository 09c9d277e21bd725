"""Worker threads that are none: jobs run when a test says so."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Runnable(Protocol):
    """A job, as far as it matters here."""

    def run(self) -> None:
        """Do the work."""


JobT = TypeVar("JobT", bound=Runnable)


class FakeWorkers(Generic[JobT]):
    """Give it to `Server(workers=...)`: requests that are ready wait in `jobs` until `run_next`.

    A job runs in the thread of the test, so one that streams must not have to wait for its client: keep its body below
    `max_output_bytes`, or use real threads. `on_submit` is called when a job has come to wait.
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
        """Keep what a job has to say for the next tick."""
        self._posted.append(job)

    def take_posted(self) -> list[JobT]:
        """What was posted since the last time."""
        posted = list(self._posted)
        self._posted.clear()
        return posted

    def run_next(self) -> None:
        """Run the job that waits longest. Raises IndexError when none does."""
        self.jobs.popleft().run()

    def close(self) -> None:
        """Take note that the server has ended."""
        self.is_closed = True
