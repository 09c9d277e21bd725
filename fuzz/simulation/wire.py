"""Requests: what a client means to send, as bytes. Written without h1core, so that the two can disagree."""

from collections.abc import Callable
from dataclasses import dataclass

from h1core.config import Limits

from .dice import Dice

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Sent:
    """A request, or what passes for one."""

    number: int
    """Echoed by the application; no other request of the run has it."""
    wire: bytes
    method: bytes = b"GET"
    version: bytes = b"1.1"
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    head_bytes: int = 0
    """The head's, with its empty line."""
    statuses: tuple[int, ...] = ()
    """What the server may answer because something is wrong with it; nothing is when there are none."""
    begins: bool = True
    """Whether its head is valid, so that a server may begin with it."""
    expects: bool = False
    persists: bool = True
    start: int = -1
    """Where it begins in the stream of its connection; -1 when it was never begun."""

    @property
    def is_valid(self) -> bool:
        return not self.statuses


def head_of(method: bytes, target: bytes, version: bytes, fields: Fields) -> bytes:
    lines = [b"%b %b HTTP/%b\r\n" % (method, target, version)]
    lines += [b"%b: %b\r\n" % field for field in fields]
    return b"".join(lines) + b"\r\n"


def chunked(dice: Dice, body: bytes, limits: Limits) -> tuple[bytes, Fields]:
    """A body in chunks, with extensions and trailers now and then."""
    wire = bytearray()
    extensions = [b"", b"", b";a", b";a=1", b'; q="x y"']
    room = limits.max_chunk_extensions_bytes
    at = 0
    while at < len(body):
        size = min(1 + dice.below(dice.pick((1, 10, 5000))), len(body) - at)
        extension = dice.pick(extensions)
        if len(extension) > min(room, limits.max_chunk_extension_bytes):
            extension = b""
        room -= len(extension)
        digits = (b"%x" if dice.chance(0.8) else b"%04X") % size
        wire += b"%b%b\r\n%b\r\n" % (digits, extension, body[at : at + size])
        at += size
    trailers: Fields = [(b"x-sum", b"%d" % len(body)), (b"x-end", b"")][: dice.below(3)]
    wire += b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"
    return bytes(wire), trailers


def content_of(number: int, size: int) -> bytes:
    """A body that belongs to one request only."""
    unit = b"<%d>" % number
    return (unit * (size // len(unit) + 1))[:size]


class Maker:
    """Makes the requests of one run."""

    def __init__(self, dice: Dice, limits: Limits) -> None:
        self._dice = dice
        self._limits = limits
        self.made: list[Sent] = []

    def _number(self) -> int:
        return len(self.made)

    def _keep(self, sent: Sent) -> Sent:
        self.made.append(sent)
        return sent

    def request(
        self,
        method: bytes | None = None,
        body: bytes | None = None,
        *,
        version: bytes = b"1.1",
        extra: Fields | None = None,
        framing: str = "",
        expects: bool = False,
        closes: bool | None = None,
    ) -> Sent:
        """A valid request; what is not said is drawn."""
        dice, number = self._dice, self._number()
        if body is None and dice.chance(0.3):
            body = content_of(number, min(dice.pick((0, 1, 10, 300, 2000)), self._limits.max_body_bytes))
        if method is None:
            method = (
                dice.pick((b"POST", b"PUT")) if body is not None else dice.pick((b"GET", b"GET", b"HEAD", b"DELETE"))
            )
        fields: Fields = [(b"Host", b"a")]
        if dice.chance(0.2):
            fields.append((dice.pick((b"User-Agent", b"X-Filler")), b"x" * (1 + dice.below(60))))
        fields += extra or []
        asks_to_close = dice.chance(0.04) if closes is None else closes
        if version == b"1.0":
            persists = not asks_to_close
            if persists:
                fields.append((b"Connection", b"keep-alive"))
        else:
            persists = not asks_to_close
            if asks_to_close:
                fields.append((b"Connection", b"close"))
        if expects:
            fields.append((b"Expect", b"100-continue"))
        trailers: Fields = []
        content = b""
        if body is not None:
            if not framing:
                framing = "length" if version == b"1.0" or dice.chance(0.6) else "chunked"
            if framing == "length":
                fields.append((b"Content-Length", b"%d" % len(body)))
                content = body
            else:
                fields.append((b"Transfer-Encoding", b"chunked"))
                content, trailers = chunked(dice, body, self._limits)
        head = head_of(method, b"/%d" % number, version, fields)
        sent = Sent(
            number,
            head + content,
            method,
            version,
            tuple((name.lower(), value) for name, value in fields),
            body or b"",
            tuple(trailers),
            len(head),
            (),
            True,
            expects and bool(content) and version == b"1.1",
            persists,
        )
        return self._keep(sent)

    def broken(self) -> Sent:
        """A request that must be refused, and how."""
        number = self._number()
        wire, begins, statuses = self._dice.pick(CATALOGUE)(number, self._limits, self._dice)
        return self._keep(_judged_by_method(Sent(number, wire, statuses=statuses, begins=begins)))

    def oversize(self) -> Sent:
        number = self._number()
        wire, begins, statuses = self._dice.pick(TOO_MUCH)(number, self._limits, self._dice)
        return self._keep(_judged_by_method(Sent(number, wire, statuses=statuses, begins=begins)))

    def junk(self, wire: bytes, *statuses: int) -> Sent:
        """Bytes that are no request."""
        return self._keep(Sent(self._number(), wire, statuses=statuses, begins=False))


def _judged_by_method(sent: Sent) -> Sent:
    sent.method = b"HEAD" if sent.wire.startswith(b"HEAD ") else b"GET"
    end = sent.wire.find(b"\r\n\r\n")
    sent.head_bytes = end + 4 if end >= 0 else len(sent.wire)
    return sent


Recipe = Callable[[int, Limits, Dice], tuple[bytes, bool, tuple[int, ...]]]
"""Bytes, whether the head is valid, and the statuses to be refused with."""


def _in_head(template: bytes, status: int) -> Recipe:
    return lambda number, limits, dice: (template.replace(b"#", b"/%d" % number), False, (status,))


def _in_body(body: bytes, status: int, framing: bytes = b"Transfer-Encoding: chunked") -> Recipe:
    def recipe(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
        return b"POST /%d HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (number, framing, body), True, (status,)

    return recipe


CATALOGUE: tuple[Recipe, ...] = (
    _in_head(b"GET  # HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    _in_head(b"GET # HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    _in_head(b"GET # HTTP/1.1\r\n\r\n", 400),
    _in_head(b"HEAD # HTTP/1.1\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\nHost: a\n\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    _in_head(b"G@T # HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    _in_head(b"GET # HTTP/1.1\r\nHost: a\r\nExpect: sunshine\r\n\r\n", 417),
    _in_head(b"POST # HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    _in_head(b"POST # HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    _in_head(b"POST # HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    _in_head(b"POST # HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    _in_head(b"POST # HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    _in_head(b"POST # HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    _in_head(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    _in_head(b"A" * 33 + b" # HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    _in_head(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    _in_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400),
    _in_head(b"\x00\x01\x02", 400),
    _in_body(b"5\r\nhelloXX0\r\n\r\n", 400),
    _in_body(b"5\r\nhello\r0\r\n\r\n", 400),
    _in_body(b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    _in_body(b"-1\r\nhello\r\n0\r\n\r\n", 400),
    _in_body(b"5 \r\nhello\r\n0\r\n\r\n", 400),
    _in_body(b"5;=x\r\nhello\r\n0\r\n\r\n", 400),
    _in_body(b"5\nhello\r\n0\r\n\r\n", 400),
    _in_body(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    _in_body(b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", 400),
)


def _long_line(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    target = b"/%d?" % number + b"x" * (limits.max_request_line_bytes + dice.below(3) - 10)
    status = 414 if limits.max_request_line_bytes + 2 <= limits.max_head_bytes else 431
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target, False, (status,)


def _large_head(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    value = b"x" * (limits.max_head_bytes + dice.below(20) - 10)
    return b"%b /%d HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (dice.pick((b"GET", b"HEAD")), number, value), False, (431,)


def _many_fields(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    fields = b"x: y\r\n" * (limits.max_fields + dice.below(3))
    return b"GET /%d HTTP/1.1\r\nHost: a\r\n%b\r\n" % (number, fields), False, (431,)


def _large_length(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    length = limits.max_body_bytes + dice.pick((1, 1000))
    sent = dice.pick((0, 10, length))
    head = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, length)
    return head + b"b" * sent, False, (413,)


def _large_chunks(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    size = 1 + limits.max_body_bytes // dice.pick((1, 3))
    chunk = b"%x\r\n%b\r\n" % (size, b"c" * size)
    wire, _, _ = _in_body(chunk * (1 + limits.max_body_bytes // size) + b"0\r\n\r\n", 413)(number, limits, dice)
    return wire, True, (413,)


def _long_extension(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    extension = b";" + b"e" * (limits.max_chunk_extension_bytes + dice.below(2))
    return _in_body(b"5%b\r\nhello\r\n0\r\n\r\n" % extension, 400)(number, limits, dice)


def _many_extensions(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    body = b"1;ext\r\nx\r\n" * (1 + limits.max_chunk_extensions_bytes // 4)
    if len(body) // 10 > limits.max_body_bytes:
        return _long_extension(number, limits, dice)
    return _in_body(body + b"0\r\n\r\n", 400)(number, limits, dice)


def _large_trailers(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    trailer = b"x: %b\r\n" % (b"t" * limits.max_trailer_bytes)
    return _in_body(b"1\r\nx\r\n0\r\n%b\r\n" % trailer, 431)(number, limits, dice)


def _many_trailers(number: int, limits: Limits, dice: Dice) -> tuple[bytes, bool, tuple[int, ...]]:
    trailers = b"x:\r\n" * (limits.max_trailer_fields + 1)
    return _in_body(b"1\r\nx\r\n0\r\n%b\r\n" % trailers, 431)(number, limits, dice)


TOO_MUCH: tuple[Recipe, ...] = (
    _long_line,
    _large_head,
    _many_fields,
    _large_length,
    _large_chunks,
    _long_extension,
    _many_extensions,
    _large_trailers,
    _many_trailers,
)
