"""What becomes of a handler's reply."""

import array
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from h1core.app.handler import FileBody, SpooledRequest, WholeBody, close_pieces, first_part
from h1core.errors import LocalError
from h1core.events import Endpoints, Request, Response

GET = Request(b"GET", b"/", [(b"host", b"a")])
HEAD = Request(b"HEAD", b"/", [(b"host", b"a")])
TYPE = (b"content-type", b"text/plain")


class Closing:
    """An iterable of pieces that is not its own iterator, as WSGI applications return them."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"one", b"two"])

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("body", [b"hello", b"", bytearray(b"hello"), memoryview(b"hello")])
def test_a_whole_body_is_passed_on_as_it_is(body: bytes) -> None:
    response = Response(200, [TYPE], body)
    assert first_part(GET, response) == (response, None)
    assert first_part(GET, response)[0] is response


@pytest.mark.parametrize("body", [[b"one", b"two"], (b"one", b"two"), iter([b"one", b"two"]), Closing()])
def test_an_iterable_body_is_a_head_and_its_pieces(body: Any) -> None:
    head, pieces = first_part(GET, Response(201, [TYPE], body))
    assert head == Response(201, [TYPE], None)
    assert pieces is not None
    assert list(pieces) == [b"one", b"two"]


@pytest.mark.parametrize("reply", [None, b"hello", (200, [], b""), Response, object()])
def test_what_is_no_response_is_refused_with_its_type(reply: Any) -> None:
    with pytest.raises(LocalError, match=rf"^a handler returns h1core\.Response, not {type(reply).__name__}$"):
        first_part(GET, reply)


@pytest.mark.parametrize("request_", [GET, HEAD])
@pytest.mark.parametrize("body", ["text", None, 5])
def test_what_is_no_body_is_refused_with_its_type(request_: Request, body: Any) -> None:
    with pytest.raises(LocalError, match=rf"^a handler's body is bytes or an iterable .*not {type(body).__name__}$"):
        first_part(request_, Response(200, (), body))


# HEAD.


@pytest.mark.parametrize(
    ("body", "length"),
    [(b"hello", b"5"), (bytearray(b"hello"), b"5"), (memoryview(array.array("I", [1, 2])), b"8")],
)
def test_head_gets_what_get_would_have_got_without_the_body(body: bytes, length: bytes) -> None:
    response = Response(200, [TYPE], body)
    head, pieces = first_part(HEAD, response)
    assert (head.status, list(head.headers), head.body) == (200, [TYPE, (b"content-length", length)], b"")
    assert pieces is None
    assert response.headers == [TYPE], "the handler may use its lists again"


def test_head_keeps_the_length_that_the_handler_gave() -> None:
    head, _ = first_part(HEAD, Response(200, [(b"Content-Length", b"5")], b"hello"))
    assert list(head.headers) == [(b"Content-Length", b"5")]


class Closes:
    """Pieces that note when they are closed."""

    def __init__(self, pieces: Iterator[bytes], closed: list[bool]) -> None:
        self._pieces = pieces
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self._closed.append(True)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_the_pieces_of_a_response_without_content_are_not_asked_for(status: int) -> None:
    pieces = iter([b"asked for"])
    closed: list[bool] = []
    first, rest = first_part(GET, Response(status, [TYPE], Closes(pieces, closed), b"Why"))
    assert first == Response(status, [TYPE], b"", b"Why")
    assert rest is None
    assert (list(pieces), closed) == ([b"asked for"], [True])


def test_head_without_a_body_is_passed_on() -> None:
    response = Response(200, [TYPE])
    assert first_part(HEAD, response)[0] is response


def test_head_asks_a_stream_for_nothing_and_closes_it() -> None:
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        asked.append(1)
        yield b"piece"

    generator = pieces()
    head, rest = first_part(HEAD, Response(200, [TYPE], generator))
    assert (head, rest) == (Response(200, [TYPE]), None)
    assert next(generator, None) is None
    assert asked == []


def test_head_closes_an_iterable_that_is_not_its_iterator() -> None:
    body = Closing()
    first_part(HEAD, Response(200, (), body))
    assert body.closed == 1


# Cleaning up.


def test_closing_the_pieces_closes_what_the_handler_returned() -> None:
    """puma's GHSA-rmj8-8hhh-gv5h: a body whose `close` is not called leaks into the next request."""
    body = Closing()
    _, pieces = first_part(GET, Response(200, (), body))
    assert pieces is not None
    assert next(pieces) == b"one"
    assert body.closed == 0
    close_pieces(pieces)
    assert body.closed == 1


def test_closing_the_pieces_also_ends_a_generator_behind_them() -> None:
    ended: list[str] = []

    class Body(Closing):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield b"one"
            finally:
                ended.append("generator")

        def close(self) -> None:
            ended.append("body")

    _, pieces = first_part(GET, Response(200, (), Body()))
    assert pieces is not None
    next(pieces)
    close_pieces(pieces)
    assert ended == ["generator", "body"]


def test_closing_ends_a_generator_where_it_is() -> None:
    ended: list[bool] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append(True)

    generator = pieces()
    next(generator)
    close_pieces(generator)
    assert ended == [True]


@pytest.mark.parametrize("pieces", [None, iter([b"one"]), [b"one"]])
def test_what_has_no_close_needs_none(pieces: object) -> None:
    close_pieces(pieces)


def test_what_close_raises_comes_out() -> None:
    class Broken:
        def close(self) -> None:
            raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        close_pieces(Broken())


# A body in a file.


class CountedFile(BytesIO):
    """It remembers how often all of it was read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


ENDPOINTS = Endpoints(("127.0.0.1", 5), None)


def spooled(body: bytes) -> tuple[SpooledRequest, CountedFile]:
    head = Request(b"PUT", b"/a?b", [(b"host", b"a")], version=b"1.0", end_stream=False, trailers=[(b"x-sum", b"1")])
    head.endpoints = ENDPOINTS
    file = CountedFile(body)
    return SpooledRequest(head, file), file


def test_a_request_with_its_body_in_a_file_is_a_request_like_any_other() -> None:
    request, _ = spooled(b"body")
    assert isinstance(request, Request)
    assert (request.method, request.target, request.headers) == (b"PUT", b"/a?b", [(b"host", b"a")])
    assert (request.version, request.end_stream, request.upgrade) == (b"1.0", False, None)
    assert (request.body, request.trailers) == (b"body", [(b"x-sum", b"1")])
    assert request.endpoints is ENDPOINTS


def test_the_body_is_read_from_its_file_once_and_when_it_is_asked_for() -> None:
    request, file = spooled(b"body")
    assert file.reads == 0
    assert [request.body, request.body] == [b"body", b"body"]
    assert file.reads == 1


def test_the_file_of_a_body_is_at_its_begin_however_far_it_was_read() -> None:
    request, file = spooled(b"body")
    assert request.open_body().read(2) == b"bo"
    assert request.body == b"body"
    assert request.open_body() is file
    assert request.open_body().read() == b"body"


def test_a_body_that_was_read_outlives_its_file() -> None:
    request, file = spooled(b"body")
    assert request.body == b"body"
    request.close()
    request.close()
    assert file.closed
    assert request.body == b"body"
    with pytest.raises(ValueError, match="closed file"):
        request.open_body()


def test_a_body_in_memory_is_a_file_as_well() -> None:
    request = Request(b"PUT", b"/", (), b"body")
    assert request.open_body().read() == b"body"
    assert request.open_body().read() == b"body"


# A whole body with an end.


def test_a_whole_body_is_an_iterator_of_itself_and_closes_once() -> None:
    closed: list[str] = []
    body = WholeBody(b"hello", lambda: closed.append("closed"))
    first, pieces = first_part(GET, Response(200, [TYPE], body))
    assert (first, pieces) == (Response(200, [TYPE, (b"content-length", b"5")], None), body)
    assert pieces is not None
    assert (list(pieces), list(pieces), body.data) == ([b"hello"], [], b"hello")
    assert closed == []
    for _ in range(2):
        close_pieces(pieces)
    assert closed == ["closed"]


def test_a_whole_body_is_closed_for_head() -> None:
    closed: list[str] = []
    body = WholeBody(b"hello", lambda: closed.append("closed"))
    head = Response(200, [TYPE, (b"content-length", b"5")], b"")
    assert first_part(HEAD, Response(200, [TYPE], body)) == (head, None)
    assert closed == ["closed"]


# A body in a file.


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_a_body_in_a_file_is_its_blocks_or_a_part_of_it(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before" + b"x" * size + b"after")
    body = FileBody(path.open("rb"), 6, size)
    first, pieces = first_part(GET, Response(200, [TYPE], body))
    assert first == Response(200, [TYPE, (b"content-length", b"%d" % size)], None)
    assert pieces is body
    assert (body.part.offset, len(body.part)) == (6, size)
    assert b"".join(body) == b"x" * size
    body.close()


def test_a_body_in_a_file_that_is_shorter_now_is_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    body = FileBody(path.open("rb"), 2, 100)
    assert list(body) == [b"ort"]
    body.close()


def test_a_body_in_a_file_is_closed_for_head(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    file = path.open("rb")
    assert first_part(HEAD, Response(200, [TYPE], FileBody(file, 0, 5)))[0].headers == [TYPE, (b"content-length", b"5")]
    assert file.closed
