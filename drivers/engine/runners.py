"""How an application is run: inline on the engine's thread, in a worker thread, or as a coroutine of the host.

A runner gets each request of each session, and begins its response.
"""

import logging
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING

from h1core.app.exchange import StreamingHandler, on_exchange
from h1core.app.handler import AsyncHandler, FileBody, Handler, WholeBody
from h1core.app.reply import Reply, own_response, request_line
from h1core.events import Request
from h1core.http1.state import CloseReason
from h1core.server.backlog import overload_response
from h1core.server.held_workers import BLOCKED_S

from .exchange import EngineExchange, ExchangeHandler
from .pool import Job, Work, Workers
from .response_body import FileSource, IteratorSource
from .responses import close_quietly, release, run_handler
from .session import Session
from .worker_source import WorkerSource

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger("h1core.server")


class InlineRunner:
    """Runs a handler on the engine's thread, while all other connections wait."""

    def __init__(self, handler: Handler, engine: "Engine") -> None:
        self._handler = handler
        self._engine = engine

    def answer(self, session: Session, request: Request) -> None:
        """Run the handler, and begin its response. What it raises becomes a 500."""
        if self._engine.access_log:
            session.began_at = self._engine.clock()
        context = self._engine.context.copy()
        begin_reply(session, request, context.run(run_handler, self._handler, request), context)
        if session.source is not None:
            session.began_at = self._engine.clock()  # the end of the input could not be seen while the handler ran


def begin_reply(session: Session, request: Request, reply: Reply, context: Context) -> None:
    """Begin the response that a handler has returned in `context`; the engine takes the rest of its body there."""
    first, pieces, taken = reply
    if pieces is None:
        session.begin_response(request, first, None)
        release(request)
    elif type(pieces) is WholeBody:
        session.begin_response(request, first, None)
        context.run(close_quietly, pieces)
        release(request)
    elif type(pieces) is FileBody:
        session.begin_response(request, first, FileSource(pieces))
        release(request)
    else:
        session.begin_response(request, first, IteratorSource(pieces, request, taken, context))


class WorkerRunner:
    """Gives requests to worker threads, and takes their responses back."""

    def __init__(self, handler: Handler, engine: "Engine", workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        core, limits = engine.core, engine.core.limits
        self._work = Work(
            handler,
            core.is_stale,
            limits.max_output_bytes,
            limits.max_spooled_response_bytes,
            workers.post,
            engine.context,
        )
        self._ready: list[Job] = []
        self._waiting: dict[Session, None] = {}
        """Sessions whose workers have said that they wait for their clients."""

    @property
    def has_ready_jobs(self) -> bool:
        """Whether requests wait for `submit_jobs`."""
        return bool(self._ready)

    def answer(self, session: Session, request: Request) -> None:
        """Queue the request for `submit_jobs`, or reject it with a 503."""
        engine = self._engine
        session.began_at = engine.clock()
        job = Job(session, request, session.began_at, self._work)
        if not engine.core.request_ready(session.conn, job, session.began_at):
            self._reject_overload(session, request, overdue=False)
            return
        session.job = job
        self._ready.append(job)
        engine.deadline_at = min(engine.deadline_at, engine.core.backlog.next_deadline or inf)

    def submit_jobs(self) -> None:
        """Submit the requests that wait to the workers.

        All at once: after each single one, a worker would take the GIL from the engine at its next system call.
        """
        for job in self._ready:
            self._workers.submit(job)
        self._ready.clear()

    def take_results(self) -> None:
        """Handle the jobs that workers have posted."""
        for job in self._workers.take_posted():
            self._on_job_changed(job)

    def reject_overdue(self, job: Job) -> None:
        """Answer a request with a 503 because no worker has begun it in time. Never raises."""
        if isinstance(job.owner, Session) and job.owner.job is job and job.claim():
            self._on_job_changed(job)

    def note_left(self, job: Job) -> None:
        """Note that a worker goes on with a job that nobody waits for any more."""
        engine = self._engine
        engine.core.held_workers.left(job, engine.clock())
        engine.deadline_at = min(engine.deadline_at, engine.core.held_workers.next_deadline or inf)

    def report_blocked(self, job: Job) -> None:
        """Name a worker that goes on with a request whose client has left."""
        logger.warning(
            "%s still runs in %s, though nobody has waited for it for %g s; %d of %d workers are held in this way",
            request_line(job.request),
            job.worker,
            BLOCKED_S,
            len(self._engine.core.held_workers.blocked),
            self._engine.core.held_workers.workers,
        )

    def close(self) -> None:
        """Take the last results, and let the workers end."""
        self.take_results()
        self._workers.close()

    def _on_job_changed(self, job: Job) -> None:
        """Begin the response, or continue it, unless the connection has gone."""
        session = job.owner
        assert isinstance(session, Session)
        is_gone = session.conn not in self._engine.sessions
        if job.is_over and not job.is_counted:
            job.is_counted = True
            self._engine.core.request_done(job, is_gone=is_gone)
        if not is_gone:
            try:
                if job is session.job:
                    self._begin(session, job)
            except Exception as error:  # noqa: BLE001 - logged in cut
                session.cut(error)
            else:
                session.pump([])
        source = job.source
        if source is not None and source is not session.source:
            source.close()
        elif isinstance(source, WorkerSource) and source.waits_for_client:
            self._waiting[session] = None
            self._limit_waits()

    def _limit_waits(self) -> None:
        """End the slowest stream if too many workers wait for their clients."""
        now = self._engine.clock()
        rates: dict[Session, float] = {}
        waiting: dict[Session, None] = {}
        for session in self._waiting:
            source = session.source
            if isinstance(source, WorkerSource) and source.waits_for_client:
                waiting[session] = None
                if source.is_full:  # else the client has just made room, and the worker is about to go on
                    rates[session] = source.taken_bytes / max(now - session.began_at, 1e-3)
        self._waiting = waiting
        slowest = self._engine.core.held_workers.stream_to_end(rates)
        if slowest is not None:
            self._engine.own_answers.held_worker(slowest)
            slowest.cut_response(CloseReason.HELD_WORKER)

    def _begin(self, session: Session, job: Job) -> None:
        """Begin a worker's response, or reject a request that had waited too long with a 503."""
        session.job = None
        if job.first is None:
            self._engine.core.request_stale(session.conn)
            self._reject_overload(session, job.request, overdue=True)
        else:
            session.begin_response(job.request, job.first, job.source)

    def _reject_overload(self, session: Session, request: Request, *, overdue: bool) -> None:
        self._engine.own_answers.overloaded(session, request, overdue=overdue)
        session.begin_response(request, own_response(request, overload_response()), None)
        release(request)


class CoroutineRunner:
    """Gives requests to coroutines: the host starts a task for each."""

    def __init__(self, handler: AsyncHandler | StreamingHandler, engine: "Engine") -> None:
        self._handler: ExchangeHandler = (
            handler if isinstance(handler, StreamingHandler) else on_exchange(handler, engine.cancel_on_disconnect)
        )
        self._engine = engine

    def answer(self, session: Session, request: Request) -> None:
        """Make an exchange for the request; its task begins after this tick."""
        engine = self._engine
        if engine.access_log:
            session.began_at = engine.clock()
        session.exchange = exchange = EngineExchange(engine, session, request, self._handler)
        engine.new_exchanges.append(exchange)
