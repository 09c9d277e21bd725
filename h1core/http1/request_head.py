"""A request head → all that the connection needs from it, or why it is refused.

`head.py` checks the lines, `framing.py` decides where the message ends. This file decides the rest: whether the
connection persists, whether the peer waits for 100 Continue, which protocol it may change to.
"""

from collections.abc import Container
from typing import TypeAlias

from h1core.config import Limits
from h1core.errors import RefuseReason
from h1core.events import Request
from h1core.http1.connection_field import NO_OPTIONS, options
from h1core.http1.framing import NO_BODY, Framing, request_framing
from h1core.http1.head import parse_head

ParsedHead: TypeAlias = tuple[Request, Framing, bool, bool]
"""A request that is accepted: the event; how its body is framed; whether the connection persists after it; whether the
peer waits for 100 Continue. A plain tuple for the reason given in head.py; callers check for a tuple, because on
CPython 3.11 to check for a member of an Enum costs four times as much."""


def parse_request_head(
    head_bytes: bytes, limits: Limits, upgrades: Container[bytes]
) -> ParsedHead | RefuseReason | None:
    """Parse a request head, given with the empty line that ends it. Never raises.

    Returns None when not every line is valid, like `head.parse_head`.
    `upgrades` names the protocols that may be accepted, as in `Conn`.
    """
    head = parse_head(head_bytes, limits)
    if not isinstance(head, tuple):
        return head
    request, fields = head
    version = request.version
    # Fast path: the only steering fields are Host, and perhaps a Connection without close. 0.3 of 3 µs.
    if version == b"1.1" and request.method != b"CONNECT":
        if len(fields) == 1:
            return request, NO_BODY, True, False
        if len(fields) == 2 and b"connection" in fields and b"close" not in fields[b"connection"].lower():
            return request, NO_BODY, True, False
    framing = request_framing(request.method, version, fields, limits)
    if not isinstance(framing, tuple):
        return framing
    request.end_stream = framing is NO_BODY
    connection = fields.get(b"connection")
    said = NO_OPTIONS if connection is None else options(connection)
    expects = False
    if version == b"1.1":
        persists = b"close" not in said
        if b"expect" in fields:  # RFC 9110 §10.1.1: ignored in HTTP/1.0
            expectations = options(fields[b"expect"])
            if expectations - {b"100-continue"}:
                return RefuseReason.UNKNOWN_EXPECTATION
            expects = bool(expectations) and framing is not NO_BODY
    else:
        persists = b"keep-alive" in said and b"close" not in said
    if request.method == b"CONNECT":
        if b"connect" not in upgrades:
            return RefuseReason.CONNECT_REFUSED
        request.upgrade = b"connect"
    elif b"upgrade" in said and b"upgrade" in fields and version == b"1.1" and b"expect" not in fields:
        # With both, 100 would have to be sent before 101 (RFC 9110 §7.8); an offer may be ignored.
        request.upgrade = _offered_protocol(fields[b"upgrade"], upgrades)
    return request, framing, persists, expects


def _offered_protocol(offers: bytes, upgrades: Container[bytes]) -> bytes | None:
    """The first protocol in an Upgrade field that may be accepted. RFC 9110 §7.8."""
    for offer in offers.lower().split(b","):
        name = offer.strip(b" \t")
        if name in upgrades and name != b"connect":
            return name
    return None
