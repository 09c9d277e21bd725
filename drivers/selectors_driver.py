"""The readiness loop: h1core on non-blocking sockets and `selectors`, handlers inline or on worker threads.

Theory
------
One thread has the selector, the sockets and the `Conn`s. Here is what it does with all of them together; what it does
with each is in pump.py.

`tick` is one bounded round: wait, serve what is ready, do what is due. Of what is ready, connections between two
requests come first: a whole request is likely there, while others are newcomers, or send in bits. Next is what workers
are through with, and then they get those requests. The others must then wait for the next tick, though not twice in a
row: it begins with what the workers have made of them. Due is what was due when the selector was asked: what came while
a handler had the loop is read before its deadline is looked at. Given the same clock, selector and sockets it does the
same. `run` is `tick` for ever. `begin_drain` and `stop` may come from any
thread or a signal handler, at any moment: they only leave a note for the next tick, and wake it.
"""

import time
from collections.abc import Callable, Sequence

from h1core.app.handler import Handler
from h1core.config import Limits, Timeouts
from h1core.http1.state import CloseReason
from h1core.server import Phase, ServerCore

from .engine.connection import Connection
from .engine.pool import Pool, Workers
from .engine.session import Pump
from .net.acceptor import SelectorAcceptor
from .net.selector import default_selector
from .net.transport import READ, Listener, Selector
from .net.wake import WakeChannel


class Server:
    """An HTTP/1.1 server for one handler.

    `handler(request) -> Response` runs on the loop, or with `threads` on so many worker threads, for which tests may
    put `workers` in. It gets whole requests; a body past `Limits.max_memory_body_bytes` lies in a file. It may raise
    any Exception; SystemExit and its like end the server when they come on the loop.

    `listeners` are non-blocking listening sockets, which the server closes when it drains or ends. `clock`,
    `wall_clock` and `selector` are injected by tests. With `access_log`, each answered request is a line on the logger
    `h1core.access`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        listeners: Sequence[Listener],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        selector: Selector | None = None,
        access_log: bool = False,
        threads: int = 0,
        workers: Workers | None = None,
    ) -> None:
        self._clock = clock
        self._core = ServerCore(limits, timeouts, clock=clock, wall_clock=wall_clock, workers=threads)
        self._selector: Selector = selector or default_selector()
        self._wake: WakeChannel | None = None
        self._workers = workers
        if threads and workers is None:
            self._workers = Pool(threads, self._open_wake().wake)
        self._pump = Pump(handler, self._core, self._selector, clock, self._workers, access_log)
        self._made_others_wait = False  # in the last tick
        self._drain_asked = False
        self._stop_asked = False
        self._acceptor = SelectorAcceptor(listeners, self._core, self._selector)

    # Running

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until a drain is over or `stop` is called, then close everything. Raises what the selector raises.

        Calls `started` before it begins.
        """
        self._open_wake()
        started()
        try:
            while not self._stop_asked and self._core.phase is not Phase.STOPPED:
                self.tick()
        finally:
            self.close()

    def _open_wake(self) -> WakeChannel:
        """Let other threads wake the selector."""
        if self._wake is None:
            self._wake = WakeChannel()
            self._selector.register(self._wake, READ, self._wake)
        return self._wake

    def tick(self, max_wait: float | None = None) -> None:
        """Do one round: wait until something is ready or due, `max_wait` seconds at most, and serve it."""
        if self._drain_asked:
            self._start_drain()
        if self._core.phase is Phase.STOPPED:
            return  # nothing will ever be ready
        self._acceptor.listen_or_rest()
        pump = self._pump
        wait_s = self._wait_s(max_wait)
        unfinished, pump.unfinished = pump.unfinished, {}
        behind: list[tuple[Connection | Listener, int]] = []
        events = self._selector.select(wait_s)
        seen_at = self._clock()
        for key, mask in events:
            ready = key.data
            if type(ready) is Connection and ready.conn.is_idle:
                pump.serve_idle(ready)
            elif type(ready) is WakeChannel:
                ready.clear()
            else:
                behind.append((ready, mask))
        if self._workers is not None:
            self._hear_workers(self._workers)
            if pump.to_submit:
                pump.submit_jobs(self._workers)
                if behind and not self._made_others_wait:
                    self._made_others_wait = True
                    pump.unfinished = unfinished | pump.unfinished
                    return
        self._made_others_wait = False
        for other, mask in behind:
            if isinstance(other, Connection):
                pump.serve_ready(other, mask)
            else:
                for transport, peer in self._acceptor.accept(other):
                    pump.open(transport, peer)
        pump.serve_unfinished(unfinished)
        for conn in self._core.due_connections(seen_at, len(events)):
            pump.pump(pump.connections[conn], conn.handle_deadline())
        if self._workers is not None and pump.to_submit:
            pump.submit_jobs(self._workers)

    def _hear_workers(self, workers: Workers) -> None:
        """Look at what workers have to say."""
        for job in workers.take_posted():
            self._pump.hear(job)

    def begin_drain(self) -> None:
        """Finish what is in flight, accept nothing more, and then end `run`. From any thread or signal handler."""
        self._drain_asked = True
        self._wake_up()

    def stop(self) -> None:
        """End `run` now, cutting every connection. From any thread or signal handler."""
        self._stop_asked = True
        self._wake_up()

    def _wake_up(self) -> None:
        wake = self._wake  # looked at once: the loop may give it back in between
        if wake is not None:
            wake.wake()

    def close(self) -> None:
        """Cut every connection and give everything back; the server is not used again. A second call does nothing."""
        for connection in list(self._pump.connections.values()):
            connection.conn.abort(CloseReason.DRAINING)
            self._pump.drop(connection)
        self._acceptor.close()
        if self._workers is not None:
            self._hear_workers(self._workers)
            self._workers.close()
        if self._wake is not None:
            self._selector.unregister(self._wake)
            self._wake.close()
            self._wake = None
        self._selector.close()

    @property
    def is_idle(self) -> bool:
        """Whether the next `tick` would wait, were it not for sockets and workers."""
        return not self._drain_asked and self._wait_s(None) != 0

    @property
    def dropped_completions(self) -> int:
        """How often a worker was through with a request whose connection had gone."""
        return self._pump.dropped_completions

    @property
    def core(self) -> ServerCore:
        """The policy, for questions."""
        return self._core

    def _wait_s(self, max_wait: float | None) -> float | None:
        """How long the selector may wait."""
        if self._pump.unfinished:
            return 0
        deadline = self._core.next_deadline
        if deadline is None:
            return max_wait
        wait = max(0.0, deadline - self._clock())
        return wait if max_wait is None else min(wait, max_wait)

    def _start_drain(self) -> None:
        """Take in what was sent before the drain began, so that none of it is lost, and then begin to end."""
        self._drain_asked = False
        if self._core.phase is not Phase.RUNNING:
            return
        pump = self._pump
        for transport, peer in self._acceptor.accept_all():
            pump.open(transport, peer)
        self._acceptor.close_listeners()
        came = {conn: pump.read(connection) for conn, connection in pump.connections.items()}
        for conn in self._core.begin_drain():
            pump.pump(pump.connections[conn], came[conn])
        if self._workers is not None:
            pump.submit_jobs(self._workers)  # before the selector waits
