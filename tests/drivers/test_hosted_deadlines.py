"""Deadlines around requests that a coroutine has for a long time."""

from typing import Any

import anyio
import pytest

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
