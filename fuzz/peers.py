"""h1core and its peers as readers of requests: bytes in, the whole requests that come out, and how it ends.

Each is driven as a server drives it that answers every request at once and closes where the library says so. Nothing is
made stricter or laxer than a user gets it by default. A peer that is not installed is not asked.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

End: TypeAlias = Literal["accepts", "refuses", "waits"]


@dataclass(slots=True)
class Read:
    """What a library made of a stream."""

    messages: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    """Method, target and body of each whole request."""
    end: End = "accepts"
    """`waits` when it neither took nor refused what stands behind the last of them."""


Reader: TypeAlias = Callable[[bytes, bool], Read]
"""The bytes, and whether the end of the stream follows them."""


def h1core(wire: bytes, eof: bool) -> Read:
    from h1core import Conn, Data, EndOfMessage, Refused, Request, Response, State

    conn = Conn(clock=lambda: 0.0, wall_clock=lambda: 0.0)
    read = Read()
    method = target = body = b""
    for piece in [wire, b""] if eof else [wire]:
        events = conn.receive_data(piece)
        while events:
            for event in events:
                if isinstance(event, Request):
                    method, target, body = event.method, event.target, b""
                    conn.resume_body()
                elif isinstance(event, Data):
                    body += bytes(event.data)
                elif isinstance(event, Refused):
                    read.end = "refuses"
                if isinstance(event, EndOfMessage) or (isinstance(event, Request) and event.end_stream):
                    read.messages.append((method, target, body))
                    conn.send(Response(200))
            conn.data_sent(conn.output_bytes)
            events = conn.next_events()
    if read.end == "accepts" and not conn.is_idle and conn.state is not State.ENDING:
        read.end = "waits"
    return read


def h11(wire: bytes, eof: bool) -> Read:
    import h11

    conn = h11.Connection(h11.SERVER)
    read = Read()
    asked_for_more = False
    method = target = body = b""
    try:
        conn.receive_data(wire)
        if eof:
            conn.receive_data(b"")
        while True:
            event = conn.next_event()
            if isinstance(event, h11.Request):
                method, target, body = bytes(event.method), bytes(event.target), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                read.messages.append((method, target, body))
                status = 404 if method == b"CONNECT" else 200
                conn.send(h11.Response(status_code=status, headers=[(b"content-length", b"0")]))
                conn.send(h11.EndOfMessage())
                if conn.our_state is not h11.DONE:
                    return read
                conn.start_next_cycle()
            elif event is h11.NEED_DATA:
                asked_for_more = True  # the end of the stream shows whether a request is begun
                conn.receive_data(b"")
            else:
                assert isinstance(event, h11.ConnectionClosed)
                return read
    except h11.RemoteProtocolError:
        read.end = "waits" if asked_for_more else "refuses"
        return read


def httptools(wire: bytes, eof: bool) -> Read:
    """It has no call for the end of a stream."""
    library: Any = importlib.import_module("httptools")
    callbacks = _HttptoolsCallbacks()
    parser = library.HttpRequestParser(callbacks)
    callbacks.parser = parser
    try:
        parser.feed_data(wire)
    except library.HttpParserUpgrade:
        pass  # the rest is not HTTP for it
    except library.HttpParserError:
        callbacks.read.end = "refuses"
        # Bytes behind a request that closes: its server has answered that, and closes.
        return Read(callbacks.read.messages) if callbacks.is_over else callbacks.read
    callbacks.read.end = "waits" if callbacks.is_inside else "accepts"
    return callbacks.read


class _HttptoolsCallbacks:
    def __init__(self) -> None:
        self.read = Read()
        self.is_inside = False
        self.is_over = False
        self.target = self.body = b""
        self.parser: Any = None

    def on_message_begin(self) -> None:
        self.is_inside, self.target, self.body = not self.is_over, b"", b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_inside = False
        if not self.is_over:
            self.read.messages.append((self.parser.get_method(), self.target, self.body))
            self.is_over = not self.parser.should_keep_alive()


def zttp(wire: bytes, eof: bool) -> Read:
    library: Any = importlib.import_module("zttp")
    conn = library.Connection(library.SERVER)
    read = Read()
    method = target = body = b""
    asked_for_more = False
    try:
        conn.receive_data(wire)
        if eof:
            conn.receive_data(b"")
        while True:
            event = conn.next_event()
            if isinstance(event, library.Request):
                method, target, body = event.method, event.target, b""
            elif isinstance(event, library.Data):
                body += event.data
            elif event is library.NEED_DATA:
                asked_for_more = True  # as with h11
                conn.receive_data(b"")
            elif event is library.CONNECTION_CLOSED:
                return read
            if isinstance(event, library.EndOfMessage) or (isinstance(event, library.Request) and event.end_stream):
                read.messages.append((method, target, body))
                conn.send_response(404, [(b"content-length", b"0")])
                conn.end_message()
                if conn.should_close():
                    return read
                conn.start_next_cycle()
    except library.RemoteProtocolError:
        read.end = "waits" if asked_for_more else "refuses"
        return read


def gunicorn_h1c(wire: bytes, eof: bool) -> Read:
    """The parser alone, without what gunicorn asks of a request on top. `finish` is for the end of a stream."""
    library: Any = importlib.import_module("gunicorn_h1c")
    read = Read()
    pieces: list[bytes] = []
    parser = library.H1CProtocol(on_body=pieces.append)
    rest = wire
    try:
        while True:
            parser.feed(rest)
            if not parser.is_complete:
                break
            read.messages.append((parser.method, parser.path, b"".join(pieces)))
            pieces.clear()
            rest = parser.remaining()
            if not parser.should_keep_alive or not rest or parser.method == b"CONNECT":
                return read
            parser.reset()
        if eof:
            parser.finish()
    except ValueError:  # both of its modules have a ParseError of their own
        read.end = "refuses"
        return read
    read.end = "waits" if rest.strip(b"\r\n") else "accepts"
    return read


READERS: dict[str, Reader] = {
    "h1core": h1core,
    "h11": h11,
    "httptools": httptools,
    "zttp": zttp,
    "gunicorn_h1c": gunicorn_h1c,
}
PEERS = [name for name in READERS if name != "h1core"]


def is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def version(name: str) -> str:
    return importlib.metadata.version(name)
