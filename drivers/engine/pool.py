"""Worker threads, and the jobs that they exchange with the engine.

Theory
------
A worker gets a `Job`: a whole request, and the handler. It never sees a session or a socket. It writes its results into
the job, and posts the job to the engine, which checks the job's state. To post a job twice, or to check it late, is
harmless. Only the pieces of a streamed body need a lock (worker_source.py): a worker may wait there for its client.

At most one wake-up is pending. `post` adds the job, then sets `_is_posted`, and wakes the engine only if it was not
set; `take_posted` clears it before it takes the jobs. So if `post` finds it set, `take_posted` will take that job.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from h1core.app.handler import FileBody, Handler, WholeBody, WritingHandler
from h1core.events import Request, Response

from .response_body import BodySource, FileSource
from .responses import close_quietly, release, run_handler
from .worker_source import WorkerSource


class Work(NamedTuple):
    """What all jobs of a server have in common."""

    handler: Handler
    is_stale: Callable[[float], bool]
    """Whether a request that was ready at an instant has waited too long."""
    max_memory_bytes: int
    """How many bytes of a streamed body may wait for the client in memory."""
    max_spooled_bytes: int
    """How many more of them in a file."""
    post: "Callable[[Job], None]"
    context: Context
    """Each request runs in a copy of it, so that no variable passes from one client's request to another's."""


class Job:
    """One request for a worker. `owner` belongs to the engine, and is never used here."""

    __slots__ = (
        *"first is_counted is_over owner request source worker".split(),
        *"_is_wanted _ready_at _unclaimed _work _written".split(),
    )

    def __init__(self, owner: object, request: Request, ready_at: float, work: Work) -> None:
        self.owner = owner
        self.request = request
        self._ready_at = ready_at
        self._work = work
        self._is_wanted = True
        self._unclaimed = {"job": True}
        self.worker = ""
        """The name of the thread that has the job, once one has."""
        self._written: WorkerSource | None = None  # if the handler writes before it returns
        self.first: Response | None = None
        """What to send first; None while the handler runs, and always when the request was stale."""
        self.source: BodySource | None = None
        """The rest of the body, when it is streamed."""
        self.is_over = False
        """The worker has finished."""
        self.is_counted = False
        """The engine has counted that the worker has finished: it may see the same job several times."""

    def run(self) -> None:
        """Run the handler, in a worker, unless the request was abandoned or is stale. Never raises."""
        if self._is_wanted and not self._work.is_stale(self._ready_at) and self.claim():
            self._work.context.copy().run(self._run_handler)
        release(self.request)
        self.is_over = True
        self._work.post(self)

    def claim(self) -> bool:
        """Take the right to run the handler or to reject the request; return whether it was free. From any thread."""
        return self._unclaimed.pop("job", False)  # atomic

    @property
    def is_waiting(self) -> bool:
        """Whether `claim` is still free."""
        return bool(self._unclaimed)

    def abandon(self) -> None:
        """Drop the response; the engine calls this. Releases a worker that waits for the client. Never raises."""
        self._is_wanted = False
        if self.source is not None:
            self.source.close()

    def _run_handler(self) -> None:
        handler = self._run_writing if isinstance(self._work.handler, WritingHandler) else self._work.handler
        first, pieces, taken = run_handler(handler, self.request, in_worker=True)
        if self._written is not None:
            return
        if pieces is None:
            self.first = first
        elif type(pieces) is WholeBody:
            self.first = first
            self._work.post(self)
            close_quietly(pieces, in_worker=True)
        elif type(pieces) is FileBody:
            self._begin(first, FileSource(pieces))
        else:
            source = self._new_source()
            self._begin(first, source)
            self._work.post(self)
            source.feed(pieces, taken)

    def _run_writing(self, request: Request) -> Response:
        """Run a handler that may write before it returns. If it does, pass on its whole response here."""
        assert isinstance(self._work.handler, WritingHandler)
        try:
            response = self._work.handler(request, self)
        except BaseException as error:
            if self._written is None:
                raise
            self._written.feed(_raise(error))
        else:
            if self._written is None:
                return response
            assert isinstance(response.body, Iterator)
            self._written.feed(response.body)
        return Response(200)  # not used: the response was passed on

    def begin(self, response: Response) -> None:
        """Begin a response that the handler writes; see `ResponseWriter`. The first piece posts the job."""
        self._written = self._new_source()
        self._begin(response, self._written)

    def write(self, data: bytes) -> None:
        """Pass on a piece that the handler writes; see `ResponseWriter`."""
        assert self._written is not None
        self._written.put(data)

    def _new_source(self) -> WorkerSource:
        work = self._work
        return WorkerSource(self, work.max_memory_bytes, work.max_spooled_bytes, work.post)

    def _begin(self, first: Response, source: BodySource) -> None:
        """Give the engine the beginning and the source of a streamed response."""
        self.source = source
        if not self._is_wanted:  # `source` first, then this check; `abandon` does both in reverse
            source.close()
        self.first = first


def _raise(error: BaseException) -> Iterator[bytes]:
    """An iterator of pieces that raises at the first one."""
    yield from ()
    raise error


class Workers(Protocol):
    """What the engine needs of a pool; tests have one that runs jobs on command."""

    def submit(self, job: Job) -> None:
        """Queue a job for the workers, first in, first out."""

    def post(self, job: Job) -> None:
        """Ask the engine to check a job; called by workers."""

    def take_posted(self) -> list[Job]:
        """Return the jobs that were posted, oldest first."""

    def close(self) -> None:
        """End the workers as soon as they are free, without waiting for them."""


class Pool:
    """Threads that run jobs. They are daemons: a handler that never returns does not keep the process alive."""

    def __init__(self, threads: int, wake: Callable[[], None]) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._posted: deque[Job] = deque()
        self._is_posted = False
        self._wake = wake
        self._threads = [
            threading.Thread(target=self._work, name=f"h1core-worker-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        name = threading.current_thread().name
        while (job := self._jobs.get()) is not None:
            job.worker = name
            job.run()

    def submit(self, job: Job) -> None:
        """Queue a job for the workers, first in, first out."""
        self._jobs.put(job)

    def post(self, job: Job) -> None:
        """Ask the engine to check a job; called by workers."""
        self._posted.append(job)
        if not self._is_posted:
            self._is_posted = True
            self._wake()

    def take_posted(self) -> list[Job]:
        """Return the jobs that were posted, oldest first."""
        self._is_posted = False
        jobs = []
        while self._posted:
            jobs.append(self._posted.popleft())
        return jobs

    def close(self) -> None:
        """End the workers as soon as they are free, without waiting for them."""
        with contextlib.suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                release(job.request)  # these will not run
        for _ in self._threads:
            self._jobs.put(None)
