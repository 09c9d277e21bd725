"""The field lines of a head, or of a trailer section → pairs, and the few of them that steer the connection.

All lines are parsed at once, by calls that run in C: a step of Python for each would cost more than the parsing. One
pattern separates names and values, one `translate` checks every byte. What follows from the names is cached: also
lines that never come twice have names that do.
"""

from typing import Final, TypeAlias

from h1core.bounded_dict import BoundedDict
from h1core.errors import RefuseReason
from h1core.http1 import grammar

SINGLETONS: Final[dict[bytes, RefuseReason]] = {
    b"host": RefuseReason.DUPLICATE_HOST,
    b"content-length": RefuseReason.DUPLICATE_CONTENT_LENGTH,
    b"transfer-encoding": RefuseReason.DUPLICATE_TRANSFER_ENCODING,
    b"authorization": RefuseReason.DUPLICATE_FIELD,
    b"content-range": RefuseReason.DUPLICATE_FIELD,
    b"content-type": RefuseReason.DUPLICATE_FIELD,
    b"if-range": RefuseReason.DUPLICATE_FIELD,
    b"max-forwards": RefuseReason.DUPLICATE_FIELD,
    b"proxy-authorization": RefuseReason.DUPLICATE_FIELD,
    b"range": RefuseReason.DUPLICATE_FIELD,
}
"""Fields of which two hops could each use a different one (CVE-2026-34525). Transfer-Encoding is a list by its grammar;
the only list accepted has one member, so a second line is never right."""

LISTS: Final = frozenset({b"connection", b"upgrade", b"expect"})
"""Fields that steer the connection and may stand in several lines: these are one list (RFC 9110 §5.3)."""

STEERING: Final = LISTS | {b"host", b"content-length", b"transfer-encoding"}
"""Fields that h1core acts on; of all others only the syntax is checked."""

MAX_CACHED_SHAPES: Final = 512
MAX_CACHED_SHAPE_BYTES: Final = 1024

Pair: TypeAlias = tuple[bytes, bytes]

Steering: TypeAlias = dict[bytes, bytes]
"""The fields of STEERING by name; those in LISTS are joined."""

Fields: TypeAlias = tuple[list[Pair], Steering]
"""All fields in their order, and those of STEERING. Plain tuples: named ones would cost an ordinary request a tenth of
its time."""

_Shape: TypeAlias = tuple[tuple[bytes, ...], tuple[tuple[bytes, int], ...], tuple[tuple[bytes, int], ...]]
"""Names in lower case; those of STEERING, with their index; those that continue a list, with their index."""

_shapes: BoundedDict[bytes, _Shape | RefuseReason] = BoundedDict(MAX_CACHED_SHAPES)
"""Names as they were sent, joined → their shape, or why they are refused. At most 512, of at most 1 KiB."""


def parse_section(section: bytes, max_fields: int) -> Fields | RefuseReason | None:
    """Parse the field lines of a request head, each with the CR LF before it. Never raises; linear. RFC 9112 §5.

    Returns None when a line is not valid, or there are more than `max_fields`: `head.why_no_head` gives the reason.
    """
    parts = _split(section, max_fields)
    if parts is None:
        return None
    sent = b":".join(parts[1::2])
    shape = _shapes.get(sent) or _shape(sent)
    values = map(bytes.strip, parts[2::2])  # of the bytes that this strips, only SP and HTAB can occur
    if isinstance(shape, RefuseReason):
        hosts = (value for name, value in zip(parts[1::2], values, strict=True) if name.lower() == b"host")
        return shape if all(map(is_host, hosts)) else None
    names, steering, continued = shape
    pairs = list(zip(names, values))  # noqa: B905  (as many as each other; `strict` costs 0.15 of 5 µs)
    steers = {}
    for name, at in steering:
        steers[name] = pairs[at][1]
    host = steers.get(b"host")
    if host is not None and not is_host(host):
        return None
    for name, at in continued:
        steers[name] += b", " + pairs[at][1]
    return pairs, steers


def _split(section: bytes, most: int) -> list[bytes] | None:
    """Split lines into nothing, name, value, name, value and so on; None when one is not valid, or too many.

    `field-line = field-name ":" OWS field-value OWS`; exactly SP and HTAB are white space (CVE-2019-16789). It is
    removed before a value, and not yet after it. `most` is how many lines there may be, 0 for no limit.
    """
    parts = grammar.FIELD_START.split(section, most)
    # Each name took a CR LF. If the section has no other byte that a value must not have, then all values are valid.
    if section.translate(None, grammar.FIELD_VALUE_BYTES) != b"\r\n" * (len(parts) // 2) or parts[0]:
        return None
    return parts


def _shape(sent: bytes) -> _Shape | RefuseReason:
    """The shape of a section's names, or why it is refused: a field of SINGLETONS stands twice."""
    names = tuple(sent.lower().split(b":")) if sent else ()
    steering: dict[bytes, int] = {}
    continued: list[tuple[bytes, int]] = []
    shape: _Shape | RefuseReason | None = None
    if len(set(names)) < len(names):
        shape = next((SINGLETONS[name] for name in names if name in SINGLETONS and names.count(name) > 1), None)
    if shape is None:
        for at, name in enumerate(names):
            if name in steering:
                continued.append((name, at))
            elif name in STEERING:
                steering[name] = at
        shape = names, tuple(steering.items()), tuple(continued)
    if len(sent) <= MAX_CACHED_SHAPE_BYTES:
        _shapes[sent] = shape
    return shape


def is_host(value: bytes) -> bool:
    """Whether a Host value, or an authority, is a host with an optional port. Never raises. RFC 9110 §7.2."""
    if not value.translate(None, grammar.PLAIN_HOST_BYTES):
        return True
    match = grammar.HOST.fullmatch(value)
    if match is None or (not match[1] and value):
        return False  # an empty value means that there is no host; a port alone is invalid (RFC 9110 §4.2.1)
    return not match[2] or int(match[2]) <= 65535


def why_not_a_field(line: bytes) -> RefuseReason | None:
    """Why a field line is not valid, or None."""
    name, colon, value = line.partition(b":")
    if not colon or not grammar.TOKEN.fullmatch(name):
        if line.startswith((b" ", b"\t")):
            return RefuseReason.FOLDED_FIELD
        return RefuseReason.BAD_FIELD_NAME if colon else RefuseReason.BAD_FIELD_LINE
    if value.translate(None, grammar.FIELD_VALUE_BYTES):
        return RefuseReason.BAD_FIELD_VALUE
    if name.lower() == b"host" and not is_host(value.strip(b" \t")):
        return RefuseReason.BAD_HOST
    return None


def parse_trailer_lines(section: bytes) -> list[Pair] | None:
    """Parse the field lines of a trailer section, without its last empty line; None if one is invalid. Never raises."""
    parts = _split(b"\r\n" + section, 0)
    if parts is None:
        return None
    pairs = [(name.lower(), value.strip()) for name, value in zip(parts[1::2], parts[2::2], strict=True)]
    return pairs if all(name != b"host" or is_host(value) for name, value in pairs) else None
