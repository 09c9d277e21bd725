"""Where a message ends, in both directions: one function each, with the steps of RFC 9112 §6.3 in their order.

Every known way to smuggle a request is a disagreement about framing, so this file has all of it and nothing else.
Invalid framing that the RFC lets a server accept is refused.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from h1core.config import Limits
from h1core.errors import LocalError, RefuseReason
from h1core.http1 import grammar
from h1core.http1.statuses import WITHOUT_CONTENT


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
    FORBIDDEN = 4
    """The status allows for no content: what the caller gives is left out."""


class Framing(NamedTuple):
    """How the end of a body is known, and its length in bytes for `Kind.LENGTH`."""

    kind: Kind
    length: int = 0


LENGTH: Final = Kind.LENGTH
NO_BODY: Final = Framing(Kind.NONE)
FORBIDDEN: Final = Framing(Kind.FORBIDDEN)
CHUNKED: Final = Framing(Kind.CHUNKED)
UNTIL_CLOSE: Final = Framing(Kind.UNTIL_CLOSE)

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
    None for a streamed one. A `transfer-encoding` of `chunked` changes nothing; without any other, nobody could read
    the body. Raises LocalError when the fields contradict that, the body or the request.
    """
    length = control.get(b"content-length")
    coding = control.get(b"transfer-encoding")
    declared = None if length is None else _declared_length(length)
    if coding is not None and coding.lower() not in (b"chunked", b"identity"):
        raise LocalError(f"the only transfer coding is chunked, not {coding!r}; leave Transfer-Encoding out")
    if method == b"HEAD":  # step 1
        if body_bytes:
            raise LocalError("a response to HEAD has no body; send it with body=b''")
        return NO_BODY
    if status in WITHOUT_CONTENT:  # step 1; a 205 "MUST NOT generate content" (RFC 9110 §15.3.6)
        return FORBIDDEN
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
