"""An ASGI application's lifespan around the trio server."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from h1core.drivers.engine.hosted import LIFESPAN_GRACE_S
from h1core.drivers.net.listeners import listen
from h1core.drivers.trio_driver import Server

from h1core import Timeouts
from h1core.addresses import parse_address
from h1core.app.asgi import AsgiHandler, Message, Receive, Scope, Send
from h1core.app.lifespan import StartupFailed

from ..wire import statuses
from .trio_kit import LAST_GET, Client

UP: Message = {"type": "lifespan.startup.complete"}
DOWN: Message = {"type": "lifespan.shutdown.complete"}


class App:
    """Remembers its life; `up` and `down` are what it does at its ends, `path` lets a request fail or wait."""

    def __init__(
        self,
        up: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        down: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        last: tuple[Message, ...] = (DOWN,),
    ) -> None:
        self.up, self.down, self.last = up, down, last
        self.life: list[str] = []
        self.state: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
            return
        self.life.append("request")
        self.state = scope["state"]
        if scope["path"] == "/fail":
            raise ValueError("mine")
        if scope["path"] == "/wait":
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.life.append((await receive())["type"])
        scope["state"]["pool"] = "a pool"
        await self.up()
        self.life.append("up")
        await send(UP)
        self.life.append((await receive())["type"])
        await self.down()
        self.life.append("down")
        for message in self.last:
            await send(message)


LIFE = ["lifespan.startup", "up", "request", "lifespan.shutdown", "down"]


class World:
    """A server with a lifespan; under a clock that jumps when nobody has anything to do."""

    def __init__(self, app: Callable[..., Awaitable[None]], **timeouts: float) -> None:
        self.listener = listen(parse_address("127.0.0.1:0"))
        handler = AsgiHandler(app)
        self.server = Server(
            handler,
            listeners=[self.listener],
            timeouts=Timeouts(**timeouts),
        )
        self.address = self.listener.getsockname()
        self.clients: list[Client] = []
        self.has_started = trio.Event()

    async def connect(self, wire: bytes) -> Client:
        client = Client(await trio.open_tcp_stream(*self.address))
        self.clients.append(client)
        await client.send(wire)
        return client

    async def serve(self, task_status: trio.TaskStatus[Any]) -> None:
        await self.server.serve(task_status=task_status)


def run(app: Callable[..., Awaitable[None]], test: Callable[[World], Awaitable[None]], **timeouts: float) -> float:
    """Run a test while the application is served, until the server ends by itself; how long that took."""

    async def main() -> float:
        world = World(app, **timeouts)
        began_at = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(world.serve)
                await test(world)
        finally:
            for client in world.clients:
                await trio.aclose_forcefully(client.stream)
        assert world.listener.fileno() == -1
        return trio.current_time() - began_at

    took: float = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
    return took


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def ask_and_drain(world: World, wire: bytes = LAST_GET) -> None:
    client = await world.connect(wire)
    assert statuses(await client.rest()) in ([200], [500])
    world.server.begin_drain()


def test_startup_comes_first_and_shutdown_last() -> None:
    app = App()
    run(app, ask_and_drain)
    assert app.life == LIFE
    assert app.state == {"pool": "a pool"}


def test_a_request_that_fails_changes_nothing_of_that() -> None:
    app = App()
    run(app, lambda world: ask_and_drain(world, LAST_GET.replace(b"/", b"/fail", 1)))
    assert app.life == LIFE


def test_nobody_is_accepted_before_the_startup_is_over() -> None:
    goes_on, seen = trio.Event(), list[str]()

    async def up() -> None:
        await goes_on.wait()

    app = App(up)

    async def main() -> None:
        world = World(app)
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                starting.start_soon(nursery.start, world.serve)
                client = await world.connect(LAST_GET)
                await trio.testing.wait_all_tasks_blocked(0.01)
                seen.extend(app.life)
                goes_on.set()
            assert statuses(await client.rest()) == [200]
            world.server.begin_drain()

    trio.run(main)
    assert seen == ["lifespan.startup"]
    assert app.life == LIFE


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def refuses_and_raises(scope: Scope, receive: Receive, send: Send) -> None:
    await refuses(scope, receive, send)
    raise ValueError("no database")


async def refuses_and_stays(scope: Scope, receive: Receive, send: Send) -> None:
    await refuses(scope, receive, send)
    await trio.sleep_forever()


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("no database")


@pytest.mark.parametrize("app", [refuses, refuses_and_raises, refuses_and_stays, raises])
def test_a_startup_that_fails_is_raised(app: Callable[..., Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(app)
        with pytest.raises(StartupFailed, match=r"the application's startup failed: .*no database") as caught:
            await world.server.serve()
        has_cause = isinstance(caught.value.__cause__, ValueError)
        assert has_cause == (app in (refuses_and_raises, raises))
        assert world.listener.fileno() == -1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_application_without_a_lifespan_is_served(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    run(app, ask_and_drain)
    assert errors(caplog) == []


def test_a_drain_gives_the_shutdown_what_is_left_of_its_time(caplog: pytest.LogCaptureFixture) -> None:
    app = App(down=trio.sleep_forever)
    took = run(app, ask_and_drain, drain_timeout=20.0)
    assert 20.0 <= took < 21.0
    assert errors(caplog) == ["the application's shutdown took too long, and is cancelled"]


def test_a_shutdown_has_some_time_even_when_the_drain_used_it_all() -> None:
    async def down() -> None:
        await trio.sleep(LIFESPAN_GRACE_S - 1)

    app = App(down=down)

    async def test(world: World) -> None:
        await world.connect(LAST_GET.replace(b"/", b"/wait", 1))
        while "request" not in app.life:
            await trio.sleep(0.01)
        world.server.begin_drain()

    took = run(app, test, drain_timeout=20.0)
    assert app.life == LIFE
    assert 20.0 + LIFESPAN_GRACE_S - 1 <= took < 20.0 + LIFESPAN_GRACE_S


@pytest.mark.parametrize("late", [False, True])
def test_who_does_not_want_to_wait_still_gets_a_shutdown(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The second signal may come before the shutdown has begun, or while it goes on."""
    is_down = trio.Event()

    async def down() -> None:
        is_down.set()
        await trio.sleep_forever()

    app = App(down=down)

    async def test(world: World) -> None:
        if late:
            await ask_and_drain(world)
            await is_down.wait()
        else:
            await (await world.connect(LAST_GET)).rest()
        world.server.stop()

    took = run(app, test, drain_timeout=1000.0)
    assert app.life == LIFE[:-1]
    assert LIFESPAN_GRACE_S <= took < LIFESPAN_GRACE_S + 1
    assert errors(caplog) == ["the application's shutdown took too long, and is cancelled"]


def test_cancelling_the_server_shuts_the_application_down() -> None:
    app = App()

    async def main() -> None:
        world = World(app)
        async with trio.open_nursery() as nursery:
            await nursery.start(world.serve)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert app.life == ["lifespan.startup", "up", "lifespan.shutdown", "down"]


@pytest.mark.parametrize("asked", ["begin_drain", "stop"])
@pytest.mark.parametrize("early", [False, True])
def test_a_signal_ends_a_startup(asked: str, early: bool) -> None:
    app = App(up=trio.sleep_forever)

    async def main() -> None:
        world = World(app)
        async with trio.open_nursery() as nursery:
            if early:
                getattr(world.server, asked)()
            nursery.start_soon(world.server.serve)
            await trio.testing.wait_all_tasks_blocked()
            getattr(world.server, asked)()
        assert world.listener.fileno() == -1

    trio.run(main)
    assert app.life in ([], ["lifespan.startup"])


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (({"type": "lifespan.shutdown.failed", "message": "no end"},), "the application's shutdown failed: no end"),
        (({"type": "nonsense"},), "the application's shutdown failed"),
        ((DOWN, {"type": "nonsense"}), "the application's lifespan task failed"),
    ],
)
def test_a_shutdown_that_fails_is_logged(
    last: tuple[Message, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(App(last=last), ask_and_drain)
    assert errors(caplog) == [says]


@pytest.mark.parametrize("fails", [False, True])
def test_a_lifespan_that_ends_before_its_time_is_logged(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send(UP)
            if fails:
                raise ValueError("mine")
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    run(app, ask_and_drain)
    if fails:
        assert errors(caplog) == ["the application's lifespan task failed"]
        assert "ValueError: mine" in caplog.text
    else:
        assert errors(caplog) == [
            "the application's lifespan task has ended before its time, and will not be told of the shutdown"
        ]
