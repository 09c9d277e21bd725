"""The asyncio driver: the engine hosted by an asyncio loop, uvloop included.

How it waits: the loop watches the engine's one descriptor, and has one timer for the engine's next deadline. How it
runs a coroutine: as a task for each request, with a copy of the context that the server began with. How it stops:
`serve` returns when a drain is over or after `stop`; cancelling it ends everything at once.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from math import inf
from typing import Any, Final, Unpack

from h1core.errors import LocalError

from .app_interface import handler_of
from .engine.engine import AnyHandler, Engine
from .engine.exchange import EngineExchange
from .engine.host import Signal
from .engine.hosted import HostedServer, bound, bound_address
from .engine.lifespan import lifespan_of
from .engine.options import MAX_WAIT_S, Options
from .net.transport import Listener

logger = logging.getLogger("h1core.server")

CANCEL_S: Final = 1.0
"""Seconds that cancelled tasks get to end. Those that do not end are logged, and the loop keeps them."""


class FutureSignal:
    """A signal on asyncio; one task waits for it at a time."""

    __slots__ = ("_is_set", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Let `wait` return."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return when the signal is set."""
        if not self._is_set:
            self._waiter = self._loop.create_future()
            await self._waiter


class Server(HostedServer):
    """An HTTP/1.1 server on asyncio. Run it once: with `serve` in a running loop, or with `run` in a new one.

    `loop` is the loop that `run` creates: "uvloop", "asyncio", or "auto" (uvloop where it is installed).
    """

    def __init__(
        self, handler: AnyHandler, *, listeners: Sequence[Listener], loop: str = "auto", **options: Unpack[Options]
    ) -> None:
        super().__init__(handler, listeners=listeners, **options)
        self._loop_name = loop
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._is_woken = False
        self._wait_timeout: asyncio.Timeout | None = None

    # Running

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve in a new event loop until a drain is over or `stop` is called; call `started` once it serves.

        Raises LocalError when that loop is not installed.
        """
        event_loop = loop_factory(self._loop_name)()
        try:
            event_loop.run_until_complete(self.serve(ready=lambda addresses: started()))
        finally:
            # Not asyncio.Runner: it waits without end for tasks that ignore their cancellation.
            event_loop.run_until_complete(_end_tasks(asyncio.all_tasks(event_loop)))
            event_loop.run_until_complete(event_loop.shutdown_asyncgens())
            event_loop.close()

    async def serve(self, *, ready: Callable[[list[Any]], object] = lambda addresses: None) -> None:
        """Serve until a drain is over or `stop` is called; call `ready` with the bound addresses once it serves.

        Raises StartupFailed, and LocalError on a system whose selector another loop cannot wait for.
        """
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._context = copy_context()
        lifespan = lifespan_of(self._handler, self)
        tasks: list[asyncio.Task[None]] = []
        try:
            if lifespan is None:
                await self._serve(ready)
                return
            # In the context that requests copy, so that they see the variables that the startup sets.
            tasks.append(self._loop.create_task(lifespan.run(), context=self._context))
            try:
                if await lifespan.start():
                    await self._serve(ready)
            finally:
                await lifespan.stop(self._lifespan_deadline())
        finally:
            await _end_tasks(tasks)
            for listener in self._listeners:
                listener.close()

    async def _serve(self, ready: Callable[[list[Any]], object]) -> None:
        """Serve connections until the end; the caller runs the lifespan."""
        loop = self._loop
        engine = Engine(self._handler, self, listeners=self._listeners, clock=loop.time, **self._options)
        self._engine = engine
        descriptor = None
        try:
            descriptor = engine.watch(self.wake)
            if descriptor is not None:
                loop.add_reader(descriptor, self._do_round)
            ready([bound_address(listener) for listener in self._listeners])
            self.wake()
            self._apply_requests()
            await self._ended
        finally:
            if descriptor is not None:
                loop.remove_reader(descriptor)
            if self._timer is not None:
                self._timer.cancel()
            engine.close()
            await _end_tasks(exchange.task for exchange in engine.detached if exchange.task is not None)

    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` in the event loop, from any thread or signal handler. Does nothing when no loop runs."""
        loop = getattr(self, "_loop", None)  # `serve` sets it
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(do)

    # Rounds

    def _do_round(self) -> None:
        """Run one round of the engine, and start its new exchanges."""
        if self._ended.done():
            return
        engine = self.engine
        try:
            engine.tick()
        except BaseException as error:  # noqa: BLE001 - `serve` raises it
            self._ended.set_exception(error)
            return
        new_exchanges = engine.new_exchanges
        for _ in range(len(new_exchanges)):  # exchanges that these add start in the next round
            self._start(new_exchanges.popleft())
        if engine.is_ending and engine.is_over:
            self._ended.set_result(None)
        elif engine.unfinished:
            self.wake()
        elif engine.deadline_at < self._timer_at:
            self._set_timer(engine.deadline_at)

    def _start(self, exchange: EngineExchange) -> None:
        """Run the coroutine of an exchange in a task of its own."""
        context = self._context.copy()
        if sys.version_info >= (3, 12):  # eager: a coroutine that never waits has ended when this returns
            exchange.task = asyncio.Task(exchange.run(), loop=self._loop, context=context, eager_start=True)
        else:
            exchange.task = self._loop.create_task(exchange.run(), context=context)

    def _set_timer(self, deadline: float) -> None:
        """Run a round at the deadline or earlier. An early round is harmless: it sets the timer again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = min(deadline, self._loop.time() + MAX_WAIT_S)
        self._timer = self._loop.call_at(self._timer_at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        self._do_round()

    # For the engine

    def new_signal(self) -> Signal:
        """A signal that is not set."""
        return FutureSignal(self._loop)

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    def cancel_scope(self, exchange: EngineExchange) -> AbstractContextManager[None]:
        """A context that does nothing: asyncio can cancel a task anywhere."""
        return nullcontext()

    def wake(self) -> None:
        """Run a round soon."""
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._on_wake)

    def _on_wake(self) -> None:
        self._is_woken = False  # reset only here: after a round for another reason this call still comes, and is enough
        self._do_round()

    def wrong_loop_hint(self, error: BaseException) -> str | None:
        """Return a hint for the error that trio raises when its loop does not run; None for other errors."""
        if isinstance(error, RuntimeError) and "must be called from async context" in str(error):
            return "this application is written for trio: serve it with --driver trio"
        return None

    # For the lifespan

    def now(self) -> float:
        """The time of the loop's clock, in seconds."""
        return self._loop.time()

    async def wait_until(self, signal: Signal, deadline: float, *, shield: bool) -> bool:
        """Wait for a signal; return whether it was set in time. `shield` is unused: asyncio cancels only once."""
        try:
            async with asyncio.timeout_at(None if deadline == inf else deadline) as self._wait_timeout:
                self._apply_requests()
                await signal.wait()
        except TimeoutError:
            return False
        finally:
            self._wait_timeout = None
        return True

    def _limit_wait(self, deadline: float) -> None:
        if self._wait_timeout is not None and deadline < (self._wait_timeout.when() or inf):
            self._wait_timeout.reschedule(deadline)


async def serve(
    app: Callable[..., Any],
    binds: Sequence[str] = ("127.0.0.1:8000",),
    *,
    listeners: Sequence[Listener] = (),
    interface: str = "auto",
    root_path: str = "",
    ready: Callable[[list[Any]], object] = lambda addresses: None,
    **options: Unpack[Options],
) -> None:
    """Serve an application of any interface, or a handler, in the running loop until cancelled.

        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(app, ["127.0.0.1:0"], ready=ready.set_result))
        addresses = await ready

    `binds` are addresses as for `h1core --bind`; `listeners` replace them. Other options are those of `Engine`. To
    drain, make a `Server`. Raises LocalError when an address cannot be bound, or `app` is no application.
    """
    handler = handler_of(app, interface, threads=options.get("threads", 0), root_path=root_path)
    with bound(() if listeners else binds) as sockets:
        await Server(handler, listeners=listeners or sockets, **options).serve(ready=ready)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop that `--loop` names. Raises LocalError when uvloop is not installed."""
    if name != "asyncio":
        try:
            import uvloop  # noqa: PLC0415 - an extra, loaded when it is asked for
        except ModuleNotFoundError:
            if name == "uvloop":
                raise LocalError("--loop uvloop needs uvloop: pip install 'h1core[uvloop]'") from None
        else:
            make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return make
    return asyncio.new_event_loop


async def _end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks, and wait `CANCEL_S` for them to end. Log each one that still runs, once."""
    # _log_destroy_pending: whether asyncio logs a task that has not ended with its loop. False: logged here before.
    others = [
        task for task in tasks if task is not asyncio.current_task() and getattr(task, "_log_destroy_pending", True)
    ]
    for task in others:
        task.cancel()
    if others:
        _, left = await asyncio.wait(others, timeout=CANCEL_S)
        for task in left:
            logger.error("a task of the application goes on although it is cancelled: %r", task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # logged here, once
