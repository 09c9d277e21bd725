"""Applications that hold their server: slowly read bodies, events that do not come, sleeps. For held.py."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

PIECE = b"x" * 65536
PIECES = 208  # 13 MiB
TICK_S = 0.1


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Each path holds a worker in its own way; `/fast` does not."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    match environ["PATH_INFO"]:
        case "/large":
            return (PIECE for _ in range(PIECES))
        case "/quiet":
            return quiet()
        case "/blocked":
            return blocked()
        case "/ticks":
            return ticks()
        case "/sleep":
            time.sleep(30)
    return [b"Hello, world!\n"]


def quiet() -> Iterator[bytes]:
    """One event, and then nothing, though it looks for news all the time."""
    yield b"data: first\n\n"
    while True:
        time.sleep(TICK_S)
        yield b""


def blocked() -> Iterator[bytes]:
    """One event, and the next one comes late."""
    yield b"data: first\n\n"
    time.sleep(20)
    yield b"data: last\n\n"


def ticks() -> Iterator[bytes]:
    """Events without end."""
    while True:
        yield b"data: tick\n\n"
        time.sleep(TICK_S)


def inline(request: Any) -> Any:
    """A handler for a server without threads: an endless stream, that takes no time."""
    from h1core import Response

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"data: tick\n\n" * 50

    return Response(200, [], pieces())


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """`/ticks` sends all the time, `/awaits` waits for ever, `/poll` waits for its client to leave."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/poll":
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": path != "/poll"})
        if path == "/awaits":
            await sleep(3600)
        while path == "/ticks":
            await sleep(TICK_S)
            await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
    except OSError:
        await send({"type": "http.response.body", "body": b"data: bye\n\n"})


async def sleep(seconds: float) -> None:
    """Sleep on either loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
