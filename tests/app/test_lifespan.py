"""What an application and a server say to each other at the begin and the end, without either."""

import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from h1core.app.asgi import Receive, Scope, Send
from h1core.app.lifespan import Lifespan, Stage, StartupFailed


class FakeSignal:
    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    @types.coroutine
    def wait(self) -> Generator[None]:
        while not self.is_set:
            yield


def lifespan_of(app: Callable[..., Awaitable[None]]) -> tuple[Lifespan, Callable[[], None]]:
    """A lifespan that was begun, and what lets it go on."""
    lifespan = Lifespan(app, {}, FakeSignal)
    task = lifespan.run()

    def go_on() -> None:
        try:
            task.send(None)
        except StopIteration:
            pass

    go_on()
    return lifespan, go_on


def saying(*types_: str, error: Exception | None = None) -> Callable[..., Awaitable[None]]:
    """An application that receives, says one thing, and so on; then it fails, perhaps."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for kind in types_:
            await receive()
            await send({"type": kind, "message": "why"})
        if error:
            raise error

    return app


UP, DOWN = "lifespan.startup.complete", "lifespan.shutdown.complete"
NOT_UP, NOT_DOWN = "lifespan.startup.failed", "lifespan.shutdown.failed"
BROKEN = ValueError("broken")


def is_set(signal: Any) -> bool:
    return bool(signal.is_set)


def test_a_life() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["pool"] = 1
        seen.append((scope["type"], scope["asgi"], await receive()))
        await send({"type": UP})
        seen.append(await receive())
        await send({"type": DOWN})

    lifespan, go_on = lifespan_of(app)
    assert (lifespan.stage, is_set(lifespan.answered), is_set(lifespan.over)) == (Stage.RUNNING, True, False)
    assert seen == [("lifespan", {"version": "3.0", "spec_version": "2.0"}, {"type": "lifespan.startup"})]
    assert lifespan._state == {"pool": 1}
    lifespan.stopping.set()
    go_on()
    assert seen[1] == {"type": "lifespan.shutdown"}
    assert (lifespan.stage, is_set(lifespan.over)) == (Stage.STOPPED, True)


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise BROKEN


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None: ...


async def takes_it_for_a_request(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


async def says_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


@pytest.mark.parametrize("app", [raises_at_once, returns_at_once, takes_it_for_a_request, says_nothing])
def test_an_application_without_a_lifespan_is_served_without(app: Callable[..., Awaitable[None]]) -> None:
    lifespan, _ = lifespan_of(app)
    assert (lifespan.stage, is_set(lifespan.answered)) == (Stage.UNSUPPORTED, True)


@pytest.mark.parametrize(
    ("app", "says", "cause"),
    [
        (saying(NOT_UP), "the application's startup failed: why", None),
        (saying(NOT_UP, error=BROKEN), "the application's startup failed: why", BROKEN),
        (saying("lifespan.nonsense"), "the application's startup failed: LocalError(", Any),
        (saying(DOWN), "the application's startup failed: LocalError(", Any),
    ],
)
def test_a_startup_that_fails_is_one_line(app: Callable[..., Awaitable[None]], says: str, cause: Any) -> None:
    lifespan, _ = lifespan_of(app)
    assert (lifespan.stage, is_set(lifespan.answered)) == (Stage.STARTUP_FAILED, True)
    failure = lifespan.startup_failure()
    assert isinstance(failure, StartupFailed)
    assert str(failure).startswith(says)
    assert cause is Any or failure.__cause__ is cause


def test_who_has_heard_of_the_startup_and_fails_could_not_start() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise BROKEN

    lifespan, _ = lifespan_of(app)
    says = "the application's startup failed: ValueError('broken') (without a startup, return at once when "
    assert str(lifespan.startup_failure()).startswith(says)
    assert lifespan.startup_failure().__cause__ is BROKEN


def test_of_a_traceback_the_last_line_is_told_and_the_rest_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": NOT_UP, "message": "Traceback:\n  here\nValueError: broken\n\n"})

    failure = lifespan_of(app)[0].startup_failure()
    assert str(failure) == "the application's startup failed: ValueError: broken"
    assert failure.details.startswith("Traceback:\n")


def test_without_a_word_there_is_only_the_fact() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": NOT_UP})

    assert str(lifespan_of(app)[0].startup_failure()) == "the application's startup failed"


@pytest.mark.parametrize(
    ("app", "stage"),
    [
        (saying(UP, DOWN), Stage.STOPPED),
        (saying(UP, DOWN, "never said"), Stage.STOPPED),
        (saying(UP, DOWN, error=BROKEN), Stage.CRASHED),
        (saying(UP, NOT_DOWN), Stage.SHUTDOWN_FAILED),
        (saying(UP, NOT_DOWN, error=BROKEN), Stage.SHUTDOWN_FAILED),
        (saying(UP, UP), Stage.SHUTDOWN_FAILED),
    ],
)
def test_how_it_ends(app: Callable[..., Awaitable[None]], stage: Stage) -> None:
    lifespan, go_on = lifespan_of(app)
    lifespan.stopping.set()
    go_on()
    assert (lifespan.stage, is_set(lifespan.over)) == (stage, True)


@pytest.mark.parametrize(("error", "stage"), [(None, Stage.LEFT), (BROKEN, Stage.CRASHED)])
def test_an_application_may_end_before_it_is_told_to(error: Exception | None, stage: Stage) -> None:
    lifespan, _ = lifespan_of(saying(UP, error=error))
    assert (lifespan.stage, is_set(lifespan.over)) == (stage, True)


def test_a_shutdown_that_returns_without_a_word_has_shut_down() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": UP})
        await receive()

    lifespan, go_on = lifespan_of(app)
    lifespan.stopping.set()
    go_on()
    assert lifespan.stage is Stage.STOPPED
