"""Deadlines around requests that a coroutine has for a long time."""

from typing import Any

import anyio
import pytest

from h1core import Limits, Response, Timeouts
from h1core.testing import Client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await anyio.sleep(30)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_a_connection_is_still_closed_when_idle_after_a_request_that_outlived_its_deadlines(driver: str) -> None:
    with Client(slow_app, driver=driver) as client:
        peer = client.connect()
        peer.send(GET)
        client.wait(31)
        assert peer.answer().text == "x"
        client.wait(73)
        assert not peer.sees_end
        client.wait(2)
        assert peer.sees_end


async def quick_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_the_time_between_requests_counts_after_the_first_one_too(driver: str) -> None:
    """It is shorter here than what the connection was watched for when it came: its head's deadline."""
    with Client(quick_app, driver=driver, timeouts=Timeouts(keepalive_timeout=1)) as client:
        peer = client.connect()
        peer.send(GET)
        assert peer.answer().text == "x"
        client.wait(0.9)
        assert not peer.sees_end
        client.wait(0.2)
        assert peer.sees_end


@pytest.mark.parametrize("driver", ["selectors", "asyncio", "trio"])
def test_a_newcomer_takes_the_place_of_who_has_left_at_once(driver: str) -> None:
    handler = quick_app if driver != "selectors" else lambda request: Response(200, (), b"x")
    with Client(handler, driver=driver, limits=Limits(max_connections=1)) as client:
        first, second = client.connect(), client.connect()
        second.send(GET)
        assert second.answers() == []
        first.end()
        assert second.answer().text == "x"
