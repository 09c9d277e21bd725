"""ASGI to and from an `Exchange`, without a server: a fake one has the request, and keeps the response."""

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from http import HTTPStatus
from typing import Any

import pytest

from h1core import Data, Disconnected, EndOfMessage, Exchange, InformationalResponse, LocalError, Request, Response
from h1core.app.asgi import AsgiHandler, ClientLeft, Message, Receive, Scope, Send
from h1core.events import Endpoints, Sendable

HOST = [(b"host", b"a")]
START = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]}
BODY = {"type": "http.response.body", "body": b"hello"}
MORE = BODY | {"more_body": True}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
HINT = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>"]}
DISCONNECT = {"type": "http.disconnect"}


@types.coroutine
def wait() -> Generator[None]:
    yield


class FakeExchange(Exchange):
    """`parts` is what comes of the request body, a Disconnected among it raised; `refusals` is what sends raise."""

    def __init__(self, request: Request | None = None, parts: tuple[bytes | Disconnected, ...] = ()) -> None:
        self.request = request or Request(b"GET", b"/", HOST)
        self.parts = list(parts)
        self.sent: list[Sendable] = []
        self.refusals: list[Exception] = []
        self.has_left = False

    async def receive(self) -> bytes:
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Disconnected):
            raise part
        return part

    async def send(self, event: Sendable) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append(event)

    def respond(self, response: Response) -> bool:
        if self.refusals and isinstance(self.refusals[0], Disconnected):
            return False  # `flush` says it
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append(response)
        return True

    async def flush(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)

    async def wait_disconnected(self) -> None:
        raise AssertionError("left is what ASGI asks for")

    async def wait_client_gone(self) -> None:
        while not self.has_left:
            await wait()


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what need not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waits")


def run(app: Callable[..., Awaitable[None]], exchange: FakeExchange | None = None) -> list[Sendable]:
    exchange = exchange or FakeExchange()
    response = finish(AsgiHandler(app)(exchange))
    return exchange.sent if response is None else [response]


def sending(*messages: Any) -> Callable[..., Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def scope_of(target: bytes = b"/", root_path: str = "", **fields: Any) -> Scope:
    request = Request(**({"method": b"GET", "target": target, "headers": HOST} | fields))
    return AsgiHandler(sending(), root_path=root_path).scope(request)


# The scope.


def test_a_scope_has_every_field_of_the_specification() -> None:
    endpoints = Endpoints(("127.0.0.1", 1234), ("127.0.0.2", 80), "https")
    headers = [(b"host", b"a"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert scope_of(b"/a%20b/%C3%BC?q=%20&r", endpoints=endpoints, headers=headers) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},  # 2.4 with a body: tests/drivers/test_applications.py
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/a b/ü",
        "raw_path": b"/a%20b/%C3%BC",
        "query_string": b"q=%20&r",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.2", 80),
        "state": {},
        "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}},
    }


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"//a//b/../c", "//a//b/../c", b"//a//b/../c", b""),
        (b"/?a?b", "/", b"/", b"a?b"),
        (b"/%2F%3F%00", "//?\0", b"/%2F%3F%00", b""),
        (b"/%FF%zz%", "/�%zz%", b"/%FF%zz%", b""),
        (b"*", "*", b"*", b""),
        (b"http://a:80/b//c?d", "/b//c", b"/b//c", b"d"),
        (b"http://a?d", "/", b"/", b"d"),
        (b"HTTP://a", "/", b"/", b""),
    ],
)
def test_a_path_is_decoded_and_nothing_else_is_done_to_it(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    scope = scope_of(target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        (b"/shop", "/shop", b"/shop"),
        (b"/shop/a%20b", "/shop/a b", b"/shop/a%20b"),
        (b"/a%20b", "/shop/a b", b"/shop/a%20b"),
        (b"/shopping", "/shop/shopping", b"/shop/shopping"),
        (b"/", "/shop/", b"/shop/"),
    ],
)
@pytest.mark.parametrize("root_path", ["/shop", "/shop/"])
def test_a_path_lies_below_the_root_path(root_path: str, target: bytes, path: str, raw_path: bytes) -> None:
    scope = scope_of(target, root_path)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", path, raw_path)


def test_a_root_path_begins_with_a_slash() -> None:
    with pytest.raises(LocalError, match="as in /shop, not 'shop'"):
        AsgiHandler(sending(), root_path="shop")


@pytest.mark.parametrize(
    ("method", "text"), [(b"GET", "GET"), (b"get", "GET"), (b"BREW", "BREW"), (b"m-search", "M-SEARCH")]
)
def test_a_method_is_upper_case(method: bytes, text: str) -> None:
    assert scope_of(method=method)["method"] == text


def test_an_old_client_is_told_as_one() -> None:
    assert scope_of(version=b"1.0")["http_version"] == "1.0"


def test_a_request_can_change_nothing_but_its_own_scope() -> None:
    handler = AsgiHandler(sending())
    handler.state["shared"] = ["pool"]
    request = Request(b"GET", b"/", HOST)
    first = handler.scope(request)
    first["state"]["mine"] = 1
    first["asgi"].clear()
    first["extensions"]["http.response.trailers"]["x"] = 1
    second = handler.scope(request)
    assert second["state"] == {"shared": ["pool"]}
    assert second["state"]["shared"] is first["state"]["shared"]
    assert second["asgi"]["version"] == "3.0"
    assert second["extensions"]["http.response.trailers"] == {}


@pytest.mark.parametrize("app", [lambda scope: None, lambda: None])
def test_an_application_that_takes_something_else_is_refused(app: Any) -> None:
    with pytest.raises(LocalError, match="ASGI 3 calls an application with scope, receive and send"):
        AsgiHandler(app)


def test_an_application_whose_parameters_cannot_be_seen_is_taken_at_its_word() -> None:
    class Hidden:
        __signature__ = "what inspect cannot make sense of"

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await sending(START, BODY)(scope, receive, send)

    assert len(run(Hidden())) == 1


# Sending.


def test_an_ordinary_response_is_sent_as_one() -> None:
    assert run(sending(START, BODY)) == [Response(200, [(b"x-a", b"b")], b"hello")]
    assert run(sending({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT}, {"type": BODY["type"]})) == [
        Response(204, (), b"")
    ]


@pytest.mark.parametrize("body", [bytearray(b"hello"), memoryview(b"hello")])
def test_a_body_may_be_anything_like_bytes(body: object) -> None:
    assert run(sending(START, BODY | {"body": body})) == [Response(200, [(b"x-a", b"b")], b"hello")]


def test_headers_may_be_any_iterable_of_pairs() -> None:
    pairs = ([b"x-a", b"b"] for _ in range(1))
    [sent] = run(sending(START | {"headers": pairs}, BODY))
    assert isinstance(sent, Response)
    assert [tuple(pair) for pair in sent.headers] == [(b"x-a", b"b")]


def test_a_stream_is_sent_piece_by_piece_and_no_piece_is_empty() -> None:
    empty = {"type": "http.response.body", "more_body": True}
    head = Response(200, [(b"x-a", b"b")], None)
    assert run(sending(START, MORE, empty, BODY)) == [head, Data(b"hello"), Data(b"hello"), EndOfMessage()]
    assert run(sending(START, empty, {"type": "http.response.body"})) == [head, EndOfMessage()]


def test_nothing_is_sent_before_the_first_body() -> None:
    """So an application that fails between the two is still answered with a 500."""
    exchange = FakeExchange()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(app, exchange)
    assert exchange.sent == []


def test_trailers_come_with_the_end() -> None:
    announced = START | {"trailers": True}
    more = TRAILERS | {"more_trailers": True}
    head = Response(200, [(b"x-a", b"b")], None)
    end = EndOfMessage([(b"x-sum", b"1"), (b"x-sum", b"1")])
    assert run(sending(announced, BODY, more, TRAILERS)) == [head, Data(b"hello"), end]
    assert run(sending(announced, MORE, BODY, more, TRAILERS)) == [head, Data(b"hello"), Data(b"hello"), end]


def test_early_hints_are_an_interim_response() -> None:
    links = [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>")]
    assert run(sending(HINT, START, BODY))[0] == InformationalResponse(103, links)


OUT_OF_TURN: list[tuple[tuple[Any, ...], str]] = [
    ((BODY,), "http.response.body is out of turn: http.response.start comes first"),
    ((START, START), "http.response.start is out of turn: http.response.start was sent, and http.response.body"),
    ((START, BODY, START), "http.response.start is out of turn: the response is complete; a request has one response"),
    ((START, BODY, BODY), "http.response.body is out of turn: the response is complete"),
    ((START, MORE, START), "more http.response.body comes next, the last with more_body False"),
    ((START, MORE, TRAILERS), "http.response.trailers is out of turn: more http.response.body"),
    ((START | {"trailers": True}, BODY, BODY), "the body is over, and http.response.trailers comes next"),
    ((START, HINT), "http.response.early_hint is out of turn: http.response.start was sent"),
    (({"type": "websocket.accept"},), "this server knows no 'websocket.accept'; scope['extensions'] says"),
    (({"type": "http.response.pathsend", "path": "/"},), "this server knows no 'http.response.pathsend'"),
    (({},), "send takes a dict with a 'type', not {}"),
    ((b"hello",), "send takes a dict with a 'type', not b'hello'"),
    ((START | {"status": "200"},), "the status of http.response.start is a whole number, not '200'"),
    (({"type": "http.response.start"},), "the status of http.response.start is a whole number, not None"),
    ((START | {"headers": {b"a": b"b"}},), "the headers of http.response.start are pairs (name, value) of bytes, not"),
    ((START | {"headers": None},), "the headers of http.response.start are pairs"),
    ((START, BODY | {"body": "text"}), "the body of http.response.body is bytes, not str; encode it"),
    ((START | {"trailers": True}, BODY, TRAILERS | {"headers": "x"}), "the headers of http.response.trailers are"),
    ((START | {"trailers": True, "headers": [(b"Content-Length", b"5")]},), "a response with trailers goes out in"),
    ((), "the application ended before its response: http.response.start comes first"),
    ((START,), "the application ended before its response: http.response.start was sent, and http.response.body"),
    ((START, MORE), "the application ended before its response: more http.response.body comes next"),
    ((START | {"trailers": True}, BODY), "the application ended before its response: the body is over"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "says"), OUT_OF_TURN)
def test_a_mistake_is_told_with_the_way_out(messages: tuple[Any, ...], says: str) -> None:
    with pytest.raises(LocalError) as caught:
        run(sending(*messages))
    assert says in str(caught.value)


@pytest.mark.parametrize("messages", [(START, BODY), (START, MORE, BODY), (HINT, START, BODY)])
def test_what_the_core_refuses_changes_nothing(messages: tuple[Message, ...]) -> None:
    """An application that catches it may still send what it likes."""
    exchange = FakeExchange()
    exchange.refusals.append(LocalError("a header value has no control bytes"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        refused = 0
        for message in messages:
            try:
                await send(message)
            except LocalError:
                refused += 1
                await send(message)
        assert refused == 1

    run(app, exchange)
    assert exchange.refusals == []


# Receiving.


def receiving(count: int, received: list[Message], *answer: Message) -> Callable[..., Awaitable[None]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(count):
            received.append(await receive())
        for message in answer or (START, BODY):
            await send(message)

    return app


def test_a_request_body_comes_as_it_comes() -> None:
    received: list[Message] = []
    run(receiving(3, received), FakeExchange(parts=(b"a", b"b")))
    assert received == [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
    ]


def test_the_last_piece_says_so_where_that_is_known() -> None:
    class Knowing(FakeExchange):
        async def receive_part(self) -> tuple[bytes, bool]:
            return self.parts.pop(0), bool(self.parts)  # type: ignore[return-value]  # no Disconnected in this test

    received: list[Message] = []
    exchange = Knowing(parts=(b"a", b"b"))
    exchange.has_left = True
    with pytest.raises(Disconnected):
        run(receiving(3, received, {"type": "none"}), exchange)
    assert received[1:] == [{"type": "http.request", "body": b"b", "more_body": False}, DISCONNECT]


def test_a_body_that_breaks_off_is_a_disconnect() -> None:
    received: list[Message] = []
    run(receiving(3, received), FakeExchange(parts=(b"a", Disconnected("gone"), Disconnected("gone"))))
    assert received[1:] == [DISCONNECT, DISCONNECT]


def test_the_client_is_waited_for_after_the_body() -> None:
    exchange = FakeExchange()
    received: list[Message] = []
    app = AsgiHandler(receiving(2, received))(exchange)
    app.send(None)
    app.send(None)
    assert len(received) == 1
    exchange.has_left = True
    with pytest.raises(StopIteration):
        app.send(None)
    assert received[1] == DISCONNECT


def test_after_the_response_there_is_nothing_to_wait_for() -> None:
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        received.extend([await receive(), await receive()])

    exchange = FakeExchange(parts=(b"never asked for",))
    exchange.has_left = True  # as an exchange says when the response is complete
    run(app, exchange)
    assert received == [DISCONNECT, DISCONNECT]


# Clients that leave.


@pytest.mark.parametrize("messages", [(START, BODY), (START, MORE), (HINT,)])
def test_sending_to_nobody_is_an_os_error(messages: tuple[Message, ...]) -> None:
    exchange = FakeExchange()
    exchange.refusals.append(Disconnected("the client is gone"))
    with pytest.raises(Disconnected) as caught:
        run(sending(*messages), exchange)
    assert isinstance(caught.value.__cause__, ClientLeft)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("failure", [None, RuntimeError("ClientDisconnect"), ExceptionGroup("nursery", [OSError()])])
def test_what_an_application_makes_of_it_is_no_failure(failure: Exception | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == DISCONNECT
        if failure:
            raise failure

    with pytest.raises(Disconnected, match="the client has left, and the application") as caught:
        run(app, FakeExchange(parts=(Disconnected("gone"),)))
    assert caught.value.__cause__ is failure


def test_a_failure_after_the_response_is_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        assert await receive() == DISCONNECT
        raise ValueError("in a background task")

    exchange = FakeExchange()
    exchange.has_left = True
    with pytest.raises(ValueError, match="in a background task"):
        run(app, exchange)


# WebSocket.

KEY = (b"sec-websocket-key", b"AAAA")


def offer(method: bytes, *fields: tuple[bytes, bytes], upgrade: bytes | None = b"websocket") -> FakeExchange:
    return FakeExchange(Request(method, b"/", HOST + list(fields), upgrade=upgrade))


def test_a_websocket_is_declined_in_words() -> None:
    [sent] = run(sending(), offer(b"GET", KEY))
    assert isinstance(sent, Response)
    assert (sent.status, sent.body) == (501, b"This server does not speak WebSocket.\n")


@pytest.mark.parametrize("exchange", [offer(b"POST", KEY), offer(b"GET"), offer(b"GET", KEY, upgrade=None)])
def test_any_other_offer_to_upgrade_is_an_ordinary_request(exchange: FakeExchange) -> None:
    [sent] = run(sending(START, BODY), exchange)
    assert isinstance(sent, Response)
    assert sent.status == 200
