"""A request head → all that the connection has to know of it, or why it is refused.

`head.py` says whether the lines are valid, `framing.py` where the message ends; here is the rest that a head decides:
whether the connection persists, whether the peer waits for 100 Continue, which protocol it would rather speak. A whole
head that came before is known by one look-up.
"""

from collections.abc import Container
from typing import Final, TypeAlias

from h1core.config import Limits
from h1core.connection_field import NO_OPTIONS, options
from h1core.errors import RefuseReason
from h1core.events import Request
from h1core.fields import MARK_BYTES, Key, Pair, Steering, around_secret, came_before, cut_secret, seen
from h1core.framing import NO_BODY, Framing, request_framing
from h1core.grammar import FIELD_VALUE_BYTES
from h1core.head import parse_head

MAX_REMEMBERED_HEADS: Final = 256
MAX_REMEMBERED_HEAD_BYTES: Final = 1536
SHORT_HEAD_BYTES: Final = 512
"""Up to here a head is looked for as it is, at first: hashing costs less than to look whether it is worth it."""

UNUSUAL: Final = frozenset({b"upgrade", b"expect"})
"""Fields whose heads are judged anew each time."""

Intake: TypeAlias = tuple[Request, Framing, bool, bool]
"""A request that is accepted: the event; how its body is framed; whether the connection persists after it; whether the
peer waits for 100 Continue. A plain tuple for the reason given in head.py; and asked for as a tuple, because on CPython
3.11 asking whether something is a member of an Enum costs four times as much."""


_Known: TypeAlias = tuple[Limits, bytes, bytes, bytes, list[Pair], bytes, list[Pair], Framing, bool]
"""The limits that a head was judged by; its method, target and version; its fields before a secret that was cut out,
the secret's name, and those behind it; the framing; whether the connection persists after it."""

_heads: dict[Key, _Known] = {}
"""Whole heads: who asks for the same thing again does so byte for byte. At most 256, of at most 1.5 KiB, that ask for
nothing unusual, and whose field lines are remembered: so they hold no secret. A target is none: "URIs are intended to
be shared, not secured" (RFC 9110 §17.9)."""


def recall(head_bytes: bytes, limits: Limits) -> Intake | None:
    """What `take_in` says of a head that it remembers, or None. Never raises. Fast path: 1.1 of 2.7 µs."""
    key: Key = head_bytes
    value = b""
    size = len(head_bytes)
    known = _heads.get(key) if size <= SHORT_HEAD_BYTES else None
    if known is None:
        if size > MAX_REMEMBERED_HEAD_BYTES or hash(head_bytes[:MARK_BYTES]) not in seen:
            return None
        key, value = cut_secret(head_bytes)
        known = _heads.get(key)
        if known is None or value.translate(None, FIELD_VALUE_BYTES):
            return None
    judged_by, method, target, version, first, name, rest, framing, persists = known
    if judged_by is not limits:
        return None
    headers = [*first, (name, value.strip()), *rest] if name else first.copy()
    return Request(method, target, headers, b"", version, framing is NO_BODY), framing, persists, False


def take_in(head_bytes: bytes, limits: Limits, upgrades: Container[bytes]) -> Intake | RefuseReason | None:
    """Judge a request head, given with the empty line that ends it. Never raises.

    Returns None when not every line is valid, like `head.parse_head`.
    `upgrades` names the protocols that may be taken over, as in `Conn`.
    """
    head = parse_head(head_bytes, limits)
    if not isinstance(head, tuple):
        return head
    request, fields, is_remembered = head
    intake = _judge(request, fields, limits, upgrades)
    if is_remembered and came_before(head_bytes[:MARK_BYTES]) and isinstance(intake, tuple):
        _remember(head_bytes, limits, intake)
    return intake


def _remember(head_bytes: bytes, limits: Limits, intake: Intake) -> None:
    """Let a head be known from now on, unless what is said of it depends on more than the limits."""
    request, framing, persists, _ = intake
    key, _ = cut_secret(head_bytes)
    if len(head_bytes) > MAX_REMEMBERED_HEAD_BYTES or not came_before(key):
        return
    first, name, rest = around_secret(key, request.headers)
    if request.method == b"CONNECT" or not UNUSUAL.isdisjoint(dict(request.headers)):
        return
    if len(_heads) >= MAX_REMEMBERED_HEADS:
        _heads.clear()
    _heads[key] = limits, request.method, request.target, request.version, first, name, rest, framing, persists


def _judge(request: Request, fields: Steering, limits: Limits, upgrades: Container[bytes]) -> Intake | RefuseReason:
    """Judge a head whose lines are valid."""
    version = request.version
    # Fast path: nothing but Host steers, and perhaps a Connection that does not close. 0.3 of 3 µs.
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
        # With both, 100 would have to come before 101 (RFC 9110 §7.8); an offer may be passed over.
        request.upgrade = _offered_protocol(fields[b"upgrade"], upgrades)
    return request, framing, persists, expects


def _offered_protocol(offers: bytes, upgrades: Container[bytes]) -> bytes | None:
    """The first protocol in an Upgrade field that may be taken over. RFC 9110 §7.8."""
    for offer in offers.lower().split(b","):
        name = offer.strip(b" \t")
        if name in upgrades and name != b"connect":
            return name
    return None
