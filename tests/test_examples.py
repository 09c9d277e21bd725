"""The examples answer what they promise; they are called directly, without a server."""

import struct
import zlib
from collections.abc import Iterator

import pytest

from examples import hello_async
from examples.hello import LOGO, STREAM_LINES, app
from h1core import Request, Response
from h1core.testing import Client

HOST = [(b"host", b"example.org")]


def ask(method: bytes, target: bytes, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    return app(Request(method, target, HOST + (headers or []), body))


def body_of(response: Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def test_the_page_shows_the_image_and_the_form() -> None:
    response = ask(b"GET", b"/?from=here")
    assert (response.status, response.headers) == (200, [(b"content-type", b"text/html; charset=utf-8")])
    assert b'<img src="/logo.png"' in body_of(response)
    assert b'action="/form"' in body_of(response)


def test_head_is_answered_like_get() -> None:
    assert ask(b"HEAD", b"/") == ask(b"GET", b"/")


def test_the_image_is_a_whole_png() -> None:
    response = ask(b"GET", b"/logo.png")
    assert dict(response.headers)[b"content-type"] == b"image/png"
    assert response.body == LOGO
    kinds, at = [], 8
    pixels = b""
    while at < len(LOGO):
        (length,) = struct.unpack_from(">I", LOGO, at)
        kind, content = LOGO[at + 4 : at + 8], LOGO[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", LOGO, at + 8 + length) == (zlib.crc32(kind + content),)
        kinds.append(kind)
        if kind == b"IDAT":
            pixels = zlib.decompress(content)
        at += 12 + length
    assert LOGO.startswith(b"\x89PNG\r\n\x1a\n")
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert len(pixels) == 64 * (1 + 3 * 64)


def test_the_form_shows_what_was_sent_and_nothing_that_runs() -> None:
    response = ask(b"POST", b"/form", b"name=%3Cscript%3E+%26+%C3%BC&empty=&bad=%FF")
    assert response.status == 200
    text = body_of(response).decode()
    assert "<dt>name<dd>&lt;script&gt; &amp; ü\n" in text
    assert "<dt>empty<dd>\n" in text
    assert "<script>" not in text


@pytest.mark.parametrize("body", [b"", b"\xff\xfe=\x00", b"&&&=", b"%zz=%"])
def test_the_form_takes_any_bytes(body: bytes) -> None:
    assert ask(b"POST", b"/form", body).status == 200


def test_echo_gives_the_body_back_under_its_type() -> None:
    response = ask(b"POST", b"/echo", b"\x00\xff", [(b"content-type", b"image/x-tiny")])
    assert (response.status, response.headers, response.body) == (
        200,
        [(b"content-type", b"image/x-tiny")],
        b"\x00\xff",
    )
    assert ask(b"PUT", b"/echo").headers == [(b"content-type", b"application/octet-stream")]


def test_the_stream_comes_in_pieces() -> None:
    response = ask(b"GET", b"/stream")
    assert isinstance(response.body, Iterator)
    pieces = list(response.body)
    assert len(pieces) == STREAM_LINES
    assert pieces[-1] == b"line 10 of 10\n"


def test_anything_else_is_not_found() -> None:
    assert ask(b"GET", b"/nothing").status == 404
    assert ask(b"OPTIONS", b"*").status == 404


@pytest.mark.parametrize(("method", "target", "allow"), [(b"GET", b"/form", b"POST"), (b"PUT", b"/", b"GET, HEAD")])
def test_a_method_that_does_not_fit_is_told_which_do(method: bytes, target: bytes, allow: bytes) -> None:
    response = ask(method, target)
    assert response.status == 405
    assert (b"allow", allow) in response.headers


# The async one.


def test_the_async_one_answers_echoes_and_knows_nothing_else() -> None:
    with Client(hello_async.app) as client:
        assert client.get("/?x").text == "Hello, world!\n"
        assert client.post("/echo", b"hello").text == "hello"
        assert client.get("/nothing").status == 404


def test_the_clock_ticks_a_second_at_a_time() -> None:
    with Client(hello_async.app) as client:
        peer = client.connect()
        peer.send(b"GET /clock HTTP/1.0\r\nHost: a\r\n\r\n")
        client.wait(2.5)
        assert peer.read().endswith(b"\r\n\r\n0 s\n1 s\n2 s\n")
        peer.reset()
