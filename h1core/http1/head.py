"""Head bytes → a request head, or why it is refused.

A head is parsed once, when it is complete. `HeadScan` finds mistakes in an incomplete one, so that a peer which does
not send HTTP, or ends its lines wrongly, is refused at once and not at a deadline. Both must agree however the bytes
were split: a refusal is decided by the shortest prefix that proves it. `parse_head` may find mistakes in any order,
because `why_no_head` asks `HeadScan.check` first.
"""

from typing import TypeAlias

from h1core.config import Limits
from h1core.errors import RefuseReason
from h1core.events import Request
from h1core.http1 import grammar
from h1core.http1.fields import Pair, Steering, is_host, parse_section, why_not_a_field

Head: TypeAlias = tuple[Request, Steering]
"""A request head whose lines are valid, with its steering fields (see fields.py); its framing is not decided yet."""

RequestLine: TypeAlias = tuple[bytes, bytes, bytes, bytes | None]
"""Method, target, version, and the authority of an absolute-form target. This and `Head` are plain tuples: named ones
would cost an ordinary request a tenth of its time."""


def parse_head(head: bytes, limits: Limits) -> Head | RefuseReason | None:
    """Parse a request head, given with the empty line that ends it. Never raises; linear. RFC 9112 §2 to §5.

    Returns None when a line is not valid: `why_no_head` gives the reason, which takes longer.
    """
    authority = None
    ordinary = grammar.ORDINARY_LINE.match(head)
    if ordinary is not None and (end := ordinary.end()) <= limits.max_request_line_bytes:
        # Fast path: the line ends where this match ends, or else `parse_section` below returns None. 0.2 µs.
        method, target, version = ordinary.groups()
        if method == b"CONNECT" or len(method) > limits.max_method_bytes:
            return None
        section = head[end:-4]
    else:
        end = head.find(b"\r\n")
        line = parse_request_line(head[:end], limits)
        if not isinstance(line, tuple):
            return None
        method, target, version, authority = line
        section = head[end:-4]
    found = parse_section(section, limits.max_fields)
    if not isinstance(found, tuple):
        return found
    headers, fields = found
    if b"host" not in fields and version == b"1.1":
        return RefuseReason.MISSING_HOST
    if authority is not None:
        headers, fields = _name_host(headers, authority), {**fields, b"host": authority}
    request = Request(method, target, headers, b"", version)
    request.raw_head = head
    return request, fields


def why_no_head(head: bytes, limits: Limits) -> RefuseReason:
    """Why a head with an invalid line is refused. Of several reasons, the one that the shortest prefix proves."""
    reason = HeadScan().check(head, limits)
    if reason is not None:
        return reason
    lines = head[:-4].split(b"\r\n")[1:]
    if len(lines) > limits.max_fields:
        return RefuseReason.TOO_MANY_FIELDS
    return next(reason for reason in map(why_not_a_field, lines) if reason is not None)


class HeadScan:
    """Finds mistakes in a head that is still incomplete. Linear over all calls together."""

    __slots__ = ("_line_end", "_looked_at")

    def __init__(self) -> None:
        self._looked_at = 0
        self._line_end = -1

    def check(self, data: bytes | bytearray, limits: Limits) -> RefuseReason | None:
        """Why the received part of a head can never become a valid head, or None while it can. Never raises.

        `data` is the head from its first byte, longer at each call. Of several reasons, the one that the shortest
        prefix proves is returned.
        """
        looked_at, self._looked_at = self._looked_at, len(data)
        if looked_at == 0 and not grammar.HEAD_START.match(data):
            return RefuseReason.NOT_HTTP
        verdicts: list[tuple[int, RefuseReason]] = []
        if bare := find_bare_line_end(data, max(0, looked_at - 1)):
            verdicts.append(bare)
        if self._line_end < 0:
            verdicts += self._check_line(data, looked_at, limits)
        if len(data) >= limits.max_head_bytes and data.find(b"\r\n\r\n", 0, limits.max_head_bytes) < 0:
            verdicts.append((limits.max_head_bytes, RefuseReason.HEAD_TOO_LARGE))
        return min(verdicts, key=lambda verdict: verdict[0])[1] if verdicts else None

    def _check_line(self, data: bytes | bytearray, looked_at: int, limits: Limits) -> list[tuple[int, RefuseReason]]:
        """Check the request line once it is complete, or too long."""
        longest = limits.max_request_line_bytes + 2
        self._line_end = data.find(b"\r\n", max(0, looked_at - 1), longest)
        if self._line_end >= 0:
            line = parse_request_line(bytes(data[: self._line_end]), limits)
            return [(self._line_end + 2, line)] if isinstance(line, RefuseReason) else []
        return [(longest, RefuseReason.REQUEST_LINE_TOO_LONG)] if len(data) >= longest else []


def find_bare_line_end(data: bytes | bytearray, start: int = 0) -> tuple[int, RefuseReason] | None:
    """Find the first CR or LF that stands alone: how many bytes prove it, and which it is. RFC 9112 §2.2."""
    # Counting is ten times as fast as the pattern, and nearly always enough.
    pairs = data.count(b"\r\n", start)
    if data.count(b"\n", start) == pairs and data.count(b"\r", start) - data.endswith(b"\r") == pairs:
        return None
    match = grammar.BARE_LINE_END.search(data, start)
    if match is None:
        return None
    if data[match.start()] == 0x0A:
        return match.end(), RefuseReason.BARE_LF
    return match.end() + 1, RefuseReason.BARE_CR  # proved by the byte behind it


def parse_request_line(line: bytes, limits: Limits) -> RequestLine | RefuseReason:
    """Parse a request line, given without its CR LF. Never raises. RFC 9112 §3.

    `request-line = method SP request-target SP HTTP-version`, with single spaces: §3 lets a recipient accept more, but
    that can desynchronise two recipients.
    """
    if len(line) > limits.max_request_line_bytes:
        return RefuseReason.REQUEST_LINE_TOO_LONG
    parts = line.split(b" ")
    if len(parts) != 3 or b"" in parts:
        return RefuseReason.BAD_REQUEST_LINE
    method, target, version = parts
    if method.translate(None, grammar.TOKEN_BYTES):
        return RefuseReason.BAD_METHOD
    if len(method) > limits.max_method_bytes:
        return RefuseReason.METHOD_TOO_LONG
    if version == b"HTTP/1.1":
        version = b"1.1"
    else:
        match = grammar.VERSION.fullmatch(version)
        if match is None:
            return RefuseReason.BAD_VERSION
        if match[1] != b"1":
            return RefuseReason.UNSUPPORTED_VERSION
        # RFC 9110 §6.2: a higher minor version is treated as the highest that the recipient supports.
        version = b"1.0" if match[2] == b"0" else b"1.1"
    if grammar.ORIGIN_FORM.fullmatch(target) and method != b"CONNECT":
        return method, target, version, None
    authority = _check_other_form(method, target)
    if isinstance(authority, RefuseReason):
        return authority
    return method, target, version, authority


def _check_other_form(method: bytes, target: bytes) -> bytes | RefuseReason | None:
    """Check a target that is not in origin-form, or a CONNECT; the authority of an absolute-form. RFC 9112 §3.2."""
    if method == b"CONNECT":
        if grammar.AUTHORITY_FORM.fullmatch(target):
            host, _, port = target.rpartition(b":")
            return None if host and int(port) <= 65535 else RefuseReason.BAD_TARGET
        is_a_form = target == b"*" or grammar.ORIGIN_FORM.fullmatch(target) or grammar.ABSOLUTE_FORM.fullmatch(target)
        return RefuseReason.TARGET_DOES_NOT_FIT if is_a_form else RefuseReason.BAD_TARGET
    if target == b"*":
        return None if method == b"OPTIONS" else RefuseReason.TARGET_DOES_NOT_FIT
    absolute = grammar.ABSOLUTE_FORM.fullmatch(target)
    if absolute is not None:
        # RFC 9110 §4.2.1: an empty host is invalid; §4.2.4: userinfo is an error. HOST has no userinfo.
        valid = absolute[1] and is_host(absolute[1])
        return absolute[1] if valid else RefuseReason.BAD_TARGET
    if grammar.AUTHORITY_FORM.fullmatch(target):
        return RefuseReason.TARGET_DOES_NOT_FIT
    return RefuseReason.BAD_TARGET


def _name_host(headers: list[Pair], authority: bytes) -> list[Pair]:
    """Replace the Host field by the target's authority (RFC 9112 §3.2.2: the field MUST be ignored)."""
    named = [(name, authority if name == b"host" else value) for name, value in headers]
    return named if any(name == b"host" for name, _ in headers) else [*named, (b"host", authority)]
