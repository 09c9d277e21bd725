"""Quart-Trio, unmodified, on the trio driver. It listens for every client's leaving, and cancels the request then."""

import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from h1core.drivers.net.listeners import listen
from h1core.drivers.trio_driver import serve
from quart import request
from quart_trio import QuartTrio

from h1core.addresses import parse_address
from h1core.app.asgi import AsgiHandler

from ..wire import answers
from .kit import Site, complaints, run


def make_app(life: list[str], has_ended: trio.Event) -> QuartTrio:
    app = QuartTrio(__name__)

    @app.before_serving
    async def up() -> None:
        life.append("up")

    @app.after_serving
    async def down() -> None:
        life.append("down")

    @app.route("/json", methods=["POST"])
    async def json() -> dict[str, object]:
        return {"got": await request.get_json()}

    @app.route("/upload", methods=["POST"])
    async def upload() -> str:
        size = 0
        async for piece in request.body:
            size += len(piece)
        return str(size)

    @app.route("/events")
    async def events() -> tuple[AsyncIterator[bytes], dict[str, str]]:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"data: hello\n\n"
                await trio.sleep_forever()
            finally:
                has_ended.set()

        return pieces(), {"content-type": "text/event-stream"}

    @app.route("/slow")
    async def slow() -> str:
        await trio.testing.wait_all_tasks_blocked(0.01)
        return "slow"

    @app.route("/fail")
    async def fail() -> str:
        raise ValueError("mine")

    return app


def test_an_application_with_most_of_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    life: list[str] = []

    async def test(site: Site) -> None:
        http = site.http
        assert (await http.post("/json", json=[1])).json() == {"got": [1]}
        assert (await http.post("/upload", content=bytes(3_000_000))).text == "3000000"
        assert (await http.get("/fail")).status_code == 500
        assert (await http.get("/nowhere")).status_code == 404

    run(make_app(life, trio.Event()), test)
    assert life == ["up", "down"]
    assert [text for text in complaints(caplog) if not text.startswith("Exception on request GET /fail")] == []


def test_events_end_when_their_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    has_ended = trio.Event()

    async def test(site: Site) -> None:
        client = await site.connect(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"data: hello\n\n")
        await client.stream.aclose()
        await has_ended.wait()

    run(make_app([], has_ended), test)
    assert complaints(caplog) == []


def test_who_closes_its_side_along_with_its_request_gets_its_answer() -> None:
    async def main() -> None:
        app = make_app([], trio.Event())
        listener = listen(parse_address("127.0.0.1:0"))
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, AsgiHandler(app), listeners=[listener]))
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
            wire = b"".join([data async for data in stream])
            await stream.aclose()
            nursery.cancel_scope.cancel()
        assert answers(wire)[0].body == b"slow"

    trio.run(main)
