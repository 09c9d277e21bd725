"""A WSGI application as a handler: what it says, and what becomes of it."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.validate import validator

import pytest

from h1core import LocalError, Request, Response
from h1core.app import wsgi
from h1core.app.handler import WholeBody, close_pieces, first_part
from h1core.app.wsgi import FileWrapper, wsgi_handler
from h1core.bounded_dict import BoundedDict

GET = Request(b"GET", b"/", [(b"host", b"a")])
HEAD = Request(b"HEAD", b"/", [(b"host", b"a")])

TEXT = ("Content-Type", "text/plain")
TEXT_ON_THE_WIRE = (b"Content-Type", b"text/plain")

Start = Callable[..., Callable[[bytes], object]]


def parts(app: Any, request: Request = GET) -> tuple[Response, list[bytes] | None]:
    """What comes first of the answer, and the pieces of a streamed body, which is closed then."""
    first, pieces = first_part(request, wsgi_handler(app)(request))
    if pieces is None:
        return first, None
    try:
        return first, list(pieces)
    finally:
        close_pieces(pieces)


def returning(result: Any, *headers: tuple[str, str], status: str = "200 OK") -> WSGIApplication:
    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response(status, [TEXT, *headers])
        return result

    return app


def starting(*arguments: Any) -> WSGIApplication:
    """An application that calls start_response with these."""

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response(*arguments)
        return [b"body"]

    return app


class Result:
    """Blocks to iterate over, which remember what was done with them."""

    def __init__(self, *blocks: Any, then: BaseException | None = None) -> None:
        self.blocks = blocks
        self.then = then
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.blocks
        if self.then:
            raise self.then

    def close(self) -> None:
        self.closed += 1


class Counted(Result):
    def __len__(self) -> int:
        return len(self.blocks)


# The body.


@pytest.mark.parametrize("result", [[b"hello"], (b"hello",), [b"hel", b"lo"], (b"he", b"", b"llo"), [b"", b"hello"]])
def test_a_list_is_sent_whole_so_that_its_length_is_known(result: Any) -> None:
    assert parts(returning(result)) == (Response(200, [TEXT_ON_THE_WIRE], b"hello"), None)


@pytest.mark.parametrize("result", [[], (), [b""], [b"", b""], iter([]), iter([b""]), Result(), Counted(b"")])
def test_no_block_or_empty_ones_are_an_empty_body(result: Any) -> None:
    assert parts(returning(result)) == (Response(200, [TEXT_ON_THE_WIRE], b""), None)


@pytest.mark.parametrize("result", [iter([b"one", b"two"]), Result(b"one", b"two"), (b for b in (b"one", b"two"))])
def test_any_other_iterable_is_streamed(result: Any) -> None:
    assert parts(returning(result)) == (Response(200, [TEXT_ON_THE_WIRE], None), [b"one", b"two"])


@pytest.mark.parametrize("result", [Result(b"", b"", b"one", b"", b"two"), iter([b"", b"one", b"", b"two"])])
def test_empty_blocks_before_the_first_are_waited_through(result: Any) -> None:
    assert parts(returning(result)) == (Response(200, [TEXT_ON_THE_WIRE], None), [b"one", b"", b"two"])


def test_an_iterable_that_says_it_has_one_block_gets_its_length() -> None:
    assert parts(returning(Counted(b"hello"))) == (
        Response(200, [TEXT_ON_THE_WIRE, (b"content-length", b"5")], None),
        [b"hello"],
    )
    assert parts(returning(Counted(b"one", b"two")))[0].headers == [TEXT_ON_THE_WIRE]
    own = ("Content-Length", "5")
    assert parts(returning(Counted(b"hello"), own))[0].headers == [TEXT_ON_THE_WIRE, (b"content-length", b"5")]


@pytest.mark.parametrize("result", [Result(b"hello"), iter([b"hello"]), iter([b"", b"hello", b""])])
def test_an_iterable_whose_first_block_has_the_length_is_whole(result: Any) -> None:
    response = wsgi_handler(returning(result, ("Content-Length", "5")))(GET)
    assert isinstance(response.body, WholeBody)
    assert response.body.data == b"hello"
    response.body.close()
    assert getattr(result, "closed", 1) == 1


def test_an_iterable_comes_to_its_end_after_its_length() -> None:
    steps: list[str] = []

    def blocks() -> Iterator[bytes]:
        yield b"hello"
        steps.append("went on")
        yield b""
        steps.append("ended")

    response = wsgi_handler(returning(blocks(), ("Content-Length", "5")))(GET)
    assert steps == []
    close_pieces(response.body)
    assert steps == ["went on", "ended"]


def test_what_comes_after_its_length_is_a_mistake() -> None:
    result = Result(b"hello", b"", b"you")
    response = wsgi_handler(returning(result, ("Content-Length", "5")))(GET)
    with pytest.raises(LocalError, match=r"^the body is longer than Content-Length said; what is too much was not"):
        close_pieces(response.body)
    assert result.closed == 1


@pytest.mark.parametrize("length", ["", "five", "-5", "+5", "5, 5", "0x5", "5" * 19, "\xb2"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(LocalError, match=r"^Content-Length must be one decimal number, not '"):
        parts(returning([b"hello"], ("Content-Length", length)))


def test_a_length_that_is_given_twice_is_taken_once() -> None:
    twice = ("Content-Length", "5"), ("content-length", " 5 ")
    assert parts(returning([b"hello"], *twice)) == parts(returning([b"hello"]))
    with pytest.raises(LocalError, match=r"^a response has one Content-Length, not two that differ$"):
        parts(returning([b"hello"], ("Content-Length", "5"), ("content-length", "6")))


def test_a_long_list_is_not_copied_and_has_its_length_all_the_same() -> None:
    blocks = [b"x" * 40_000, b"y" * 40_000]
    assert parts(returning(blocks)) == (
        Response(200, [TEXT_ON_THE_WIRE, (b"content-length", b"80000")], None),
        blocks,
    )
    own = ("content-length", "80000")
    assert parts(returning(blocks, own))[0].headers == [TEXT_ON_THE_WIRE, (b"content-length", b"80000")]


@pytest.mark.parametrize("block", ["text", 5, None, bytearray(b"no"), memoryview(b"no")])
@pytest.mark.parametrize("wrap", [lambda block: [block], lambda block: [b"x", block], Result])
def test_a_block_that_is_no_bytes_is_refused_with_its_type(block: Any, wrap: Any) -> None:
    if not block:
        block = 5.0
    with pytest.raises(LocalError, match=rf"^each block of a WSGI body is bytes, not {type(block).__name__}"):
        parts(returning(wrap(block)))


def test_a_later_block_that_is_no_bytes_is_refused_where_it_comes() -> None:
    first, pieces = first_part(GET, wsgi_handler(returning(Result(b"one", "two")))(GET))
    assert first.body is None
    assert pieces is not None
    assert next(pieces) == b"one"
    with pytest.raises(LocalError, match=r"^each block of a WSGI body is bytes, not str; encode it$"):
        next(pieces)


def test_a_subclass_of_bytes_is_bytes() -> None:
    class Special(bytes):
        pass

    assert parts(returning([Special(b"hello")]))[0].body == b"hello"
    assert parts(returning(Result(Special(b"hello"))))[1] == [b"hello"]


@pytest.mark.parametrize("result", [None, "hello", b"hello", 5])
def test_what_is_no_iterable_of_bytes_is_refused_with_its_type(result: Any) -> None:
    with pytest.raises(LocalError, match=rf"an iterable of bytes, such as a list, not {type(result).__name__}$"):
        parts(returning(result))


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
@pytest.mark.parametrize("make", [lambda: [], lambda: [b"body"], lambda: [b"x" * 70_000, b""], lambda: Result(b"body")])
def test_the_content_of_a_status_without_content_is_given_whole_for_the_core_to_leave_out(
    status: str, make: Callable[[], Any]
) -> None:
    first, pieces = parts(returning(make(), status=status))
    assert (bool(first.body), pieces) == (any(make()), None)


def test_the_length_stays_only_where_it_is_another_responses() -> None:
    length = ("Content-Length", "9")
    assert parts(returning([], length, status="204 No Content"))[0].headers == [TEXT_ON_THE_WIRE]
    assert (b"content-length", b"9") in parts(returning([], length, status="304 Not Modified"))[0].headers


def test_head_has_the_fields_of_get_and_no_body() -> None:
    assert parts(returning([b"hello"]), HEAD) == (
        Response(200, [TEXT_ON_THE_WIRE, (b"content-length", b"5")], b""),
        None,
    )
    result = Result(b"one", b"two")
    assert parts(returning(result), HEAD) == (Response(200, [TEXT_ON_THE_WIRE], b""), None)
    assert result.closed == 1
    own = ("Content-Length", "12345")
    assert parts(returning([], own), HEAD)[0].headers == [TEXT_ON_THE_WIRE, (b"content-length", b"12345")]


# close.


@pytest.mark.parametrize("blocks", [(), (b"",), (b"one",), (b"", b"one", b"two")])
def test_close_is_called_once(blocks: tuple[bytes, ...]) -> None:
    result = Result(*blocks)
    parts(returning(result))
    assert result.closed == 1


def test_close_is_called_when_the_body_fails_before_its_first_block() -> None:
    result = Result(b"", then=ValueError("no more"))
    with pytest.raises(ValueError, match="no more"):
        parts(returning(result))
    assert result.closed == 1


def test_close_is_called_once_when_the_body_fails_later_or_the_client_goes() -> None:
    for result in (Result(b"one", then=ValueError("no more")), Result(b"one", b"two")):
        _, pieces = first_part(GET, wsgi_handler(returning(result))(GET))
        assert pieces is not None
        next(pieces)
        assert result.closed == 0
        close_pieces(pieces)
        close_pieces(pieces)
        assert result.closed == 1


def test_close_is_called_when_the_application_never_started() -> None:
    result = Result(b"one")
    with pytest.raises(LocalError, match="has not called start_response"):
        parts(lambda environ, start_response: result)
    assert result.closed == 1


def test_close_is_called_when_iterating_cannot_begin() -> None:
    class NoIteration(Result):
        def __iter__(self) -> Iterator[Any]:
            raise ValueError("not today")

    result = NoIteration()
    with pytest.raises(ValueError, match="not today"):
        parts(returning(result))
    assert result.closed == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_close_is_called_when_the_body_is_left_out(status: str) -> None:
    result = Result(b"one")
    parts(returning(result, status=status))
    assert result.closed == 1


# start_response.


def test_a_generator_may_start_when_it_is_asked_for_its_first_block() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("201 Created", [TEXT])
        yield b"one"
        yield b"two"

    assert parts(app) == (Response(201, [TEXT_ON_THE_WIRE], None), [b"one", b"two"])


def test_a_generator_may_yield_nothing_until_it_knows_how_to_start() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", [TEXT])
        yield b"one"

    assert parts(app)[0].status == 201


@pytest.mark.parametrize("result", [[b"one"], [], [b"one", b"two"], Result(b"one"), Result()])
def test_who_never_starts_is_told(result: Any) -> None:
    with pytest.raises(LocalError, match=r"^the application has not called start_response before its first block"):
        parts(lambda environ, start_response: result)


def test_starting_twice_is_refused() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])
        start_response("201 Created", [TEXT])
        return []

    with pytest.raises(LocalError, match=r"^start_response was called before; only exc_info allows"):
        parts(app)


def failing_app(fails_after: int) -> WSGIApplication:
    """Starts, yields blocks, fails, and wants to answer for that."""

    def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        try:
            start_response("200 OK", [TEXT, ("Content-Length", "100"), ("X-Was", "there")])
            yield from [b"block"] * fails_after
            raise ValueError("the cause")
        except ValueError:
            start_response("500 Oh No", [TEXT], sys.exc_info())
            yield b"sorry"

    return app


def test_with_exc_info_an_error_replaces_a_head_that_has_not_left() -> None:
    assert parts(failing_app(0)) == (Response(500, [TEXT_ON_THE_WIRE], None, b"Oh No"), [b"sorry"])


def test_with_exc_info_the_error_is_raised_again_when_the_head_has_left() -> None:
    first, pieces = first_part(GET, wsgi_handler(failing_app(1))(GET))
    assert first.status == 200
    assert pieces is not None
    assert next(pieces) == b"block"
    with pytest.raises(ValueError, match="the cause") as caught:
        next(pieces)
    assert caught.traceback[-1].name == "app"


def test_exc_info_may_come_with_the_first_call() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        try:
            raise ValueError
        except ValueError:
            start_response("500 Oh No", [TEXT], exc_info=sys.exc_info())
        return [b"sorry"]

    assert parts(app)[0].status == 500


def test_what_is_written_goes_before_what_is_returned() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [TEXT])
        write(b"one")
        write(b"")
        write(b"two")
        return [b"three"]

    assert parts(app) == (Response(200, [TEXT_ON_THE_WIRE], None), [b"one", b"two", b"three"])


def test_who_has_written_cannot_start_again() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])(b"one")
        try:
            raise ValueError("the cause")
        except ValueError:
            start_response("500 Oh No", [TEXT], sys.exc_info())
        return []

    with pytest.raises(ValueError, match="the cause"):
        parts(app)


def test_only_bytes_are_written() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [TEXT])("text")  # type: ignore[arg-type]  # that is the test
        return []

    with pytest.raises(LocalError, match=r"^write takes bytes, not str$"):
        parts(app)


# What start_response takes.


@pytest.mark.parametrize(
    "status",
    ["200 OK", "200 Fine by me", "404 N\xf6", "599 Last", "200  OK", "299 \u00e9"],
)
def test_a_status_is_a_number_and_a_reason(status: str) -> None:
    for _ in range(2):  # it is remembered
        assert parts(starting(status, []))[0].status == int(status[:3])


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200 OK", None),
        ("200", None),
        ("299 Custom Reason", b"Custom Reason"),
        ("404 No Such Thing", b"No Such Thing"),
        ("404 NOT FOUND", b"NOT FOUND"),
        ("200 ", b""),
        ("299 \xe9", b"\xe9"),
    ],
)
def test_a_reason_of_the_applications_own_is_kept(status: str, reason: bytes | None) -> None:
    for _ in range(2):  # it is remembered
        assert parts(starting(status, []))[0].reason == reason


@pytest.mark.parametrize("status", ["", "OK", "20 OK", "2000 OK", "200OK", " 200 OK", "²00 OK", "-20 OK"])
def test_what_is_no_status_is_refused(status: str) -> None:
    with pytest.raises(LocalError, match=r"^a status is three digits, a space and a reason, as in '200 OK', not '"):
        parts(starting(status, []))


@pytest.mark.parametrize("status", ["200 OK\r\nSet-Cookie: a=b", "200 O\nK", "200 OK\r\n", "200 \x00", "200 \u20ac"])
def test_a_reason_that_would_do_harm_is_refused(status: str) -> None:
    with pytest.raises(LocalError, match=r"^a status has no control bytes, and none but latin-1 characters: '200"):
        parts(starting(status, []))


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "199 Early", "600 Late", "999 No"])
def test_only_a_final_status_is_one(status: str) -> None:
    with pytest.raises(LocalError, match=rf"^a WSGI application answers with a final status.*not '{status}'$"):
        parts(starting(status, []))


@pytest.mark.parametrize("status", [200, b"200 OK", None, ["200 OK"]])
def test_a_status_of_a_wrong_type_is_refused(status: Any) -> None:
    with pytest.raises(LocalError, match=r"^a status is a str, as in '200 OK', not "):
        parts(starting(status, []))


@pytest.mark.parametrize("make", [tuple, iter, set, lambda pairs: [list(pair) for pair in pairs]])
def test_headers_may_be_any_iterable_of_pairs(make: Callable[[Any], Any]) -> None:
    assert parts(starting("200 OK", make([TEXT])))[0].headers == [TEXT_ON_THE_WIRE]


@pytest.mark.parametrize("headers", [None, {"a": "b"}, "Content-Type"])
def test_headers_are_a_list(headers: Any) -> None:
    with pytest.raises(LocalError, match=rf"^headers are a list of tuples .*, not {type(headers).__name__}$"):
        parts(starting("200 OK", headers))


@pytest.mark.parametrize(
    "pair",
    [
        ["a"],
        ["a", 5],
        ("a",),
        ("a", "b", "c"),
        (b"a", b"b"),
        ("a", b"b"),
        ("a", 5),
        ("a", None),
        "ab",
        None,
        (["a"], "b"),
    ],
)
def test_a_header_is_a_tuple_of_two_strings(pair: Any) -> None:
    with pytest.raises(LocalError, match=r"^a header is a tuple of two str, "):
        parts(starting("200 OK", [TEXT, pair]))


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\x00", "(a)"])
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(LocalError, match=r"^a header name is a token"):
        parts(starting("200 OK", [(name, "value")]))


@pytest.mark.parametrize("pair", [("n\xe4me", "value"), ("name", "\u20ac"), ("name", "\ud800")])
def test_a_name_is_ascii_and_a_value_latin_1(pair: tuple[str, str]) -> None:
    with pytest.raises(LocalError, match=r"^header names are ASCII and values latin-1, not .*RFC 8187$"):
        parts(starting("200 OK", [pair]))


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\x00", "a\x7f", "\x1b[1m"])
def test_a_value_has_no_control_bytes(value: str) -> None:
    with pytest.raises(LocalError, match=r"^a header value has no control bytes"):
        parts(starting("200 OK", [("X-Name", value)]))


def test_a_value_may_have_tabs_and_what_latin_1_has() -> None:
    assert parts(starting("200 OK", [("X-Name", "a\tb\xff")]))[0].headers == [(b"X-Name", b"a\tb\xff")]


def test_a_mistake_leaves_the_application_its_turn() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        try:
            start_response("200 OK", [("Bad Name", "x")])
        except LocalError:
            start_response("500 Oh No", [TEXT])
        return [b"sorry"]

    assert parts(app) == (Response(500, [TEXT_ON_THE_WIRE], b"sorry", b"Oh No"), None)


def test_what_the_application_does_to_its_headers_later_does_nothing() -> None:
    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        headers = [TEXT]
        start_response("200 OK", headers)
        headers.append(("Bad Name", "x"))
        return []

    assert parts(app)[0].headers == [TEXT_ON_THE_WIRE]


def test_what_is_remembered_is_bounded_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "_fields", BoundedDict(3))
    secret = [("Set-Cookie", "session=1"), ("ETag", "x"), ("Location", "/"), ("X-Long", "x" * 200)]
    parts(starting("200 OK", secret))
    assert wsgi._fields == {}
    for number in range(7):
        parts(starting("200 OK", [("X-Number", str(number))]))
    assert list(wsgi._fields) == [("X-Number", "6")]


# wsgi.file_wrapper.


def test_a_wrapped_file_is_its_blocks_and_is_closed() -> None:
    class Reader:
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.closed = 0
            self.blocks = [b"one", b"two", b""]

        def read(self, size: int) -> bytes:
            self.sizes.append(size)
            return self.blocks.pop(0)

        def close(self) -> None:
            self.closed += 1

    file = Reader()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [TEXT])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 10)
        return wrapped

    assert parts(app) == (Response(200, [TEXT_ON_THE_WIRE], None), [b"one", b"two"])
    assert (file.sizes, file.closed) == ([10, 10, 10], 1)


def test_a_file_without_close_is_fine() -> None:
    class Reader:
        read = io.BytesIO(b"hello").read

    assert parts(returning(FileWrapper(Reader())))[1] == [b"hello"]


# The judge of the standard library.


def lazily(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [TEXT])
    yield b"hello"


def by_write(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [TEXT])(b"hello")
    return []


def after_an_error(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    start_response("200 OK", [TEXT])
    try:
        raise ValueError
    except ValueError:
        start_response("500 Oh No", [TEXT], sys.exc_info())
    return [b"hello"]


def echoing(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    body = environ["wsgi.input"]
    start_response("200 OK", [TEXT])
    print("fine", file=environ["wsgi.errors"])
    environ["wsgi.errors"].writelines(["a\n", "b\n"])
    return [body.read(2), body.readline(), *body.readlines(), *body]


def wrapping(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [TEXT])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"hello"))
    return wrapped


VALID: list[Any] = [
    lazily,
    by_write,
    after_an_error,
    echoing,
    wrapping,
    returning([b"hello"]),
    returning([b"hel", b"lo"]),
    returning((b"hel", b"lo"), ("Content-Length", "5")),
    returning([]),
    returning([b"x" * 50_000] * 2),
    starting("204 No Content", []),
    starting("304 Not Modified", [("ETag", '"x"')]),
]

REQUESTS = [
    GET,
    HEAD,
    Request(b"GET", b"/a%20b?c=d", [(b"host", b"a"), (b"cookie", b"a=b"), (b"cookie", b"c=d")], version=b"1.0"),
    Request(b"GET", b"http://a", [(b"host", b"a")]),
    Request(b"OPTIONS", b"*", [(b"host", b"a")]),
    Request(b"POST", b"/", [(b"host", b"a"), (b"content-length", b"5")], b"hello", end_stream=False),
    Request(b"PUT", b"/", [(b"host", b"a"), (b"transfer-encoding", b"chunked")], b"hello", end_stream=False),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: (request.method + request.target).decode())
@pytest.mark.parametrize("app", VALID, ids=lambda app: app.__name__)
def test_wsgiref_finds_nothing_wrong(app: Any, request_: Request, capsys: pytest.CaptureFixture[str]) -> None:
    def first_and_body(app: Any) -> tuple[int, bytes]:
        first, pieces = parts(app, request_)
        assert isinstance(first.body, bytes | None)
        return first.status, (first.body or b"") + b"".join(pieces or [])

    assert first_and_body(validator(app)) == first_and_body(app)
    assert "garbage collected" not in capsys.readouterr().err
