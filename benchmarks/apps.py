"""The same plain answer for WSGI and ASGI; nothing of h1core, so that its peers can load it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

BODY = b"Hello, world!\n"
WSGI_TEXT = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
ASGI_TEXT = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", WSGI_TEXT)
    return [BODY]


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": ASGI_TEXT})
    await send({"type": "http.response.body", "body": BODY})
