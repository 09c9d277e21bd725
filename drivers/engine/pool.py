"""Worker threads, and what passes between them and the loop.

Theory
------
A worker gets a `Job`: a whole request, and the handler. It never sees a connection or a socket. Whatever it has to say
it writes into the job, and posts the job to the loop; the loop takes posted jobs in `take_posted`, and looks what is
new. A job may be posted more than once, and the loop may look later than it was posted: both are harmless, because the
job says how far it is.

Two things are shared, each in one direction: the queue of jobs, and the deque of posted ones; both take and give whole
objects, which needs no lock of ours. The third, the pieces of a streamed body, has a condition, because a worker waits
there while its client is behind.

One wake-up is pending at most. `post` sets `_is_posted` after it has added the job, and wakes the loop only if it was
not set; `take_posted` clears it before it takes the jobs. So a job that finds it set was added before the clearing, and
is taken by it.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple, Protocol

from h1core.app.handler import FileBody, Handler, WholeBody, WritingHandler
from h1core.errors import Disconnected
from h1core.events import FileSlice, Request, Response

from .responses import answer, close_quietly, release

logger = logging.getLogger("h1core.server")


class PieceEnd:
    """Not a piece of body: `PENDING` while there is none, `END` when there will be none."""


PENDING: Final = PieceEnd()
END: Final = PieceEnd()


class BodyFailed(Exception):
    """The application's body raised, in a worker; its cause says what."""


class Pieces(Protocol):
    """The rest of a response that is being streamed, seen by the loop."""

    is_lent: bool
    """A piece must be written before the next one is asked for."""

    def next_piece(self) -> bytes | FileSlice | PieceEnd:
        """The next piece, PENDING or END. Raises what the application raised."""
        ...

    def close(self) -> None:
        """No further piece is wanted. Never raises."""
        ...


class InlinePieces:
    """Pieces that the loop takes from the application itself."""

    __slots__ = ("_all", "_pieces", "_request")
    is_lent = False

    def __init__(self, pieces: Iterator[bytes], request: Request, lead: Sequence[bytes] = ()) -> None:
        self._pieces = pieces
        self._request = request
        self._all = chain(lead, pieces)

    def next_piece(self) -> bytes | PieceEnd:
        """The next piece, or END. Raises what the application raised."""
        return next(self._all, END)

    def close(self) -> None:
        """Let the application's iterator clean up. Never raises."""
        close_quietly(self._pieces)
        release(self._request)


class FilePieces:
    """One piece, which lies in a file: the loop sends it by reference, and no worker has to wait for that."""

    __slots__ = ("_body", "_is_taken")
    is_lent = True

    def __init__(self, body: FileBody) -> None:
        self._body = body
        self._is_taken = False

    def next_piece(self) -> FileSlice | PieceEnd:
        """The piece, then END."""
        if self._is_taken:
            return END
        self._is_taken = True
        return self._body.part

    def close(self) -> None:
        """Give the file back. Never raises."""
        close_quietly(self._body)


class WorkerPieces:
    """Pieces that a worker takes from the application, and the loop from here."""

    is_lent = False

    def __init__(self, max_bytes: int, post: Callable[[], None]) -> None:
        self._max_bytes = max_bytes
        self._post = post
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._end: PieceEnd = PENDING
        self._failure: BaseException | None = None
        self._is_wanted = True

    def feed(self, pieces: Iterator[bytes], lead: Sequence[bytes] = ()) -> None:
        """Pass the application's pieces on to their end, in the worker. Waits while the client is behind. Never raises.

        `lead` are those that were taken already. When the client is gone the iterator is closed, the worker free.
        """
        try:
            for piece in chain(lead, pieces):
                self.put(piece)
        except BaseException as error:  # noqa: BLE001 - kept for the loop, which says what to do about it
            if isinstance(error, Disconnected) and not self._is_wanted:
                logger.debug("a client went away in the middle of its response")
            else:
                self._failure = error
        close_quietly(pieces, BaseException)
        with self._changed:
            self._end = END
        self._post()

    def put(self, piece: bytes) -> None:
        """Hand a piece over, in the worker, or wait until there is room. Raises Disconnected."""
        size = len(piece)
        with self._changed:
            while self._waiting_bytes > self._max_bytes and self._is_wanted:
                self._changed.wait()
            if not self._is_wanted:
                raise Disconnected("the client is gone; what is left of the response cannot be delivered")
            if not size:
                return  # it says nothing, and without a size any number of them would find room
            was_empty = not self._waiting
            self._waiting.append(piece)
            self._waiting_bytes += size
        if was_empty:
            self._post()

    def next_piece(self) -> bytes | PieceEnd:
        """The next piece, PENDING or END, in the loop. Raises what the application raised."""
        with self._changed:
            if self._waiting:
                piece = self._waiting.popleft()
                self._waiting_bytes -= len(piece)
                self._changed.notify()
                return piece
            if self._end is END and self._failure is not None:
                raise BodyFailed from self._failure
            return self._end

    def close(self) -> None:
        """Release the worker, in the loop. Never raises."""
        with self._changed:
            self._is_wanted = False
            self._waiting.clear()
            self._changed.notify()


class Work(NamedTuple):
    """What all jobs of a server have in common."""

    handler: Handler
    is_stale: Callable[[float], bool]
    """Whether a request that was ready at an instant has waited too long."""
    max_bytes: int
    """How far a streamed body may be ahead of its client."""
    post: "Callable[[Job], None]"


class Job:
    """One request on its way through a worker. `owner` is the loop's own, and never looked at here."""

    __slots__ = (
        "_is_wanted",
        "_ready_at",
        "_work",
        "_written",
        "first",
        "is_counted",
        "is_over",
        "owner",
        "pieces",
        "request",
    )

    def __init__(self, owner: object, request: Request, ready_at: float, work: Work) -> None:
        self.owner = owner
        self.request = request
        self._ready_at = ready_at
        self._work = work
        self._is_wanted = True
        self._written: WorkerPieces | None = None  # by the handler, before it returns
        self.first: Response | None = None
        """What to send first; None while the handler runs, and for good when the request was stale."""
        self.pieces: Pieces | None = None
        """The rest of the body, when it is streamed."""
        self.is_over = False
        """The worker is through."""
        self.is_counted = False
        """The loop has taken note that the worker is through: it may see the same job several times."""

    def run(self) -> None:
        """Do the work, in a worker, unless nobody waits for it or it has waited too long. Never raises."""
        if self._is_wanted and not self._work.is_stale(self._ready_at):
            self._answer()
        release(self.request)
        self.is_over = True
        self._work.post(self)

    def abandon(self) -> None:
        """Nobody waits for the response any more; in the loop. A worker that has more to say than its first word is
        released, even if the loop is never asked to look again. Never raises.
        """
        self._is_wanted = False
        if self.pieces is not None:
            self.pieces.close()

    def _answer(self) -> None:
        handler = self._run_writing if isinstance(self._work.handler, WritingHandler) else self._work.handler
        first, pieces, lead = answer(handler, self.request, BaseException, takes_whole=True)
        if self._written is not None:
            return
        if pieces is None:
            self.first = first
            return
        if type(pieces) is WholeBody:
            self.first = first
            self._work.post(self)
            close_quietly(pieces, BaseException)
            return
        if type(pieces) is FileBody:
            self._begin(first, FilePieces(pieces))
            return
        passed_on = WorkerPieces(self._work.max_bytes, lambda: self._work.post(self))
        self._begin(first, passed_on)
        self._work.post(self)
        passed_on.feed(pieces, lead)

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
        self._written = WorkerPieces(self._work.max_bytes, lambda: self._work.post(self))
        self._begin(response, self._written)

    def write(self, data: bytes) -> None:
        """Pass a piece on that is written; see `ResponseWriter`."""
        assert self._written is not None
        self._written.put(data)

    def _begin(self, first: Response, pieces: Pieces) -> None:
        """Let the loop see how a streamed response begins."""
        self.pieces = pieces
        if not self._is_wanted:  # looked at after `pieces` was set, as `abandon` does it the other way round
            pieces.close()
        self.first = first


def _raise(error: BaseException) -> Iterator[bytes]:
    """Pieces of which already the first one fails."""
    yield from ()
    raise error


class Workers(Protocol):
    """What the loop needs of a pool; tests have one that runs jobs when they say so."""

    def submit(self, job: Job) -> None:
        """Let a worker run a job, in the order of submission."""
        ...

    def post(self, job: Job) -> None:
        """Let the loop look at a job; called by workers."""
        ...

    def take_posted(self) -> list[Job]:
        """The jobs to look at, in the order in which they were posted."""
        ...

    def close(self) -> None:
        """Let workers end as soon as they are free; nobody waits for them."""
        ...


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
        """Let the loop look at a job; called by workers."""
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
