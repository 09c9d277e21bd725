"""What the operations fuzzer reads from its tape: choices, the bytes of a peer, the answers of an application."""

from typing import TypeVar

from h1core.events import Data, EndOfMessage, Headers, InformationalResponse, Response, Sendable

T = TypeVar("T")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    GET,
    GET * 3,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n" + b"." * 50,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n...",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 28\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 60\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n",
    CHUNKED + b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    CHUNKED,
    CHUNKED + b"5\r\nhello\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\ntunnel",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]
ODD = [
    b"a\r\n0123456789\r\n",
    b"a\r\n0123456789\r\n",
    b"0\r\n\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n",
    b"1e\r\n%b\r\n0\r\n\r\n" % (b"." * 30),
    b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"." * 50,
    b"." * 40_000,
]
FIRST_ODD = 200
FIRST_RAW = 240
SIZES = [1 << 20, 1, 7, 100]


class Tape:
    """Choices from bytes; zeros for ever when these are over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return 0 if self._at > len(self._data) else self._data[self._at - 1]

    def pick(self, some: list[T]) -> T:
        return some[self.byte() % len(some)]

    def size(self) -> int:
        return self.pick(SIZES)

    def take(self, count: int) -> bytes:
        start = min(self._at, len(self._data))
        self._at = start + count
        return self._data[start : self._at]


class Peer:
    """What a peer has written and nobody has read."""

    def __init__(self) -> None:
        self.written = b""

    def writes(self, tape: Tape) -> None:
        """Mostly a request or the go-on of one, at times what may not be, or bytes from the tape themselves."""
        number = tape.byte()
        if number < FIRST_ODD:
            self.written += REQUESTS[number % len(REQUESTS)]
        elif number < FIRST_RAW:
            self.written += ODD[(number - FIRST_ODD) % len(ODD)]
        else:
            self.written += tape.take(number % 16 + 1)

    def give(self, count: int) -> bytes:
        data, self.written = self.written[:count], self.written[count:]
        return data


CONTENT = [b"", b"hello", b"x" * 200, b"x" * 20_000]
STATUSES = [200, 204, 205, 304, 404, 500]
FIELDS: list[Headers] = [
    [],
    [(b"Connection", b"close")],
    [(b"Content-Length", b"5")],
    [(b"Transfer-Encoding", b"chunked")],
    [(b"x", b"\r\nInjected: 1")],
    [(b"Connection", b"keep-alive"), (b"X-A", b"b")],
]
INTERIM = [100, 102, 103, 101, 99]


def sendable(tape: Tape, fields: list[tuple[bytes, bytes]]) -> Sendable:
    """What an application may try to send; final responses get these fields among theirs."""
    fields = [*fields, *tape.pick(FIELDS)]
    match tape.byte() % 6:
        case 0 | 1:
            return Response(tape.pick(STATUSES), fields, tape.pick(CONTENT))
        case 2:
            return Response(tape.pick(STATUSES), fields, None)
        case 3:
            return Data(tape.pick(CONTENT))
        case 4:
            return EndOfMessage([(b"X-T", b"u")] if tape.byte() & 1 else [])
        case _:
            return InformationalResponse(tape.pick(INTERIM), tape.pick(FIELDS))
