"""The body of a request that does not come, as a coroutine sees it, on asyncio and trio."""

from typing import Any

import pytest

from h1core import Disconnected, Exchange, Limits, LocalError, Response, StreamingHandler
from h1core.events import EndOfMessage
from h1core.testing import Client

EXPECTS = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

on_both = pytest.mark.parametrize("driver", ["asyncio", "trio"])


@on_both
@pytest.mark.parametrize("most_requests", [1, 10])
def test_a_client_that_was_never_told_to_send_its_body_has_not_left(driver: str, most_requests: int) -> None:
    messages: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"do", "more_body": True})
            messages.append(await receive())
            await send({"type": "http.response.body", "body": b"ne"})

    limits = Limits(max_requests_per_connection=most_requests)
    with Client(app, driver=driver, limits=limits) as client:
        peer = client.connect()
        peer.send(EXPECTS)
        assert peer.answer().text == "done"
        assert peer.sees_end
        assert not peer.sees_reset
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]


@on_both
@pytest.mark.parametrize("most_requests", [1, 10])
def test_who_receives_after_the_response_has_begun_is_told_why_nothing_comes(driver: str, most_requests: int) -> None:
    failures: list[BaseException] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> None:
        await exchange.send(Response(200, (), None))
        try:
            await exchange.receive()
        except LocalError as error:
            failures.append(error)
        await exchange.send(EndOfMessage())

    limits = Limits(max_requests_per_connection=most_requests)
    with Client(handler, driver=driver, limits=limits) as client:
        peer = client.connect()
        peer.send(EXPECTS)
        assert peer.answer().status == 200
    assert len(failures) == 1
    assert "receive, then respond" in str(failures[0])


@on_both
@pytest.mark.parametrize("read_bytes", range(60, 71))
def test_a_body_that_is_refused_while_it_is_waited_for_is_lost_at_once(driver: str, read_bytes: int) -> None:
    """Where a read ends beside the mistake, the coroutine reads on by itself, and finds that there is no more."""
    failed_at: list[float] = []

    @StreamingHandler
    async def handler(exchange: Exchange) -> Response:
        try:
            await exchange.read()
        except Disconnected:
            failed_at.append(client.now)
            raise
        return Response(200)

    limits = Limits(initial_buffer_bytes=read_bytes)
    with Client(handler, driver=driver, limits=limits) as client:
        peer = client.connect()
        peer.send(CHUNKED + b"5\r\nhello\r\nx\r\n")
        assert peer.answer().status == 400
        assert failed_at == [0]
