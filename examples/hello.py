"""A page with an image and a form, an echo and a stream: a handler to try a server by hand.

h1core examples.hello:app
curl -v http://127.0.0.1:8000/stream
"""

import html
import struct
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl

from h1core import Request, Response

STREAM_LINES = 10


def png(width: int, height: int) -> bytes:
    """A picture of a colour gradient, without a library."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, red green blue
    rows = (b"\0" + bytes(v for x in range(width) for v in (4 * x, 4 * y, 160)) for y in range(height))
    pixels = zlib.compress(b"".join(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


LOGO = png(64, 64)

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core</title>
<h1><img src="/logo.png" alt="" width="64" height="64"> It works</h1>
<form method="post" action="/form">
  <label>Your name <input name="name"></label>
  <button>Send</button>
</form>
<p><a href="/stream">A stream</a>
"""


def page(text: str, status: int = 200) -> Response:
    return Response(status, [(b"content-type", b"text/html; charset=utf-8")], text.encode())


def index(request: Request) -> Response:
    return page(PAGE)


def logo(request: Request) -> Response:
    return Response(200, [(b"content-type", b"image/png"), (b"cache-control", b"max-age=3600")], LOGO)


def form(request: Request) -> Response:
    fields = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    rows = "".join(f"<dt>{html.escape(name)}<dd>{html.escape(value)}\n" for name, value in fields)
    return page(f'<!doctype html>\n<title>Sent</title>\n<h1>You sent</h1>\n<dl>\n{rows}</dl>\n<a href="/">Back</a>\n')


def echo(request: Request) -> Response:
    kind = dict(request.headers).get(b"content-type", b"application/octet-stream")
    return Response(200, [(b"content-type", kind)], request.body)


def stream(request: Request) -> Response:
    def lines() -> Iterator[bytes]:
        for number in range(1, STREAM_LINES + 1):
            yield b"line %d of %d\n" % (number, STREAM_LINES)

    return Response(200, [(b"content-type", b"text/plain; charset=utf-8")], lines())


ROUTES: dict[bytes, tuple[bytes, Callable[[Request], Response]]] = {
    b"/": (b"GET, HEAD", index),
    b"/logo.png": (b"GET, HEAD", logo),
    b"/form": (b"POST", form),
    b"/echo": (b"POST, PUT, PATCH", echo),
    b"/stream": (b"GET, HEAD", stream),
}
"""Path to the methods it allows and what answers them. A HEAD is answered like a GET: the server drops the body."""


def app(request: Request) -> Response:
    path = request.target.partition(b"?")[0]
    if path not in ROUTES:
        return page("<!doctype html>\n<title>Not found</title>\n<h1>There is nothing here</h1>\n", 404)
    allowed, answer = ROUTES[path]
    if request.method not in allowed.split(b", "):
        return Response(405, [(b"allow", allowed), (b"content-type", b"text/plain")], b"not this way\n")
    return answer(request)
