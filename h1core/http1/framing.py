"""Where a message ends, in both directions: one function each, with the steps of RFC 9112 §6.3 in their order.

Every known way to smuggle a request is a disagreement about framing, so this file has all of it and nothing else.
Invalid framing that the RFC lets a server accept is refused.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from h1core.config import Limits
from h1core.errors import LocalError, RefuseReason
from h1core.http1 import grammar


class Kind(IntEnum):
    """How the end of a body is known."""

    NONE = 0
    """There is no body."""
    LENGTH = 1
    """Content-Length says how many bytes."""
    CHUNKED = 2
    """The last chunk and its trailer section."""
    UNTIL_CLOSE = 3
    """The end of the connection; responses to HTTP/1.0 only."""


class Framing(NamedTuple):
    """How the end of a body is known, and its length in bytes for `Kind.LENGTH`."""

    kind: Kind
    length: int = 0


LENGTH: Final = Kind.LENGTH
NO_BODY: Final = Framing(Kind.NONE)
CHUNKED: Final = Framing(Kind.CHUNKED)
UNTIL_CLOSE: Final = Framing(Kind.UNTIL_CLOSE)

UNUSUAL_FRAMING: Final = frozenset({204, 205, 304})
"""Final statuses whose responses are not simply framed by the length of their body."""

MAX_LENGTH_DIGITS: Final = 18
"""Digits of a Content-Length that are converted; more exceed any limit, and int() raises for too many (h11 #181)."""


def request_framing(
    method: bytes, version: bytes, fields: dict[bytes, bytes], limits: Limits
) -> Framing | RefuseReason:
    """Decide how the body of a request is framed. Never raises. RFC 9112 §6.3; step numbers are the RFC's.

    `fields` maps names to values; no framing field was repeated.
    """
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if length is None and coding is None:
        return NO_BODY  # step 7
    if coding is not None:
        if version == b"1.0":
            return RefuseReason.CODING_IN_HTTP_1_0  # §6.1: "MUST treat the message as if the framing is faulty"
        if length is not None:
            return RefuseReason.LENGTH_AND_CODING  # step 3: "ought to be handled as an error"
        if method == b"CONNECT":
            return RefuseReason.CONNECT_WITH_BODY
        return CHUNKED if coding.lower() == b"chunked" else _why_not_chunked(coding)  # step 4
    assert length is not None
    if not grammar.DIGITS.fullmatch(length):
        return RefuseReason.BAD_CONTENT_LENGTH  # step 5; also for a list of equal values
    if method == b"CONNECT":
        return RefuseReason.CONNECT_WITH_BODY
    digits = length.lstrip(b"0") or b"0"
    if len(digits) > MAX_LENGTH_DIGITS or int(digits) > limits.max_body_bytes:
        return RefuseReason.BODY_TOO_LARGE
    return Framing(LENGTH, int(digits)) if digits != b"0" else NO_BODY  # step 6


def _why_not_chunked(coding: bytes) -> RefuseReason:
    """Distinguish an unknown coding from one that leaves the message's end unclear. RFC 9112 §6.1, §6.3 step 4."""
    codings = [member.strip(b" \t").lower() for member in coding.split(b",")]
    ends_well = codings[-1] == b"chunked" and codings.count(b"chunked") == 1
    if ends_well and all(grammar.TOKEN.match(member) for member in codings):
        return RefuseReason.UNKNOWN_TRANSFER_CODING
    return RefuseReason.BAD_TRANSFER_ENCODING


def response_framing(
    status: int, method: bytes, version: bytes, control: dict[bytes, bytes], body_bytes: int | None
) -> Framing:
    """Decide how the body of a final response is framed. RFC 9112 §6.3, §6.1; step numbers are the RFC's.

    `control` has the caller's `content-length` and `transfer-encoding`, `body_bytes` the size of a body given whole, or
    None for a streamed one. Raises LocalError when the caller's fields contradict each other, the body, the status or
    the request.
    """
    length = control.get(b"content-length")
    coding = control.get(b"transfer-encoding")
    declared = None if length is None else _declared_length(length)
    if coding is not None:
        _check_coding(coding, length, version, body_bytes)
    bodiless = status in (204, 304) or method == b"HEAD"  # step 1
    if bodiless:
        if status == 204 and (length is not None or coding is not None):
            raise LocalError("a 204 response has neither Content-Length nor Transfer-Encoding; leave them out")
        if body_bytes:
            what = "a response to HEAD" if method == b"HEAD" else f"a {status} response"
            raise LocalError(f"{what} has no body; send it with body=b''")
        return NO_BODY
    if status == 205 and (body_bytes or body_bytes is None):
        raise LocalError("a 205 response has no content (RFC 9110 §15.3.6); send it with body=b''")
    if body_bytes is not None:
        if declared is not None and declared != body_bytes:
            raise LocalError(f"Content-Length says {declared} and the body has {body_bytes} bytes; leave the field out")
        return Framing(LENGTH, body_bytes)
    if declared is not None:
        return Framing(LENGTH, declared)  # step 6
    return CHUNKED if version == b"1.1" else UNTIL_CLOSE  # steps 4 and 8


def _declared_length(length: bytes) -> int:
    if not grammar.DIGITS.fullmatch(length) or len(length) > MAX_LENGTH_DIGITS:
        raise LocalError(f"Content-Length must be one decimal number, not {length!r}")
    return int(length)


def _check_coding(coding: bytes, length: bytes | None, version: bytes, body_bytes: int | None) -> None:
    """Raise LocalError unless the caller's Transfer-Encoding is what would be chosen anyway."""
    if length is not None:
        raise LocalError("a response has Content-Length or Transfer-Encoding, not both; leave Transfer-Encoding out")
    if coding.lower() != b"chunked":
        raise LocalError(f"the only transfer coding is chunked, not {coding!r}; leave Transfer-Encoding out")
    if version == b"1.0":
        raise LocalError("an HTTP/1.0 client knows no Transfer-Encoding; leave it out and the framing is chosen")
    if body_bytes is not None:
        raise LocalError("a body given whole goes with its length; leave Transfer-Encoding out")
