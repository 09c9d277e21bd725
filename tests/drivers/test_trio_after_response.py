"""What an application does after its response: nobody waits for it but the end of the server."""

import logging
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from h1core.drivers.trio_driver import serve

from h1core import Limits, Request, Response, Timeouts
from h1core.app.asgi import Message, Receive, Scope, Send
from h1core.app.exchange import Exchange, StreamingHandler
from h1core.errors import Disconnected
from h1core.testing import Client

from ..wire import answers, statuses
from .test_trio_asgi_memory import MemoryListener, rest, run, serving
from .trio_kit import GET, LAST_GET, http_handler

START: Message = {"type": "http.response.start", "status": 200}
END: Message = {"type": "http.response.body", "body": b""}
TASK_S = 1000.0
"""More than any deadline of a connection, and of a drain."""


def get(path: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: a", *fields, b"", b""])


def post(path: bytes, data: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path, len(data), data)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def answer(send: Send, data: bytes) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": data})


async def stream(send: Send, data: bytes) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": data, "more_body": True})
    await send(END)


class Site:
    """Answers with the path; below /task it then goes on for a while."""

    def __init__(self, work: Callable[[], Awaitable[None]] | None = None) -> None:
        self.work = work or partial(trio.sleep, TASK_S)
        self.begun: list[str] = []
        self.done: list[str] = []
        self.is_cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        self.begun.append(path)
        data = path.encode()
        if path == "/task/child":  # its own task waits while another answers
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, send, data)
                await self.go_on()
        elif path == "/task/stream-child":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream, send, data)
                await self.go_on()
        else:
            await (stream if path == "/task/stream" else answer)(send, data)
            if path.startswith("/task"):
                await self.go_on()
        self.done.append(path)

    async def go_on(self) -> None:
        try:
            await self.work()
        except trio.Cancelled:
            self.is_cancelled = True
            raise


async def ask(listener: MemoryListener, wire: bytes) -> bytes:
    client = await listener.connect()
    await client.send_all(wire)
    return await rest(client)


WAYS = [b"/task", b"/task/stream", b"/task/child", b"/task/stream-child"]


@pytest.mark.parametrize("path", WAYS)
def test_the_next_request_on_the_connection_is_answered_beside_it(path: bytes) -> None:
    async def test() -> None:
        site = Site()
        async with serving(site) as listener:
            client = await listener.connect()
            for pause in (0.0, 1.0):  # the next comes along with the first, and later
                await client.send_all(get(path) if pause else get(path) + get(path))
                await trio.sleep(pause)
            await client.send_all(LAST_GET)
            began_at = trio.current_time()
            wire = await rest(client)
            assert trio.current_time() == began_at
            assert [answer.body for answer in answers(wire)] == [path, path, path, b"/"]
            assert site.done == ["/"]
            await trio.sleep(TASK_S)
            assert site.done == ["/", *[path.decode()] * 3]

    run(test)


def test_one_that_ends_while_another_request_is_worked_on_changes_nothing_for_that() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            await trio.sleep(10)
        await answer(send, b"hello")
        if scope["path"] != "/":
            await trio.sleep(5)

    async def test() -> None:
        async with serving(app) as listener:
            began_at = trio.current_time()
            wire = await ask(listener, get(b"/task") + get(b"/late") + get(b"/", b"Connection: close"))
            assert statuses(wire) == [200] * 3
            assert trio.current_time() - began_at == 10

    run(test)


def test_a_response_that_is_the_last_ends_the_connection_at_once() -> None:
    async def test() -> None:
        async with serving(Site()) as listener:
            began_at = trio.current_time()
            assert statuses(await ask(listener, get(b"/task", b"Connection: close"))) == [200]
            assert trio.current_time() == began_at

    run(test)


def test_its_connection_has_its_deadlines_meanwhile() -> None:
    async def test() -> None:
        site = Site()
        async with serving(site, timeouts=Timeouts(keepalive_timeout=75.0, head_timeout=10.0)) as listener:
            began_at = trio.current_time()
            assert statuses(await ask(listener, get(b"/task"))) == [200]
            assert trio.current_time() - began_at == 75.0
            assert statuses(await ask(listener, get(b"/task") + b"GET /")) == [200, 408]
            assert trio.current_time() - began_at == 85.0
            assert site.done == []

    run(test)


# Failures.


class Foreign:
    """To be awaited in another library's loop."""

    def __await__(self) -> Generator[str, None, None]:
        yield "what trio does not know"

    @staticmethod
    async def nothing() -> None:
        """Return without having waited."""

    @staticmethod
    async def wait() -> None:
        await Foreign()


async def fail() -> None:
    await trio.sleep(1)
    raise ValueError("mine")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (fail, "ValueError: mine"),
        (Foreign.wait, "this application is written for asyncio: serve it with --driver asyncio"),
    ],
)
def test_its_failure_is_logged_once_and_no_requests(
    work: Callable[[], Awaitable[None]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(Site(work)) as listener:
            client = await listener.connect()
            await client.send_all(get(b"/task") + GET)
            await trio.sleep(2)
            await client.send_all(LAST_GET)
            assert statuses(await rest(client)) == [200, 200, 200]

    run(test)
    assert len(warnings(caplog)) == 1
    assert caplog.text.count(said) == 1


def test_a_cancellation_that_gets_loose_in_it_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """As an async generator lets one, that yields within a cancel scope."""

    async def work() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                loose = cancelled
        raise loose

    async def test() -> None:
        async with serving(Site(work)) as listener:
            client = await listener.connect()
            await client.send_all(get(b"/task"))
            await trio.sleep(1)
            await client.send_all(LAST_GET)
            assert statuses(await rest(client)) == [200, 200]

    run(test)
    assert warnings(caplog) == ["the handler failed on GET /task HTTP/1.1"]


def test_its_exchange_is_over(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, scope["path"].encode())
        if scope["path"] == "/task":
            await trio.sleep(1)
            told.extend([(await receive())["type"] for _ in range(2)])
            await answer(send, b"once more")

    async def test() -> None:
        async with serving(app) as listener:
            client = await listener.connect()
            await client.send_all(get(b"/task"))
            await trio.sleep(0.5)
            await client.send_all(b"GET / HTT")  # the next request, while the first looks for its own
            await trio.sleep(1)
            await client.send_all(b"P/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert [answer.body for answer in answers(await rest(client))] == [b"/task", b"/"]

    run(test)
    assert told == ["http.disconnect", "http.disconnect"]
    assert "the response is complete; a request has one response" in caplog.text


# Two tasks at one connection.


def test_who_waits_for_a_body_gets_nothing_of_the_next_request() -> None:
    """A task waits for the body of the first request when that is answered."""
    told: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/task":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, receive)
                await trio.testing.wait_all_tasks_blocked()
                await answer(send, b"task")
                await trio.sleep(TASK_S)
        else:
            await answer(send, (await receive())["body"])

    async def listen(receive: Receive) -> None:
        told.extend([await receive(), await receive()])

    async def test() -> None:
        async with serving(app) as listener:
            client = await listener.connect()
            await client.send_all(post(b"/task", b"abcd")[:-4])
            await trio.sleep(1)
            await client.send_all(b"abcd" + post(b"/", b"1234") + LAST_GET)
            assert [answer.body for answer in answers(await rest(client))] == [b"task", b"1234", b""]

    run(test)
    assert [message["type"] for message in told] == ["http.disconnect", "http.disconnect"]


def test_who_asks_for_a_body_too_late_stops_no_deadline_of_the_next_request() -> None:
    refused: list[Disconnected] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/":
            await exchange.read()
            return
        await exchange.send(Response(200, (), b"hello"))
        await trio.sleep(5)
        with pytest.raises(Disconnected) as info:
            await exchange.receive()
        refused.append(info.value)

    async def test() -> None:
        listener = MemoryListener()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, handler, listeners=[listener], timeouts=Timeouts(body_timeout=60.0)))
            client = await listener.connect()
            await client.send_all(post(b"/task", b"all") + post(b"/", b"a part")[:-1])
            began_at = trio.current_time()
            with trio.fail_after(TASK_S):
                assert statuses(await rest(client)) == [200, 408]
            assert 60.0 <= trio.current_time() - began_at <= 61.0
            nursery.cancel_scope.cancel()

    run(test)
    assert len(refused) == 1


@pytest.mark.parametrize("path", [*WAYS, b"/elsewhere"])
def test_what_the_client_does_not_take_at_once_reaches_it_whole_and_once(path: bytes) -> None:
    """Whichever task writes the first response, while the client has sent its next request."""
    nurseries: list[trio.Nursery] = []

    class LargeSite(Site):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            send = self._enlarge(send)
            if scope["path"] == "/elsewhere":  # in a task that the application does not wait for
                nurseries[0].start_soon(answer, send, b"/elsewhere")
                await trio.testing.wait_all_tasks_blocked()
            else:
                await super().__call__(scope, receive, send)

        def _enlarge(self, send: Send) -> Send:
            async def send_more(message: Message) -> None:
                await send({**message, "body": message["body"] * 20_000} if message.get("body") else message)

            return send_more

    async def test() -> None:
        listener = MemoryListener()
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
            await nursery.start(partial(serve, http_handler(LargeSite()), listeners=[listener]))
            client, server = trio.testing.lockstep_stream_pair()
            await listener._to_accept.send(server)
            await client.send_all(get(path) + get(b"/b") + get(b"/c", b"Connection: close"))
            wire = b""
            while data := await client.receive_some(7000):
                wire += data
                await trio.sleep(0.01)
            assert [answer.body for answer in answers(wire)] == [path * 20_000, b"/b" * 20_000, b"/c" * 20_000]
            nursery.cancel_scope.cancel()

    run(test)


def test_who_makes_sure_again_and_again_that_its_response_was_written_changes_nothing() -> None:
    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        async def respond() -> None:
            await exchange.send(Response(200, (), b"hello"))
            await exchange.flush()
            await exchange.flush()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(respond)
            await trio.sleep(1)

    async def test() -> None:
        listener = MemoryListener()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, handler, listeners=[listener]))
            assert statuses(await ask(listener, GET + GET + LAST_GET)) == [200] * 3
            await trio.sleep(2)
            nursery.cancel_scope.cancel()

    run(test)


# The end of the server, and bounds.


@pytest.mark.parametrize(("takes_s", "is_cancelled"), [(29.0, False), (TASK_S, True)])
@pytest.mark.parametrize("path", [b"/task", b"/task/child"])
@pytest.mark.parametrize("connection", ["idle", "closed"])
def test_a_drain_waits_for_it_until_its_deadline(
    connection: str, path: bytes, takes_s: float, is_cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(partial(trio.sleep, takes_s))

    async def test() -> None:
        listener = MemoryListener()
        drain = trio.Event()
        async with trio.open_nursery() as nursery:
            options: dict[str, Any] = {"drain": drain, "timeouts": Timeouts(drain_timeout=30.0)}
            has_ended = trio.Event()

            async def run_server(task_status: Any) -> None:
                await serve(http_handler(site), listeners=[listener], task_status=task_status, **options)
                has_ended.set()

            await nursery.start(run_server)
            client = await listener.connect()
            await client.send_all(get(path))
            if connection == "closed":
                await trio.testing.wait_all_tasks_blocked()
                await client.aclose()
            await trio.testing.wait_all_tasks_blocked()
            began_at = trio.current_time()
            drain.set()
            await has_ended.wait()
            assert trio.current_time() - began_at == min(takes_s, 30.0)

    run(test)
    assert site.is_cancelled == is_cancelled
    assert warnings(caplog) == ["work after responses is cancelled: 1 handlers"] * is_cancelled


def test_a_shutdown_comes_after_it() -> None:
    life: list[str] = []

    async def work() -> None:
        await trio.sleep(20)
        life.append("done")

    site = Site(work)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await site(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        life.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    with Client(app, driver="trio") as client:
        peer = client.connect()
        peer.send(get(b"/task"))
        assert peer.answer().body == b"/task"
        client.begin_drain()
        client.wait(25)
    assert life == ["done", "shutdown"]


def test_there_may_be_as_many_as_connections_and_beyond_a_connection_waits() -> None:
    site = Site()

    async def test() -> None:
        async with serving(site, limits=Limits(max_connections=2)) as listener:
            client = await listener.connect()
            await client.send_all(get(b"/task") * 4)
            await trio.sleep(1)
            assert site.begun == ["/task"] * 3  # two have been left behind; the third holds the connection
            other = await listener.connect()
            await other.send_all(LAST_GET)
            assert statuses(await rest(other)) == [200]
            await trio.sleep(TASK_S)
            assert site.begun == ["/task"] * 3 + ["/"] + ["/task"]

    run(test)


def test_one_that_waits_again_lets_its_connection_go_when_there_is_room() -> None:
    goes_on = trio.Event()

    async def work() -> None:
        await goes_on.wait()
        await trio.sleep(TASK_S)

    site = Site(work)

    async def test() -> None:
        async with serving(site, limits=Limits(max_connections=2)) as listener:
            client = await listener.connect()
            await client.send_all(get(b"/task") * 3 + get(b"/", b"Connection: close"))
            await trio.sleep(1)
            assert site.begun == ["/task"] * 3
            site.work = partial(trio.sleep, TASK_S)
            goes_on.set()
            await trio.sleep(1)
            assert site.begun == ["/task"] * 3
            await trio.sleep(TASK_S)
            assert site.begun == ["/task"] * 3 + ["/"]

    run(test)


USER: ContextVar[object] = ContextVar("USER")


async def wait_before(send: Send) -> None:
    await trio.sleep(1)
    await answer(send, b"hello")


async def wait_after(send: Send) -> None:
    await answer(send, b"hello")
    await trio.sleep(1)


async def wait_beside(send: Send) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, send, b"hello")
        await trio.sleep(1)


class Incomparable:
    def __eq__(self, other: object) -> bool:
        raise ValueError("mine")

    __hash__ = object.__hash__


@pytest.mark.parametrize("value", ["somebody", Incomparable()])
@pytest.mark.parametrize("respond", [partial(answer, data=b"hello"), wait_before, wait_after, wait_beside])
def test_no_request_sees_a_context_variable_of_another(
    respond: Callable[[Send], Awaitable[None]], value: object
) -> None:
    nobody = Incomparable()
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        seen.append(USER.get())
        USER.set(value)
        await respond(send)
        assert USER.get() is value

    async def test() -> None:
        USER.set(nobody)
        async with serving(app) as listener:
            assert statuses(await ask(listener, GET + GET + LAST_GET)) == [200, 200, 200]
            await trio.sleep(2)

    run(test)
    assert len(seen) == 3
    assert all(user is nobody for user in seen)


def test_nor_does_a_request_of_a_handler_that_returns_its_response() -> None:
    async def handler(request: Request) -> Response:
        seen = USER.get("nobody")
        USER.set("somebody")
        return Response(200, (), str(seen).encode())

    with Client(handler, driver="trio") as client:
        peer = client.connect()
        peer.send(GET + GET)
        assert [answer.text for answer in peer.answers()] == ["nobody"] * 2
