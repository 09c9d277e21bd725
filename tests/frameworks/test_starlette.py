"""Starlette, unmodified, on the trio driver."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from h1core.drivers.trio_driver import serve
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from examples import starlette_page
from h1core import Timeouts
from h1core.app.asgi import AsgiHandler
from h1core.testing import Client

from ..wire import answers, statuses
from .kit import Site, complaints, run, serving

Endpoint = Callable[[Request], Awaitable[Response]]


def site_of(endpoint: Endpoint, *methods: str, **options: Any) -> Starlette:
    return Starlette(routes=[Route("/", endpoint, methods=methods or ["GET"])], **options)


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, b"Host: a", *fields, b"", b""])


async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


MIDDLEWARES = [(), (Middleware(BaseHTTPMiddleware, dispatch=pass_on),)]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_json_both_ways(middleware: tuple[Middleware, ...]) -> None:
    async def endpoint(request: Request) -> Response:
        return JSONResponse({"got": await request.json(), "query": dict(request.query_params)}, 201)

    async def test(site: Site) -> None:
        for _ in range(2):
            response = await site.http.post("/?q=%C3%BC", json={"a": [1, 2]})
            assert (response.status_code, response.json()) == (201, {"got": {"a": [1, 2]}, "query": {"q": "ü"}})

    run(site_of(endpoint, "POST", middleware=middleware), test)


def test_a_form_with_a_file() -> None:
    async def endpoint(request: Request) -> Response:
        async with request.form() as form:
            file = form["file"]
            assert isinstance(file, UploadFile)
            return JSONResponse({"name": form["name"], "file": file.filename, "size": len(await file.read())})

    async def test(site: Site) -> None:
        sent = await site.http.post("/", data={"name": "ü"}, files={"file": ("a.bin", bytes(3_000_000))})
        assert sent.json() == {"name": "ü", "file": "a.bin", "size": 3_000_000}

    run(site_of(endpoint, "POST"), test)


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_a_streamed_response(middleware: tuple[Middleware, ...]) -> None:
    async def endpoint(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"%d," % number * 1000

        return StreamingResponse(pieces())

    async def test(site: Site) -> None:
        response = await site.http.get("/")
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.content == b"".join(b"%d," % number * 1000 for number in range(100))

    run(site_of(endpoint, middleware=middleware), test)


def test_a_file_whole_in_part_and_not_at_all(tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("0123456789")

    async def endpoint(request: Request) -> Response:
        return FileResponse(tmp_path / "a.txt")

    async def test(site: Site) -> None:
        assert (await site.http.get("/")).text == "0123456789"
        part = await site.http.get("/", headers={"range": "bytes=2-4"})
        assert (part.status_code, part.text) == (206, "234")
        head = await site.http.head("/")
        assert (head.headers["content-length"], head.content) == ("10", b"")

    run(site_of(endpoint, "GET", "HEAD"), test)


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_a_background_task_runs_after_the_response_and_no_request_waits_for_it(
    middleware: tuple[Middleware, ...],
) -> None:
    goes_on, has_ended = trio.Event(), trio.Event()
    done: list[str] = []

    async def task() -> None:
        await goes_on.wait()
        done.append("task")
        has_ended.set()

    async def endpoint(request: Request) -> Response:
        wants_task = request.query_params.get("task")
        done.append("request")
        return PlainTextResponse("hello", background=BackgroundTask(task) if wants_task else None)

    async def test(site: Site) -> None:
        client = await site.connect(get(b"/?task=1") + get(b"/", b"Connection: close"))
        assert statuses(await client.rest()) == [200, 200]
        for path in ("/?task=", "/?task=1", "/"):  # on one connection
            assert (await site.http.get(path)).text == "hello"
        assert done == ["request"] * 5
        goes_on.set()
        await has_ended.wait()
        assert "task" in done

    run(site_of(endpoint, middleware=middleware), test)


@pytest.mark.parametrize(("takes_s", "ends"), [(1.0, True), (1000.0, False)])
def test_a_drain_waits_for_background_tasks_and_cancels_them_at_its_deadline(takes_s: float, ends: bool) -> None:
    done: list[str] = []

    async def task() -> None:
        await trio.sleep(takes_s)
        done.append("task")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("hello", background=BackgroundTask(task))

    app = site_of(endpoint)
    with Client(app, driver="trio", timeouts=Timeouts(drain_timeout=30.0)) as client:
        peer = client.connect()
        peer.send(get())
        assert peer.answer().text == "hello"
        client.begin_drain()
        client.wait(0.5)
        assert peer.sees_end
        was_over = client.is_over
        client.wait(30.0)
        assert (was_over, client.is_over) == (False, True)
    assert done == ["task"] * ends


def test_the_lifespans_state_is_in_every_request() -> None:
    life: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        life.append("up")
        yield {"pool": "a pool"}
        life.append("down")

    async def endpoint(request: Request) -> Response:
        request.state.mine = 1
        return PlainTextResponse(request.state.pool)

    async def test(site: Site) -> None:
        assert [(await site.http.get("/")).text for _ in range(2)] == ["a pool", "a pool"]
        assert life == ["up"]

    run(site_of(endpoint, lifespan=lifespan), test)
    assert life == ["up", "down"]


class Events:
    """Server-sent events: one, and then none until somebody cancels it."""

    def __init__(self) -> None:
        self.has_ended = trio.Event()
        self.is_cancelled = False

    async def answer(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[str]:
            try:
                yield "data: hello\n\n"
                await trio.sleep_forever()
            except trio.Cancelled:
                self.is_cancelled = True
                raise
            finally:
                self.has_ended.set()

        return StreamingResponse(pieces(), media_type="text/event-stream")


@pytest.mark.parametrize("middleware", MIDDLEWARES)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_events_end_when_their_client_leaves(
    how: str, middleware: tuple[Middleware, ...], caplog: pytest.LogCaptureFixture
) -> None:
    events = Events()

    async def test(site: Site) -> None:
        client = await site.connect(get())
        await client.until(b"data: hello\n\n")
        await (client.stream.aclose() if how == "close" else client.reset())
        await events.has_ended.wait()
        assert events.is_cancelled

    run(Starlette(routes=[Route("/", events.answer)], middleware=middleware), test)
    assert complaints(caplog) == []


def test_events_end_with_the_drain() -> None:
    events = Events()

    async def main() -> None:
        async with serving(
            Starlette(routes=[Route("/", events.answer)]), timeouts=Timeouts(drain_timeout=0.05)
        ) as site:
            client = await site.connect(get())
            await client.until(b"data: hello\n\n")
            site.server.begin_drain()
            await events.has_ended.wait()
            assert not (await client.rest()).endswith((b"[reset]", b"0\r\n\r\n"))

    trio.run(main)


def test_who_asks_is_told_of_a_client_that_has_left() -> None:
    """Request.is_disconnected: what spares a model its work for nobody."""
    begun, left, has_ended = trio.Event(), trio.Event(), trio.Event()
    seen: list[bool] = []

    async def endpoint(request: Request) -> Response:
        await request.body()
        seen.append(await request.is_disconnected())
        begun.set()
        await left.wait()
        seen.append(await request.is_disconnected())
        has_ended.set()
        return PlainTextResponse("for nobody")

    async def test(site: Site) -> None:
        client = await site.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
        await begun.wait()
        await client.stream.aclose()
        left.set()
        await has_ended.wait()
        assert seen == [False, True]

    run(site_of(endpoint, "POST"), test)


def test_a_body_that_breaks_off_is_a_client_disconnect(caplog: pytest.LogCaptureFixture) -> None:
    begun, has_ended = trio.Event(), trio.Event()

    async def endpoint(request: Request) -> Response:
        try:
            async for _ in request.stream():
                begun.set()
        except ClientDisconnect:
            has_ended.set()
            raise
        raise AssertionError("the body was half")

    async def test(site: Site) -> None:
        client = await site.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        await begun.wait()
        await client.stream.aclose()
        await has_ended.wait()

    run(site_of(endpoint, "POST"), test)
    assert complaints(caplog) == []


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_an_exception_is_starlettes_500_and_in_the_log(
    middleware: tuple[Middleware, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(request: Request) -> Response:
        raise ValueError("mine")

    async def test(site: Site) -> None:
        response = await site.http.get("/")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert (await site.http.get("/nowhere")).status_code == 404

    run(site_of(endpoint, middleware=middleware), test)
    assert complaints(caplog) == ["the handler failed on GET / HTTP/1.1"]
    assert "ValueError: mine" in caplog.text


def test_an_exception_in_a_stream_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    async def endpoint(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"hello"
            raise ValueError("mine")

        return StreamingResponse(pieces())

    async def test(site: Site) -> None:
        client = await site.connect(get())
        assert b"\r\n0\r\n" not in await client.rest()

    run(site_of(endpoint), test)
    assert [record.levelno for record in caplog.records if record.name == "h1core.server"] == [logging.ERROR] * 2


def test_a_mount_below_a_root_path() -> None:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("here", name="x")))

    app = Starlette(routes=[Mount("/sub", routes=[Route("/{name}", endpoint, name="here")])])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            handler = AsgiHandler(app, root_path="/shop")
            [address] = await nursery.start(
                lambda task_status: serve(handler, ["127.0.0.1:0"], task_status=task_status)
            )
            for path in (b"/sub/x", b"/shop/sub/x"):
                stream = await trio.open_tcp_stream(*address)
                await stream.send_all(get(path, b"Connection: close"))
                wire = b"".join([data async for data in stream])
                await stream.aclose()
                assert answers(wire)[0].body == b"http://a/shop/sub/x"
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_the_example_answers(capsys: pytest.CaptureFixture[str]) -> None:
    async def test(site: Site) -> None:
        assert "<form" in (await site.http.get("/")).text
        sent = await site.http.post("/form", data={"name": "<b>"}, files={"file": ("a", b"12345")})
        assert "Hello, &lt;b&gt;: 5 bytes." in sent.text
        assert (await site.http.get("/state")).json() == {"greeting": "hello from the lifespan"}
        client = await site.connect(get(b"/events"))
        await client.until(b"data: tick 0\n\n")

    run(starlette_page.app, test)
    assert capsys.readouterr().out.splitlines() == ["starting up", "after the response: <b> 5", "shutting down"]
