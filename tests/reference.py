"""The rules once more, by the simplest code that can read them: whole buffers in, no state, no speed, no cleverness.

It shares nothing with h1core but the numbers of `Limits`, so that a mistake would have to be made twice to go unseen.
`read_requests` says what a stream of bytes is worth; `read_responses` reads what a server wrote, as strictly as a
client could. Verdicts are exact also for streams that break off: of a head that is not whole, what no later byte can
mend are its line ends and its request line (RFC 9112 §2.2, §3); of a chunked body, each line when it is whole.
"""

import ipaddress
import string
from dataclasses import dataclass, field
from enum import Enum

from h1core.config import Limits

from .corpus_files import Fields, Message

DIGITS = frozenset(string.digits.encode())
HEX_DIGITS = frozenset(string.hexdigits.encode())
ALPHANUMERIC = frozenset((string.ascii_letters + string.digits).encode())
TOKEN_BYTES = ALPHANUMERIC | frozenset(b"!#$%&'*+-.^_`|~")
NAME_BYTES = ALPHANUMERIC | frozenset(b"-._~!$&'()*+;=")  # of a host; a comma could be two Host fields made one
PATH_BYTES = frozenset(range(0x21, 0x7F)) - frozenset(b'"#<>')
VALUE_BYTES = frozenset(range(256)) - frozenset(range(0x20)) - {0x7F} | {0x09}

ONCE = set(
    b"host content-length transfer-encoding authorization content-range content-type if-range max-forwards "
    b"proxy-authorization range".split()
)
NO_TRAILER = set(
    b"authorization cache-control connection content-encoding content-length content-location content-range "
    b"content-type cookie cookie2 date expect expires forwarded from host if-match if-modified-since if-none-match "
    b"if-range if-unmodified-since keep-alive location max-forwards origin pragma proxy-authenticate "
    b"proxy-authorization proxy-connection range referer retry-after set-cookie set-cookie2 te trailer "
    b"transfer-encoding upgrade vary warning www-authenticate "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)


class End(Enum):
    """How a stream ends."""

    BETWEEN = "at the end of a message, or before the first"
    INSIDE = "inside a message that may still become whole"
    REFUSED = "at something that may not be"
    CLOSED = "at a message that is the last; what follows it is not looked at"


@dataclass(slots=True)
class Reading:
    """What a stream of requests is worth."""

    messages: list[Message] = field(default_factory=list)
    partial: Message | None = None
    """The one whose head is good and whose body is not, or not all there, with the content that can be had of it."""
    end: End = End.BETWEEN


class Bad(Exception):
    """This may not be, whatever follows."""


class Short(Exception):
    """More is needed."""


def require(condition: object) -> None:
    if not condition:
        raise Bad


def read_requests(wire: bytes, limits: Limits, *, tunnels: bool = False) -> Reading:
    """Read a stream of requests from its first byte to its last, each answered at once. Never raises."""
    reading = Reading()
    while True:
        while wire.startswith(b"\r\n"):
            wire = wire[2:]
        if not wire:
            return reading
        content: list[bytes] = []
        head: Head | None = None
        try:
            head, wire = read_head(wire, limits, tunnels)
            trailers, wire = read_body(head, wire, limits, content)
        except (Bad, Short) as why:
            reading.end = End.REFUSED if isinstance(why, Bad) else End.INSIDE
            if head is not None:
                reading.partial = head.message(b"".join(content))
            return reading
        reading.messages.append(head.message(b"".join(content), trailers))
        if not head.persists or len(reading.messages) == limits.max_requests_per_connection:
            reading.end = End.CLOSED
            return reading


@dataclass(slots=True)
class Head:
    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    chunked: bool = False
    length: int = 0
    persists: bool = True

    def all(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.fields if other == name]

    def members(self, name: bytes) -> set[bytes]:
        """Of a list field, over all its lines."""
        return {member.strip(b" \t").lower() for value in self.all(name) for member in value.split(b",")} - {b""}

    def message(self, body: bytes, trailers: Fields = ()) -> Message:
        return Message(self.method, self.target, self.version, tuple(self.fields), body, trailers)


def read_head(wire: bytes, limits: Limits, tunnels: bool) -> tuple[Head, bytes]:
    lines, rest = head_lines(wire, limits)
    head = request_line(lines[0], limits)
    authority = target_authority(head, tunnels)
    require(len(lines) - 1 <= limits.max_fields)
    head.fields = [field_line(line) for line in lines[1:]]
    for name in ONCE:
        require(len(head.all(name)) <= 1)
    for host in head.all(b"host"):
        require(host == b"" or is_host(host))
    require(head.all(b"host") or head.version == b"1.0")
    if authority is not None:
        head.fields = [(name, authority if name == b"host" else value) for name, value in head.fields]
        if not head.all(b"host"):
            head.fields.append((b"host", authority))
    frame(head, limits)
    if head.version == b"1.1":
        require(head.members(b"expect") <= {b"100-continue"})
        head.persists = b"close" not in head.members(b"connection")
    else:
        head.persists = b"keep-alive" in head.members(b"connection") and b"close" not in head.members(b"connection")
    if head.method == b"CONNECT":
        head.persists = False  # a tunnel, or the end
    return head, rest


def head_lines(wire: bytes, limits: Limits) -> tuple[list[bytes], bytes]:
    """The lines of a head that is whole, and what follows; of one that is not, what can be told already."""
    end = wire[: limits.max_head_bytes].find(b"\r\n\r\n")
    if end >= 0:
        lines = wire[:end].split(b"\r\n")
        require(not any(b"\r" in line or b"\n" in line for line in lines))
        return lines, wire[end + 4 :]
    require(len(wire) < limits.max_head_bytes)
    no_bare_line_end(wire)
    if wire == b"\r":
        raise Short
    require(wire[0] in TOKEN_BYTES)
    line, line_end, _ = wire.partition(b"\r\n")
    if line_end:
        target_authority(request_line(line, limits), tunnels=True)
    require(line_end or len(line) < limits.max_request_line_bytes + 2)
    raise Short


def no_bare_line_end(data: bytes) -> None:
    """But a CR at the very end, whose LF may come."""
    rest = data.replace(b"\r\n", b"")
    require(b"\n" not in rest)
    require(b"\r" not in rest.removesuffix(b"\r"))
    require(not rest.endswith(b"\r") or data.endswith(b"\r"))


def request_line(line: bytes, limits: Limits) -> Head:
    require(len(line) <= limits.max_request_line_bytes)
    parts = line.split(b" ")
    require(len(parts) == 3)
    method, target, version = parts
    require(is_token(method) and len(method) <= limits.max_method_bytes)
    require(len(version) == 8 and version.startswith(b"HTTP/1.") and version[7] in DIGITS)
    return Head(method, target, b"1.0" if version.endswith(b"0") else b"1.1", [])


def target_authority(head: Head, tunnels: bool) -> bytes | None:
    """What an absolute-form names as its host."""
    target = head.target
    if head.method == b"CONNECT":
        host, colon, port = target.rpartition(b":")
        require(tunnels and colon and host and len(port) in range(1, 6) and is_host(target))
    elif target == b"*":
        require(head.method == b"OPTIONS")
    elif not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        require(scheme.lower() in (b"http", b"https") and b"://" in target)
        authority = rest.partition(b"/")[0].partition(b"?")[0]
        require(is_host(authority))
        require(PATH_BYTES.issuperset(rest[len(authority) :]))
        return authority
    else:
        require(PATH_BYTES.issuperset(target))
    return None


def is_token(text: bytes) -> bool:
    return bool(text) and TOKEN_BYTES.issuperset(text)


def is_host(text: bytes) -> bool:
    """RFC 9110 §7.2, of an RFC 3986 §3.2.2 host that is not empty."""
    if text.startswith(b"["):
        host, bracket, port = text.partition(b"]")
        if not bracket or not is_ip_literal(host[1:]):
            return False
    else:
        host, colon, port = text.partition(b":")
        port = colon + port
        if not host or not is_name(host):
            return False
    if not port:
        return True
    digits = port[1:].lstrip(b"0")
    return port.startswith(b":") and DIGITS.issuperset(port[1:]) and (len(digits) < 6 and int(digits or b"0") <= 65535)


def is_name(text: bytes) -> bool:
    first, *escapes = text.split(b"%")
    return NAME_BYTES.issuperset(first) and all(
        len(escape) >= 2 and HEX_DIGITS.issuperset(escape[:2]) and NAME_BYTES.issuperset(escape[2:])
        for escape in escapes
    )


def is_ip_literal(text: bytes) -> bool:
    if text[:1] in (b"v", b"V"):
        version, dot, address = text[1:].partition(b".")
        allowed = NAME_BYTES | frozenset(b",:")
        return bool(version and dot and address and HEX_DIGITS.issuperset(version) and allowed.issuperset(address))
    try:
        return b"%" not in text and bool(ipaddress.IPv6Address(text.decode("ascii")))
    except ValueError:
        return False


def field_line(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    require(colon and is_token(name) and VALUE_BYTES.issuperset(value))
    return name.lower(), value.strip(b" \t")


def frame(head: Head, limits: Limits) -> None:
    """RFC 9112 §6.3, and nothing forgiven."""
    codings, lengths = head.all(b"transfer-encoding"), head.all(b"content-length")
    require(head.method != b"CONNECT" or not (codings or lengths))
    if codings:
        require(not lengths and head.version == b"1.1" and codings[0].lower() == b"chunked")
        head.chunked = True
    elif lengths:
        digits = lengths[0].lstrip(b"0")
        require(lengths[0] and DIGITS.issuperset(lengths[0]) and len(digits) < 100)
        head.length = int(digits or b"0")
        require(head.length <= limits.max_body_bytes)


def read_body(head: Head, wire: bytes, limits: Limits, content: list[bytes]) -> tuple[Fields, bytes]:
    """The trailers and what follows; content goes into the list as far as it can be had."""
    if not head.chunked:
        content.append(wire[: head.length])
        if len(wire) < head.length:
            raise Short
        return (), wire[head.length :]
    total = extension_bytes = 0
    while True:
        line, wire = chunk_line(wire, 16 + limits.max_chunk_extension_bytes)
        size, extensions = chunk_size(line)
        extension_bytes += len(extensions)
        require(len(extensions) <= limits.max_chunk_extension_bytes)
        require(extension_bytes <= limits.max_chunk_extensions_bytes)
        if size == 0:
            return read_trailers(wire, limits)
        total += size
        require(total <= limits.max_body_bytes)
        content.append(wire[:size])
        after = wire[size : size + 2]
        require(b"\r\n".startswith(after))
        if len(after) < 2:
            raise Short
        wire = wire[size + 2 :]


def chunk_line(wire: bytes, longest: int) -> tuple[bytes, bytes]:
    line, line_end, rest = wire.partition(b"\r\n")
    if line_end:
        no_bare_line_end(line + b".")
        require(len(line) <= longest)
        return line, rest
    no_bare_line_end(wire)
    require(len(wire) < longest + 2)
    raise Short


def chunk_size(line: bytes) -> tuple[int, bytes]:
    digits = 0
    while digits < len(line) and line[digits] in HEX_DIGITS:
        digits += 1
    require(0 < digits <= 16)
    rest = extensions = line[digits:]
    while rest:
        rest = rest.lstrip(b" \t")
        require(rest.startswith(b";"))
        rest = eat_token(rest[1:].lstrip(b" \t"))
        behind = rest.lstrip(b" \t")
        if behind.startswith(b"="):
            behind = behind[1:].lstrip(b" \t")
            rest = eat_quoted(behind) if behind.startswith(b'"') else eat_token(behind)
    return int(line[:digits], 16), extensions


def eat_token(text: bytes) -> bytes:
    rest = text.lstrip(bytes(TOKEN_BYTES))
    require(len(rest) < len(text))
    return rest


def eat_quoted(text: bytes) -> bytes:
    at = 1
    while at < len(text) and text[at] != 0x22:
        at += 2 if text[at] == 0x5C else 1
    require(at < len(text) and VALUE_BYTES.issuperset(text[:at]))
    return text[at + 1 :]


def read_trailers(wire: bytes, limits: Limits) -> tuple[Fields, bytes]:
    if wire.startswith(b"\r\n"):
        return (), wire[2:]
    end = wire[: limits.max_trailer_bytes].find(b"\r\n\r\n")
    if end < 0:
        no_bare_line_end(wire)
        require(len(wire) < limits.max_trailer_bytes)
        raise Short
    lines = wire[:end].split(b"\r\n")
    require(not any(b"\r" in line or b"\n" in line for line in lines))
    trailers = tuple(field_line(line) for line in lines)
    require(len(trailers) <= limits.max_trailer_fields)
    require(not any(name in NO_TRAILER for name, _ in trailers))
    return trailers, wire[end + 4 :]


# Responses.


@dataclass(slots=True)
class Answer:
    """A response, final or not; `ends` says what ended it."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: Fields = ()
    is_whole: bool = True
    until_close: bool = False

    def get(self, name: bytes) -> bytes | None:
        values = [value for other, value in self.fields if other == name]
        assert len(values) <= 1, f"{name!r} stands twice in {self.fields}"
        return values[0] if values else None


def read_responses(wire: bytes, methods: list[bytes], *, has_ended: bool) -> tuple[list[Answer], bytes]:
    """Read what a server wrote as answers to requests of these methods, and what was written behind the last of them.

    `has_ended` says that the connection has. Raises AssertionError when no client could read it.
    """
    answers: list[Answer] = []
    left = list(methods)
    while wire and left:
        end = wire.find(b"\r\n\r\n")
        if end < 0:
            return answers, wire
        answer = response_head(wire[:end])
        answers.append(answer)
        wire = wire[end + 4 :]
        if answer.status == 101 or (left[0] == b"CONNECT" and answer.status == 200):
            return answers, wire
        if answer.status >= 200:
            wire = response_body(answer, wire, left.pop(0), has_ended)
    return answers, wire


def response_head(head: bytes) -> Answer:
    line, *lines = head.split(b"\r\n")
    assert line[:9] == b"HTTP/1.1 ", line
    assert line[12:13] == b" ", line
    assert VALUE_BYTES.issuperset(head.replace(b"\r\n", b"")), head
    try:
        return Answer(int(line[9:12]), [field_line(each) for each in lines])
    except Bad as bad:
        raise AssertionError(head) from bad


def response_body(answer: Answer, wire: bytes, method: bytes, has_ended: bool) -> bytes:
    """Take the body of a final response; what follows it."""
    length, coding = answer.get(b"content-length"), answer.get(b"transfer-encoding")
    assert length is None or coding is None, "two framings"
    if method == b"HEAD" or answer.status in (204, 304):
        return wire
    if coding is not None:
        assert coding == b"chunked", coding
        content: list[bytes] = []
        try:
            answer.trailers, wire = read_body(Head(b"", b"", b"", [], chunked=True), wire, CLIENT_LIMITS, content)
        except Short:
            answer.is_whole, wire = False, b""
        except Bad as bad:
            raise AssertionError(f"not chunked: {wire!r}") from bad
        answer.body = b"".join(content)
        return wire
    if length is not None:
        answer.body, wire = wire[: int(length)], wire[int(length) :]
        answer.is_whole = len(answer.body) == int(length)
        return wire
    answer.body, answer.is_whole, answer.until_close = wire, has_ended, True
    return b""


CLIENT_LIMITS = Limits(max_body_bytes=1 << 40, max_trailer_bytes=1 << 20)
