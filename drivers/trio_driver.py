"""The trio driver: the engine hosted by trio.

How it waits: one task waits for the engine's one descriptor, another sleeps until its next deadline. How it runs a
coroutine: in the task that ran the round. When the coroutine waits for the first time, the task stays with it, and a
new task runs the rounds. How it stops: `serve` returns when a drain is over or after `stop`; cancelling it ends
everything at once.

A new task for each request would take a third of the request's time, and most coroutines of a server under load never
wait. Each coroutine begins with the context that the server began with: when one has set a context variable, a new task
runs the rounds.

The clock is trio's, so that under `trio.testing.MockClock` an hour of keep-alive passes at once.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeAlias, Unpack

import trio

from .app_interface import handler_of
from .engine.engine import AnyHandler, Engine
from .engine.exchange import EngineExchange
from .engine.host import Signal
from .engine.hosted import HostedServer, bound, bound_address
from .engine.lifespan import ServerLifespan, lifespan_of
from .engine.options import Options
from .net.transport import Listener
from .trio_streams import StreamListener, StreamSelector
from .trio_tasks import TaskSignal, has_changed, only_error, run_in_steps

AnyListener: TypeAlias = "Listener | trio.abc.Listener[Any]"  # Any: a listener of whatever streams

WRONG_LOOP: Final = ("unrecognized yield message", "no running event loop", "no current event loop")
"""Parts of the errors that trio and asyncio raise when a coroutine on trio awaits an asyncio object."""


class Server(HostedServer):
    """An HTTP/1.1 server on trio. Run it once, with `serve` or `run`. `listeners` may also be trio listeners."""

    def __init__(self, handler: AnyHandler, *, listeners: Sequence[AnyListener], **options: Unpack[Options]) -> None:
        super().__init__(handler, listeners=listeners, **options)
        self._token: trio.lowlevel.TrioToken | None = None
        self._sleep = trio.CancelScope()
        self._is_woken = False
        self._is_in_rounds = False  # the task in `_run_rounds` will check `_is_woken`
        self.ended = trio.Event()
        """Set when the server has drained or was stopped."""
        self._wait_scope: trio.CancelScope | None = None

    # Running

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve in a new trio run until a drain is over or `stop` is called; call `started` once it serves."""
        status: Any = SimpleNamespace(started=lambda addresses=None: started())
        trio.run(partial(self.serve, task_status=status))

    async def serve(self, *, task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until a drain is over or `stop` is called; report the bound addresses through `task_status`.

        Raises StartupFailed, and LocalError on a system whose selector another loop cannot wait for.
        """
        self._token = trio.lowlevel.current_trio_token()
        self._context = copy_context()
        lifespan = lifespan_of(self._handler, self)
        try:
            if lifespan is None:
                await self._serve(task_status)
            else:
                await self._serve_within(lifespan, task_status)
        except BaseExceptionGroup as group:  # from nurseries in which at most one task fails
            error = only_error(group)
            raise error from error.__cause__
        finally:
            self._token = None
            for listener in self._listeners:
                if isinstance(listener, socket.socket):
                    listener.close()

    async def _serve_within(self, lifespan: ServerLifespan, task_status: trio.TaskStatus[list[Any]]) -> None:
        """Start the application's lifespan, serve, and stop the lifespan."""
        async with trio.open_nursery() as nursery:
            scope = await nursery.start(self._run_lifespan, lifespan)
            try:
                if await lifespan.start():
                    await self._serve(task_status)
            finally:
                await lifespan.stop(self._lifespan_deadline())
                scope.cancel()

    async def _run_lifespan(self, lifespan: ServerLifespan, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Run the application's side of its lifespan. Requests copy its context, and see what the startup sets."""
        self._context = trio.lowlevel.current_task().context
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            await lifespan.run()

    async def _serve(self, task_status: trio.TaskStatus[list[Any]]) -> None:
        """Serve connections until the end; the caller runs the lifespan."""
        async with trio.open_nursery() as nursery:
            self._nursery, scope = await nursery.start(self._hold_nursery)
            descriptor = None
            try:
                engine = self._engine = self._make_engine()
                descriptor = engine.watch(self.wake)
                self._nursery.start_soon(self._run_deadlines)
                if descriptor is not None:
                    self._nursery.start_soon(self._run_rounds, descriptor)
                task_status.started([bound_address(listener) for listener in self._listeners])
                self.wake()
                self._apply_requests()
                await self.ended.wait()
            finally:
                if descriptor is not None:
                    trio.lowlevel.notify_closing(descriptor)
                if self._engine is not None:
                    self._engine.close()
                scope.cancel()

    async def _hold_nursery(self, task_status: trio.TaskStatus[tuple[trio.Nursery, trio.CancelScope]]) -> None:
        """Hold the nursery of the server's tasks, which must not be cancelled before the engine is closed."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                task_status.started((nursery, scope))
                await trio.sleep_forever()

    def _make_engine(self) -> Engine:
        listeners = list(self._listeners)
        if any(isinstance(listener, trio.abc.Listener) for listener in listeners):
            self._options["selector"] = StreamSelector(self._options.get("selector"))
            listeners = [StreamListener.adapt(listener, self._nursery) for listener in listeners]
        clock = trio.lowlevel.current_clock().current_time
        return Engine(self._handler, self, listeners=listeners, clock=clock, **self._options)

    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` in trio's loop, from any thread or signal handler. Does nothing when no loop runs."""
        token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(do, idempotent=True)

    # Rounds

    async def _run_rounds(self, descriptor: int) -> None:
        """Run a round when the descriptor is readable or `wake` was called, until another task runs the rounds."""
        context = copy_context()
        while not self.engine.is_stopping:
            self._is_in_rounds = self._is_woken
            try:
                await (trio.lowlevel.checkpoint() if self._is_woken else trio.lowlevel.wait_readable(descriptor))
            except trio.ClosedResourceError:
                return  # the server has ended
            self._is_in_rounds = True
            self._do_round()
            new_exchanges = self.engine.new_exchanges
            for _ in range(len(new_exchanges)):  # exchanges that these add start in the next round
                has_waited = await run_in_steps(new_exchanges.popleft().run(), self._start_rounds_task)
                if has_waited:
                    return
                if has_changed(context):
                    self._start_rounds_task()
                    return

    def _start_rounds_task(self) -> None:
        """Start another task for the rounds: in this one a coroutine waits, or has changed the context."""
        self._start_exchanges()
        descriptor = self.engine.watch(self.wake)
        assert descriptor is not None
        self._context.run(self._nursery.start_soon, self._run_rounds, descriptor)

    async def _run_deadlines(self) -> None:
        """Run a round when the next deadline has passed, and when the engine asks for one."""
        engine = self.engine
        while True:
            with trio.CancelScope(deadline=engine.deadline_at) as self._sleep:
                if not self._is_woken:
                    await trio.sleep_forever()
            await trio.lowlevel.checkpoint()  # let the tasks of trio streams receive: input wins over a deadline
            self._do_round()
            self._start_exchanges()

    def _do_round(self) -> None:
        """Run one round of the engine."""
        engine = self.engine
        if self.ended.is_set() or engine.is_stopping:
            return
        self._is_woken = False
        engine.tick()
        if engine.is_ending and engine.is_over:
            self.ended.set()
        elif engine.unfinished:
            self.wake()
        elif engine.deadline_at < self._sleep.deadline:
            self._sleep.deadline = engine.deadline_at

    def _start_exchanges(self) -> None:
        """Start a task for each new exchange."""
        new_exchanges = self.engine.new_exchanges
        while new_exchanges:
            self._context.run(self._nursery.start_soon, new_exchanges.popleft().run)

    # For the engine

    def new_signal(self) -> Signal:
        """A signal that is not set."""
        return TaskSignal()

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()

    def cancel_scope(self, exchange: EngineExchange) -> AbstractContextManager[trio.CancelScope]:
        """A cancel scope: trio cancels a task only inside one."""
        exchange.task = scope = trio.CancelScope()
        return scope

    def wake(self) -> None:
        """Run a round soon."""
        if not self._is_woken:
            self._is_woken = True
            if not self._is_in_rounds:
                self._sleep.cancel()

    def wrong_loop_hint(self, error: BaseException) -> str | None:
        """Return a hint for the error of a coroutine that awaits an asyncio object; None for other errors."""
        if isinstance(error, (TypeError, RuntimeError)) and any(words in str(error) for words in WRONG_LOOP):
            return "this application is written for asyncio: serve it with --driver asyncio"
        return None

    # For the lifespan

    def now(self) -> float:
        """The time of trio's clock, in seconds."""
        return trio.current_time()

    async def wait_until(self, signal: Signal, deadline: float, *, shield: bool) -> bool:
        """Wait for a signal; return whether it was set by the deadline."""
        with trio.CancelScope(deadline=deadline, shield=shield) as scope:
            self._wait_scope = scope
            self._apply_requests()
            await signal.wait()
        self._wait_scope = None
        return not scope.cancelled_caught

    def _limit_wait(self, deadline: float) -> None:
        if self._wait_scope is not None:
            self._wait_scope.deadline = min(self._wait_scope.deadline, deadline)


async def serve(
    app: Callable[..., Any],
    binds: Sequence[str] = ("127.0.0.1:8000",),
    *,
    listeners: Sequence[AnyListener] = (),
    interface: str = "auto",
    root_path: str = "",
    drain: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[Options],
) -> None:
    """Serve an application of any interface, or a handler, until cancelled or drained; `drain` begins the drain.

        addresses = await nursery.start(serve, handler, ["127.0.0.1:0"])

    `binds` are addresses as for `h1core --bind`; `listeners` replace them. Other options are those of `Engine`.
    Reports the bound addresses through `task_status`. Raises LocalError when an address cannot be bound, or `app`
    is no application.
    """
    handler = handler_of(app, interface, threads=options.get("threads", 0), root_path=root_path)
    with bound(() if listeners else binds) as sockets:
        server = Server(handler, listeners=listeners or sockets, **options)
        async with trio.open_nursery() as nursery:
            if drain is not None:
                nursery.start_soon(_drain_after, drain, server)
            await server.serve(task_status=task_status)
            nursery.cancel_scope.cancel()


async def _drain_after(event: trio.Event, server: Server) -> None:
    await event.wait()
    server.begin_drain()
