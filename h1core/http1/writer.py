"""Responses → bytes.

Everything from the caller is checked before a byte is queued, so a response is queued whole or not at all. What is
never sent: a control byte in a name, a value or a reason (CVE-2020-7695, CVE-2025-67724), two framings, and a body
where none is allowed. What is the server's to say is left out, and the caller's `on_left_out` is told (hop_fields.py).
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from h1core.bounded_dict import BoundedDict
from h1core.errors import LocalError, RefuseReason
from h1core.events import FileSlice, Headers, InformationalResponse, Response
from h1core.http1 import grammar
from h1core.http1.connection_field import NO_OPTIONS, options
from h1core.http1.framing import Framing, Kind, response_framing
from h1core.http1.hop_fields import CONNECTION, HOP_FIELDS, UPGRADE, LeftOut
from h1core.http1.output import SMALL_BYTES, Buffer
from h1core.http1.state import CloseReason
from h1core.http1.statuses import NO_LENGTH, PHRASES, WITHOUT_CONTENT

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

CONTROL_FIELDS: Final = frozenset({b"content-length", CONNECTION, b"date", *HOP_FIELDS})
"""Fields of a response that h1core adds itself when the caller does not, or leaves out."""

OnLeftOut: TypeAlias = Callable[[LeftOut], None]


def ignore_left_out(what: LeftOut) -> None:
    """Do nothing about it."""


UNCACHED_FIELDS: Final = frozenset({b"set-cookie", b"etag", b"location", b"authorization"})
"""Fields that carry a secret, or a value that is rarely repeated."""

LISTS: Final = frozenset({CONNECTION, *HOP_FIELDS} - {b"transfer-encoding"})
"""Fields that may stand in several lines, which are one list (RFC 9110 §5.3)."""

MAX_CACHED_FIELDS: Final = 1024
MAX_CACHED_FIELD_BYTES: Final = 256
MAX_CACHED_STARTS: Final = 256
MAX_CACHED_START_BYTES: Final = 1024

_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii") for status, phrase in PHRASES.items() if status >= 200
}


class EncodedField(NamedTuple):
    """One valid field: its line with CR LF, empty if it is not sent as it is; its name in lower case if it is a control
    field, else empty; its value.
    """

    line: bytes
    control: bytes
    value: bytes


_remembered: BoundedDict[tuple[bytes, bytes], EncodedField] = BoundedDict(MAX_CACHED_FIELDS)
"""Fields that were found valid before; bounded and without secrets, like the tables in head_cache.py."""

_StartKey: TypeAlias = tuple[int, bytes | None, tuple[tuple[bytes, bytes], ...]]


class _Start:
    """The status line and fields of a head that was sent before, and the last whole head that began with them."""

    __slots__ = ("declared_bytes", "fields", "last")

    def __init__(self, fields: bytes, declared_bytes: int | None) -> None:
        self.fields = fields
        self.declared_bytes = declared_bytes
        """The Content-Length among the fields, if one is."""
        self.last = -1, b"", b""
        """A Content-Length, a Date line, and the head with both, without a Connection field. One tuple, because a
        server in another thread may read it."""


_starts: BoundedDict[_StartKey, _Start] = BoundedDict(MAX_CACHED_STARTS)
"""Status, reason and fields → their lines, of whole heads whose fields are all in `_remembered`, and whose only control
field, if any, is a Content-Length that is right. At most 256, of at most 1 KiB."""


def whole_head(
    response: Response,
    body_bytes: int,
    method: bytes,
    version: bytes,
    close_reason: CloseReason | None,
    date_line: bytes,
    on_left_out: OnLeftOut = ignore_left_out,
) -> tuple[bytes, CloseReason | None]:
    """Encode the head of a final response whose body is given whole, to a request of `method` and `version`.

    `close_reason` is why the connection ends anyway, or None. The body of a status without content is not given here.
    Returns the head, and why the connection ends after this response, if it does. Raises LocalError for anything that
    may not be sent.
    """
    status = response.status
    headers = response.headers
    if type(headers) is list:
        headers = tuple(headers)
    try:
        start = _starts.get((status, response.reason, headers)) if type(headers) is tuple else None
    except TypeError:  # not hashable: a list in it, or a bytearray
        start = None
    if start is not None and method != b"HEAD" and start.declared_bytes in (None, body_bytes):
        # Fast path: no control field but a Content-Length, so that what is added is always the same. 0.5 of 0.7 µs.
        last_bytes, last_date_line, head = start.last
        if last_bytes != body_bytes or last_date_line != date_line:
            length_line = b"content-length: %d\r\n" % body_bytes if start.declared_bytes is None else b""
            head = b"%b%b%b\r\n" % (start.fields, length_line, date_line)
            start.last = body_bytes, date_line, head
        if close_reason is not None:
            head = b"%bconnection: close\r\n\r\n" % head[:-2]
        elif version == b"1.0":
            head = b"%bconnection: keep-alive\r\n\r\n" % head[:-2]
        return head, close_reason
    was_known = _are_remembered(headers)
    parts = [_status_line(status, response.reason)]
    control = _encode_fields(headers, parts)
    has_length = True
    is_plain = not control or control == {b"content-length": b"%d" % body_bytes}
    if was_known and is_plain and status not in WITHOUT_CONTENT:
        start = _Start(b"".join(parts), body_bytes if control else None)
        _remember_start((status, response.reason, tuple(headers)), start)
    if not is_plain or status in WITHOUT_CONTENT or method == b"HEAD":  # for any other, response_framing says the same
        has_length = response_framing(status, method, version, control, body_bytes).kind is Kind.LENGTH
    if has_length and b"content-length" not in control:
        parts.append(b"content-length: %d\r\n" % body_bytes)
    return _finish_head(status, parts, control, version, close_reason, date_line, on_left_out)


def _are_remembered(headers: Headers) -> bool:
    """Whether each of these fields is in `_remembered`."""
    try:
        return isinstance(headers, (tuple, list)) and all(map(_remembered.__contains__, headers))
    except TypeError:
        return False


def _remember_start(key: _StartKey, start: _Start) -> None:
    """Cache the start of a head, unless it is too large."""
    if len(start.fields) <= MAX_CACHED_START_BYTES:
        _starts[key] = start


def streamed_head(
    response: Response,
    method: bytes,
    version: bytes,
    close_reason: CloseReason | None,
    date_line: bytes,
    on_left_out: OnLeftOut = ignore_left_out,
) -> tuple[bytes, Framing, CloseReason | None]:
    """Encode the head of a final response whose body follows; like `whole_head`, and returns the framing, too."""
    status = response.status
    lines = [_status_line(status, response.reason)]
    control = _encode_fields(response.headers, lines)
    framing = response_framing(status, method, version, control, None)
    if framing.kind is Kind.CHUNKED:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif framing.kind is Kind.UNTIL_CLOSE:
        close_reason = close_reason or CloseReason.CLOSE_DELIMITED
    head, close_reason = _finish_head(status, lines, control, version, close_reason, date_line, on_left_out)
    return head, framing, close_reason


def _status_line(status: object, reason: object) -> bytes:
    """The status line of a final response. Raises LocalError. RFC 9112 §4."""
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise LocalError(f"a final status is a whole number from 200 to 599, not {status!r}")
    if reason is None:
        return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    if type(reason) is not bytes or reason.translate(None, grammar.FIELD_VALUE_BYTES):
        raise LocalError(f"a reason phrase is bytes without control bytes, CR and LF least of all, not {reason!r}")
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)


def _finish_head(
    status: int,
    lines: list[bytes],
    control: dict[bytes, bytes],
    version: bytes,
    close_reason: CloseReason | None,
    date_line: bytes,
    on_left_out: OnLeftOut,
) -> tuple[bytes, CloseReason | None]:
    """Add Date, the one Connection field and the empty line, and tell what was left out."""
    if status in NO_LENGTH:
        _set_no_length(status, lines, control, on_left_out)
    if date_line and b"date" not in control:
        lines.append(date_line)
    said = options(control[CONNECTION]) if CONNECTION in control else NO_OPTIONS
    if b"close" in said:
        close_reason = close_reason or CloseReason.APPLICATION_ASKED
    ours = [b"close"] if close_reason is not None else [b"keep-alive"] if version == b"1.0" else []
    offers = status == 426 and UPGRADE in control  # such a response names the protocols (RFC 9110 §15.5.22)
    if offers:
        lines.append(b"upgrade: %b\r\n" % control[UPGRADE])
        ours.append(UPGRADE)
    if ours:
        lines.append(b"connection: %b\r\n" % b", ".join(ours))
    lines.append(b"\r\n")
    if not said <= {b"close", *ours}:
        on_left_out(LeftOut.CONNECTION)
    for name in control:
        if name in HOP_FIELDS and not (offers and name == UPGRADE):
            on_left_out(HOP_FIELDS[name])
    return b"".join(lines), close_reason


def _set_no_length(status: int, lines: list[bytes], control: dict[bytes, bytes], on_left_out: OnLeftOut) -> None:
    """Leave out the Content-Length of a response without content; a 205 says 0 all the same (RFC 9110 §15.3.6)."""
    if b"content-length" in control:
        lines[1:] = [line for line in lines[1:] if line[:15].lower() != b"content-length:"]
        if status == 204 or control[b"content-length"] != b"0":
            on_left_out(LeftOut.LENGTH)
    if status == 205:
        lines.append(b"content-length: 0\r\n")


def _encode_fields(headers: Headers, lines: list[bytes]) -> dict[bytes, bytes]:
    """Add the lines of `headers` to `lines`; return the control fields among them."""
    control: dict[bytes, bytes] = {}
    known = _remembered.get
    try:
        pairs = iter(headers)
    except TypeError:
        raise LocalError(f"headers are a sequence of pairs (name, value), not {headers!r}") from None
    for pair in pairs:
        try:
            encoded = known(pair)
        except TypeError:  # a list, or a bytearray in the pair
            encoded = None
        line, name, value = encoded or _encode_field(pair)
        if name:
            if name not in control:
                control[name] = value
            elif name in LISTS:
                control[name] += b", " + value
            elif control[name] == value:
                continue
            else:
                raise LocalError(f"the field {name.decode()} may stand once in a response")
        lines.append(line)
    return control


def _encode_field(pair: tuple[bytes, bytes]) -> EncodedField:
    """Check and encode one field, and remember it."""
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise LocalError(f"headers are pairs (name, value) of bytes, not {pair!r}") from None
    if type(name) is not bytes or type(value) is not bytes:
        raise LocalError(f"header names and values are bytes, such as (b'name', b'value'), not {pair!r}")
    if not grammar.TOKEN.fullmatch(name):
        raise LocalError(f"a header name is a token without spaces or colons (RFC 9110 §5.1), not {name!r}")
    if value.translate(None, grammar.FIELD_VALUE_BYTES):
        raise LocalError(f"a header value has no control bytes, CR and LF least of all (RFC 9110 §5.5): {value!r}")
    lower = name.lower()
    sent = value.strip(b" \t")  # a recipient does the same (RFC 9110 §5.5)
    line = b"" if lower == CONNECTION or lower in HOP_FIELDS else b"%b: %b\r\n" % (name, sent)
    encoded = EncodedField(line, lower if lower in CONTROL_FIELDS else b"", sent)
    if len(name) + len(value) <= MAX_CACHED_FIELD_BYTES and lower not in UNCACHED_FIELDS:
        _remembered[(name, value)] = encoded
    return encoded


def informational_head(response: InformationalResponse) -> bytes:
    """Encode an interim response. Raises LocalError for anything that may not be sent. RFC 9110 §15.2."""
    status: object = response.status  # the caller may give any type
    if not isinstance(status, int) or not 100 <= status <= 199:
        raise LocalError(f"an interim status is a whole number from 100 to 199, not {status!r}")
    if status == 101:
        raise LocalError("101 hands the connection over: call Conn.switch_protocols")
    return _bodiless_head(status, response.headers, "an interim response")


def switch_head(protocol: bytes, headers: Headers, date_line: bytes) -> bytes:
    """Encode the response that hands the connection over: 101, or 200 to a CONNECT. Raises LocalError."""
    if protocol == b"connect":
        return _bodiless_head(200, headers, "a response to CONNECT", date_line=date_line)
    return _bodiless_head(101, headers, "a 101 response", b"connection: upgrade\r\nupgrade: %b\r\n" % protocol)


def _bodiless_head(
    status: int,
    headers: Headers,
    what: str,
    first_lines: bytes = b"",
    date_line: bytes = b"",
) -> bytes:
    """Encode a head without a body. Raises LocalError for fields that declare one.

    `first_lines` say all that there is to say of the connection; such fields of the caller are left out.
    """
    lines = [f"HTTP/1.1 {status:d} {PHRASES.get(status, '')}\r\n".encode("ascii"), first_lines]
    control = _encode_fields(headers, lines)
    if b"content-length" in control or b"transfer-encoding" in control:
        raise LocalError(f"{what} has no body, so neither Content-Length nor Transfer-Encoding")
    if date_line and b"date" not in control:
        lines.append(date_line)
    lines.append(b"\r\n")
    return b"".join(lines)


class BodyWriter:
    """A streamed response body, encoded piece by piece as its framing requires. RFC 9112 §6, §7.1.

    Each method returns the buffers to queue. Raises LocalError for more or less body than was declared, and then
    nothing has changed.
    """

    __slots__ = ("_kind", "_left", "_on_left_out")

    def __init__(self, framing: Framing, on_left_out: OnLeftOut = ignore_left_out) -> None:
        self._kind = framing.kind
        self._left = framing.length
        self._on_left_out = on_left_out

    @property
    def shows_its_end(self) -> bool:
        """Whether a peer can tell a whole body from one that is cut off."""
        return self._kind is not Kind.UNTIL_CLOSE

    def data(self, data: Buffer | FileSlice) -> list[Buffer | FileSlice]:
        """Encode a piece. A large one is not copied."""
        size = len(data)
        if not size:  # an empty chunk would be the last one
            return []
        match self._kind:
            case Kind.LENGTH:
                if size > self._left:
                    raise LocalError(f"the body is {size - self._left} bytes longer than Content-Length said")
                self._left -= size
                return [data]
            case Kind.CHUNKED:
                line = b"%x\r\n" % size
                if size > SMALL_BYTES or isinstance(data, FileSlice):
                    return [line, data, b"\r\n"]
                return [b"".join((line, data, b"\r\n"))]
            case Kind.UNTIL_CLOSE:
                return [data]
            case Kind.FORBIDDEN:
                self._on_left_out(LeftOut.CONTENT)
                return []
            case Kind.NONE:
                raise LocalError("a response to HEAD has no body; send EndOfMessage")

    def end(self, trailers: Headers) -> list[Buffer]:
        """Encode the end. Trailers are sent only in a chunked body (RFC 9112 §7.1.2 lets them be dropped)."""
        if self._kind is Kind.LENGTH:
            if self._left:
                raise LocalError(f"the body is {self._left} bytes shorter than Content-Length said; call Conn.abort")
            if trailers:
                raise LocalError("a body with Content-Length has no trailers; leave Content-Length out")
        last = _last_chunk(trailers)
        return [last] if self._kind is Kind.CHUNKED else []


def _last_chunk(trailers: Headers) -> bytes:
    """The last chunk and the trailers. Raises LocalError for fields that may not stand there. RFC 9112 §7.1.2."""
    if not trailers:
        return LAST_CHUNK
    lines = [b"0\r\n"]
    if _encode_fields(trailers, lines):
        raise LocalError(
            "framing, Date and what concerns the connection do not stand in a trailer section (RFC 9110 §6.5.1)"
        )
    return b"".join((*lines, b"\r\n"))


def error_response(status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> Response:
    """The answer to a peer's mistake: its status and one sentence."""
    plain = (b"content-type", b"text/plain; charset=utf-8")
    return Response(status, (plain, *headers), text.encode() + b"\n")


def refusal_response(reason: RefuseReason) -> Response:
    """The answer to a refused request."""
    return error_response(reason.status, f"{reason.text} ({reason.source})")
