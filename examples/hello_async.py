"""An async page, a clock that ticks until its reader leaves, and an echo, on asyncio.

h1core examples.hello_async:app
curl -N http://127.0.0.1:8000/clock
"""

import asyncio
from collections.abc import AsyncGenerator

from h1core import Request, Response

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


async def clock() -> AsyncGenerator[bytes]:
    """A line a second."""
    seconds = 0
    while True:
        yield b"%d s\n" % seconds
        await asyncio.sleep(1)
        seconds += 1


async def app(request: Request) -> Response:
    path = request.target.partition(b"?")[0]
    if path == b"/":
        return Response(200, TEXT, b"Hello, world!\n")
    if path == b"/clock":
        return Response(200, TEXT, clock())
    if path == b"/echo":
        return Response(200, TEXT, request.body)
    return Response(404, TEXT, b"There is nothing here.\n")
