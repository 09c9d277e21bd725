"""Worker threads, and what passes between them and the engine.

Theory
------
A worker gets a `Job`: a whole request, and the handler. It never sees a session or a socket. What it has to say it
writes into the job, and posts the job to the engine, which looks how far it is. To post a job twice, or to look late,
is harmless. Only the pieces of a streamed body need a lock (response_body.py): a worker waits there for its client.

One wake-up is pending at most. `post` adds the job, then sets `_is_posted`, and wakes the engine only if it was not
set; `take_posted` clears it before it takes the jobs. A job that finds it set was added before that, and is taken.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from h1core.app.handler import FileBody, Handler, WholeBody, WritingHandler
from h1core.events import Request, Response

from .response_body import BodySource, FileSource, WorkerSource
from .responses import close_quietly, release, run_handler


class Work(NamedTuple):
    """What all jobs of a server have in common."""

    handler: Handler
    is_stale: Callable[[float], bool]
    """Whether a request that was ready at an instant has waited too long."""
    max_bytes: int
    """How far a streamed body may be ahead of its client."""
    post: "Callable[[Job], None]"


class Job:
    """One request on its way through a worker. `owner` is the engine's own, and never looked at here."""

    __slots__ = (
        *"first is_counted is_over owner request source".split(),
        *"_is_wanted _ready_at _work _written".split(),
    )

    def __init__(self, owner: object, request: Request, ready_at: float, work: Work) -> None:
        self.owner = owner
        self.request = request
        self._ready_at = ready_at
        self._work = work
        self._is_wanted = True
        self._written: WorkerSource | None = None  # by the handler, before it returns
        self.first: Response | None = None
        """What to send first; None while the handler runs, and for good when the request was stale."""
        self.source: BodySource | None = None
        """The rest of the body, when it is streamed."""
        self.is_over = False
        """The worker is through."""
        self.is_counted = False
        """The engine has taken note that the worker is through: it may see the same job several times."""

    def run(self) -> None:
        """Do the work, in a worker, unless nobody waits for it or it has waited too long. Never raises."""
        if self._is_wanted and not self._work.is_stale(self._ready_at):
            self._run_handler()
        release(self.request)
        self.is_over = True
        self._work.post(self)

    def abandon(self) -> None:
        """Nobody waits for the response any more; in the engine. A worker that waits for its client is released.

        Never raises.
        """
        self._is_wanted = False
        if self.source is not None:
            self.source.close()

    def _run_handler(self) -> None:
        handler = self._run_writing if isinstance(self._work.handler, WritingHandler) else self._work.handler
        first, pieces, taken = run_handler(handler, self.request, BaseException)
        if self._written is not None:
            return
        if pieces is None:
            self.first = first
        elif type(pieces) is WholeBody:
            self.first = first
            self._work.post(self)
            close_quietly(pieces, BaseException)
        elif type(pieces) is FileBody:
            self._begin(first, FileSource(pieces))
        else:
            source = WorkerSource(self._work.max_bytes, lambda: self._work.post(self))
            self._begin(first, source)
            self._work.post(self)
            source.feed(pieces, taken)

    def _run_writing(self, request: Request) -> Response:
        """Run a handler that may write before it returns. If it does, its response is passed on here to its end."""
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
        return Response(200)  # for nobody: all was said

    def begin(self, response: Response) -> None:
        """Say how a response begins that is written; see `ResponseWriter`. The first piece posts it."""
        self._written = WorkerSource(self._work.max_bytes, lambda: self._work.post(self))
        self._begin(response, self._written)

    def write(self, data: bytes) -> None:
        """Pass a piece on that is written; see `ResponseWriter`."""
        assert self._written is not None
        self._written.put(data)

    def _begin(self, first: Response, source: BodySource) -> None:
        """Let the engine see how a streamed response begins."""
        self.source = source
        if not self._is_wanted:  # looked at after `source` was set, as `abandon` does it the other way round
            source.close()
        self.first = first


def _raise(error: BaseException) -> Iterator[bytes]:
    """Pieces of which already the first one fails."""
    yield from ()
    raise error


class Workers(Protocol):
    """What the engine needs of a pool; tests have one that runs jobs when they say so."""

    def submit(self, job: Job) -> None:
        """Let a worker run a job, in the order of submission."""

    def post(self, job: Job) -> None:
        """Let the engine look at a job; called by workers."""

    def take_posted(self) -> list[Job]:
        """The jobs to look at, in the order in which they were posted."""

    def close(self) -> None:
        """Let workers end as soon as they are free; nobody waits for them."""


class Pool:
    """Threads that run jobs. They are daemons: one that a handler never gives back does not keep the process."""

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
        while (job := self._jobs.get()) is not None:
            job.run()

    def submit(self, job: Job) -> None:
        """Let a worker run a job, in the order of submission."""
        self._jobs.put(job)

    def post(self, job: Job) -> None:
        """Let the engine look at a job; called by workers."""
        self._posted.append(job)
        if not self._is_posted:
            self._is_posted = True
            self._wake()

    def take_posted(self) -> list[Job]:
        """The jobs to look at, in the order in which they were posted."""
        self._is_posted = False
        jobs = []
        while self._posted:
            jobs.append(self._posted.popleft())
        return jobs

    def close(self) -> None:
        """Let workers end as soon as they are free; nobody waits for them."""
        with contextlib.suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                release(job.request)  # nobody waits for these any more
        for _ in self._threads:
            self._jobs.put(None)
