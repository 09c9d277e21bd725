"""ASGI 3, the http part: an application of that interface becomes a `StreamingHandler`. Pure translation.

Theory
------
`http.response.start` is kept until the first `http.response.body`, as the specification allows: then an ordinary
response is one `Response`, and an application that fails between the two still gets a 500. `Exchange` does the rest:
backpressure, 100 Continue, and noticing that a client has disconnected.

Whatever version is declared, `send` to a disconnected client raises an OSError, as 2.4 requires. With "2.4", Starlette
relies on that to notice that a client has disconnected, and no longer calls `receive` for it; a stream that waits for
its next event would then go on without its client until there is an event. So a request without a body is told "2.3".
With "2.3" Starlette receives in a second task while a response streams, and that task would take the body from an
application that streams it back. So a request with a body is told "2.4".
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from enum import IntEnum
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes

from h1core.app.exchange import Exchange, StreamingHandler
from h1core.app.handler import AsFile, FileBody, OpenPath, with_length
from h1core.errors import Disconnected, LocalError
from h1core.events import Data, EndOfMessage, Headers, InformationalResponse, Request, Response, Sendable

# Any: the specification defines what scopes and messages contain; it is checked here where it matters.
Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]  # frameworks have types of their own for the three

SPEC_VERSION: Final = "2.3"
SPEC_VERSION_WITH_BODY: Final = "2.4"

METHODS: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}

ZERO_COPY: Final = "http.response.zerocopysend"
PATH: Final = "http.response.pathsend"

NO_WEBSOCKET: Final = b"This server does not speak WebSocket.\n"
TEXT: Final = ((b"content-type", b"text/plain; charset=utf-8"),)


class ClientLeft(Disconnected, OSError):
    """Raised by `send` when the client has disconnected; an OSError, as ASGI requires."""


class Phase(IntEnum):
    """The phases of a response."""

    WAITING = 0
    """Waiting for http.response.start."""
    STARTED = 1
    """http.response.start was received, and is kept."""
    STREAMING = 2
    """A part of the body was sent."""
    TRAILERS = 3
    """The body is complete, trailers were announced."""
    COMPLETE = 4


WAITING: Final = Phase.WAITING
STARTED: Final = Phase.STARTED
STREAMING: Final = Phase.STREAMING
TRAILERS: Final = Phase.TRAILERS
COMPLETE: Final = Phase.COMPLETE

EXPECTED: Final = {
    WAITING: "http.response.start comes first",
    STARTED: "http.response.start was sent, and http.response.body comes next",
    STREAMING: "more http.response.body comes next, the last with more_body False",
    TRAILERS: "the body is over, and http.response.trailers comes next",
    COMPLETE: "the response is complete; a request has one response",
}
"""What must come next in each phase, for the error when an application sends something else."""


class AsgiHandler(StreamingHandler):
    """An ASGI application as a handler. `state` is filled by its lifespan; each request gets a shallow copy.

    `root_path` is where the application is mounted. `path` in the scope includes it, as ASGI requires: when a proxy
    has removed it from a target, it is added again. With `as_file` and `open_path` an application may send files by
    reference: `http.response.zerocopysend` and `http.response.pathsend`.

    Raises LocalError when the root path does not begin with a slash, or the application does not take three arguments.
    """

    upgrades = (b"websocket",)

    def __init__(
        self, app: AsgiApp, *, root_path: str = "", as_file: AsFile | None = None, open_path: OpenPath | None = None
    ) -> None:
        if root_path and not root_path.startswith("/"):
            raise LocalError(f"a root path begins with a slash, as in /shop, not {root_path!r}")
        _check_signature(app)
        super().__init__(self.__call__)
        self.app = app
        self.state: dict[str, Any] = {}
        self._root_path = root_path.rstrip("/")
        self._as_file = as_file
        self._open_path = open_path
        self._extensions = ["http.response.trailers", "http.response.early_hint"]
        if as_file is not None and open_path is not None:
            self._extensions += [ZERO_COPY, PATH]

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Run the application for one request. Raises what it raises, LocalError for an incomplete response, and
        Disconnected in place of either once the application was told that its client has disconnected.
        """
        request = exchange.request
        if request.upgrade is not None and opens_websocket(request):
            return Response(501, TEXT, NO_WEBSOCKET)
        conversation = _Channel(exchange, self._as_file, self._open_path)
        try:
            await self.app(self.scope(request), conversation.receive, conversation.send)
        except Exception as error:
            if conversation.has_left:
                raise Disconnected(f"the client has left, and the application ended with {error!r}") from error
            raise
        if conversation.phase is not COMPLETE:
            conversation.refuse_end()
        return None

    def scope(self, request: Request) -> Scope:
        """The connection scope of a request; it shares no mutable value with another request's."""
        raw_path, _, query = request.target.partition(b"?")
        if not raw_path.startswith(b"/") and raw_path != b"*":  # absolute-form: scheme://authority, and perhaps a path
            raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
        path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace")
        root_path = self._root_path
        if root_path and path != root_path and not path.startswith(f"{root_path}/"):
            path = root_path + path
            raw_path = root_path.encode() + raw_path
        endpoints = request.endpoints
        return {
            "type": "http",
            "asgi": {
                "version": "3.0",
                "spec_version": SPEC_VERSION if request.end_stream else SPEC_VERSION_WITH_BODY,
            },
            "http_version": "1.0" if request.version == b"1.0" else "1.1",
            "method": METHODS.get(request.method) or request.method.decode("ascii").upper(),
            "scheme": endpoints.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": root_path,
            "headers": request.headers,
            "client": endpoints.client,
            "server": endpoints.server,
            "state": self.state.copy(),
            "extensions": {name: {} for name in self._extensions},
        }


def _check_signature(app: AsgiApp) -> None:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # it has no visible signature
        return
    try:
        signature.bind({}, None, None)
    except TypeError as error:
        raise LocalError(f"ASGI 3 calls an application with scope, receive and send: {error}") from None


def opens_websocket(request: Request) -> bool:
    """Whether a request that offers `websocket` is a handshake, to which no other response is useful. RFC 6455 §4.1."""
    return request.method == b"GET" and any(name == b"sec-websocket-key" for name, _ in request.headers)


class _Channel:
    """The application's `receive` and `send` for one request, and the order in which messages may come."""

    __slots__ = (
        *("_as_file", "_body_is_over", "_exchange", "_has_trailers", "_open_path", "_start", "_trailers"),
        *("has_left", "phase"),
    )

    def __init__(self, exchange: Exchange, as_file: AsFile | None, open_path: OpenPath | None) -> None:
        self._exchange = exchange
        self._as_file = as_file
        self._open_path = open_path
        self._body_is_over = False
        self._start: Response | None = None
        self._has_trailers = False
        self._trailers: Headers = ()
        self.phase = WAITING
        self.has_left = False
        """The application was told that its client has disconnected."""

    async def receive(self) -> Message:
        """The next http.request; then http.disconnect, once the client is gone or the response is complete."""
        try:
            if not self._body_is_over and not self._is_complete():
                body, more = await self._exchange.receive_part()
                self._body_is_over = not more
                return {"type": "http.request", "body": body, "more_body": more}
            await self._exchange.wait_client_gone()
        except Disconnected:
            pass
        self.has_left = self.has_left or not self._is_complete()
        return {"type": "http.disconnect"}

    def _is_complete(self) -> bool:
        """A method, because another task may send the end during an `await`, which mypy does not consider."""
        return self.phase is COMPLETE

    async def send(self, message: Message) -> None:
        """Send a part of the response. Raises LocalError for a wrong message or order, ClientLeft if it is gone."""
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise LocalError(f"send takes a dict with a 'type', not {message!r}") from None
        if kind == "http.response.start":
            self._take_start(message)
        elif kind == "http.response.body":
            body = message.get("body", b"")
            start = self._start
            if start is None or self.phase > STREAMING:
                self._refuse(kind)
            if type(body) is not bytes and not isinstance(body, (bytearray, memoryview)):
                raise LocalError(f"the body of http.response.body is bytes, not {type(body).__name__}; encode it")
            if self.phase is STREAMING:
                await self._go_on(body, bool(message.get("more_body")))
            elif message.get("more_body") or self._has_trailers:
                await self._deliver(Response(start.status, start.headers, None), STREAMING)
                await self._go_on(body, bool(message.get("more_body")))
            else:  # fast path: an ordinary response
                start.body = body
                self.phase = COMPLETE
                try:
                    if not self._exchange.respond(start):
                        await self._exchange.flush()
                except (Disconnected, LocalError) as error:
                    self._raise_unsent(error, STARTED)
        elif kind in (PATH, ZERO_COPY):
            more_body = kind == ZERO_COPY and bool(message.get("more_body"))
            await self._send_file(self._file_of(message), more_body=more_body)
        elif kind == "http.response.trailers":
            await self._take_trailers(message)
        elif kind == "http.response.early_hint":
            if self.phase is not WAITING:
                self._refuse(kind)
            links = [(b"link", link) for link in message.get("links", ())]
            await self._deliver(InformationalResponse(103, links), WAITING)
        else:
            _raise_unknown(kind)

    def _take_start(self, message: Message) -> None:
        """Keep the head of the response; its fields are checked when it is sent."""
        if self.phase is not WAITING:
            self._refuse("http.response.start")
        status = message.get("status")
        if type(status) is not int and not isinstance(status, int):  # HTTPStatus is one
            raise LocalError(f"the status of http.response.start is a whole number, not {status!r}")
        headers = message.get("headers", ())
        if type(headers) is not list:
            headers = _as_fields(headers, "http.response.start")
        if message.get("trailers"):
            if any(isinstance(field[0], bytes) and field[0].lower() == b"content-length" for field in headers):
                raise LocalError(
                    "a response with trailers goes out in chunks (RFC 9112 §7.1): leave Content-Length out"
                )
            self._has_trailers = True
        self._start = Response(status, headers)
        self.phase = STARTED

    async def _go_on(self, body: bytes | bytearray | memoryview, more_body: bool) -> None:
        """Send a piece of a streamed body, and perhaps its end."""
        if body and not more_body and not self._has_trailers:
            await self._deliver(Data(body), COMPLETE)
            return
        if body:
            await self._deliver(Data(body), STREAMING)
        if not more_body:
            if self._has_trailers:
                self.phase = TRAILERS
            else:
                await self._deliver(EndOfMessage(), COMPLETE)

    def _file_of(self, message: Message) -> FileBody:
        """The file that a message names by its path, or as an open one of which it may be a part.

        Raises LocalError, also when it is out of turn, and OSError.
        """
        kind = message["type"]
        if self._open_path is None or self._as_file is None:
            _raise_unknown(kind)
        if self._start is None or self.phase > STREAMING:
            self._refuse(kind)
        if kind == PATH:
            return self._open_path(message["path"])
        body = self._as_file(message["file"])
        if body is None:
            raise LocalError(f"{ZERO_COPY} takes an open file with content on a disk, not {message['file']!r}")
        body.limit(message.get("offset"), message.get("count"))
        return body

    async def _send_file(self, body: FileBody, *, more_body: bool) -> None:
        """Send a file by reference, and close it. Raises as `send`."""
        start = self._start
        assert start is not None
        try:
            if self.phase is STARTED:
                is_all = not (more_body or self._has_trailers)
                headers = with_length(start, body.size) if is_all else start.headers
                await self._deliver(Response(start.status, headers, None), STREAMING)
            if body.size:
                await self._deliver(body.part, STREAMING)
            await self._go_on(b"", more_body)
        finally:
            body.close()

    async def _take_trailers(self, message: Message) -> None:
        """Keep trailers, and send them with the end once all were received."""
        if self.phase is not TRAILERS:
            self._refuse("http.response.trailers")
        self._trailers = [*self._trailers, *_as_fields(message.get("headers", ()), "http.response.trailers")]
        if not message.get("more_trailers"):
            await self._deliver(EndOfMessage(self._trailers), COMPLETE)

    async def _deliver(self, event: Sendable, phase: Phase) -> None:
        """Send an event; after an error the phase is what it was before."""
        before = self.phase
        self.phase = phase
        try:
            if phase is COMPLETE and type(event) is Data:
                await self._exchange.send_last(event)
            else:
                await self._exchange.send(event)
        except (Disconnected, LocalError) as error:
            self._raise_unsent(error, before)

    def _raise_unsent(self, error: Disconnected | LocalError, before: Phase) -> NoReturn:
        """Raise the error for the application, and go back to the phase before it."""
        self.phase = before
        if isinstance(error, Disconnected):
            self.has_left = True
            raise ClientLeft(str(error)) from None
        raise error

    def _refuse(self, kind: str) -> NoReturn:
        raise LocalError(f"{kind} is out of turn: {EXPECTED[self.phase]}")

    def refuse_end(self) -> NoReturn:
        """Raise the error of an application that has ended before its response: LocalError, or Disconnected."""
        if self.has_left:
            raise Disconnected("the client has left, and the application has ended")
        raise LocalError(f"the application ended before its response: {EXPECTED[self.phase]}")


def _raise_unknown(kind: object) -> NoReturn:
    raise LocalError(f"this server knows no {kind!r}; scope['extensions'] says what it knows")


def _as_fields(headers: object, where: str) -> Headers:
    """The header fields of a message; only their container is checked. Raises LocalError."""
    if isinstance(headers, (list, tuple)):
        return headers
    if not isinstance(headers, Iterable) or isinstance(headers, (str, bytes, dict)):
        raise LocalError(f"the headers of {where} are pairs (name, value) of bytes, not {headers!r}")
    return list(headers)
