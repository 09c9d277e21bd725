"""The field lines of a head, or of a trailer section → pairs, and the few of them that steer the connection.

All lines are read at once, by calls that run in C: a step of Python for each would cost more than the reading. One
pattern takes names and values apart, one `translate` sees to every byte. Tables spare what was done before; only what a
head costs depends on them, never what comes out of it. A process has them once: 1.5 MiB when they are full of browsers'
heads, 9 MiB when a peer fills them with as many short lines as they take.
"""

from typing import Final, TypeAlias

from h1core import grammar
from h1core.errors import RefuseReason

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
"""Fields that two hops could each take another one of (CVE-2026-34525). Transfer-Encoding is a list by its grammar; the
only list accepted has one member, so a second line is never right."""

LISTS: Final = frozenset({b"connection", b"upgrade", b"expect"})
"""Fields that steer the connection and may stand in several lines: these are one list (RFC 9110 §5.3)."""

STEERING: Final = LISTS | {b"host", b"content-length", b"transfer-encoding"}
"""Fields that decide something here; of all others only the form is looked at."""

SECRET_FIELDS: Final = frozenset(
    {b"authorization", b"cookie", b"proxy-authorization", b"x-api-key", b"x-auth-token", b"x-csrf-token"}
)

MAX_REMEMBERED_SECTIONS: Final = 512
MAX_REMEMBERED_SECTION_BYTES: Final = 2048
MAX_SEEN: Final = 4096
MARK_BYTES: Final = 128
MAX_REMEMBERED_SHAPES: Final = 512
MAX_REMEMBERED_SHAPE_BYTES: Final = 1024

Pair: TypeAlias = tuple[bytes, bytes]

Steering: TypeAlias = dict[bytes, bytes]
"""The fields of STEERING by name; those in LISTS are joined."""

Fields: TypeAlias = tuple[list[Pair], Steering]
"""All fields in their order, and those that steer. The list is the caller's; the dict is shared, never to be changed.
Plain tuples here: named ones would cost an ordinary request a tenth of its time."""

_Shape: TypeAlias = tuple[tuple[bytes, ...], tuple[tuple[bytes, int], ...], tuple[tuple[bytes, int], ...]]
"""Names in lower case; which of them steer, with their places; the same of those that continue a list."""

_Key: TypeAlias = bytes | tuple[bytes, bytes, bytes, bytes]
"""What a section is remembered by: all of it, or all but its secret, which is what stands before the name's second
letter, the name from there, the CR LF behind the value, and the rest. Two types: neither can be taken for the other."""

_Known: TypeAlias = tuple[list[Pair], bytes, list[Pair], Steering]
"""The fields before the secret, the secret's name, the fields behind it, and those that steer."""

_shapes: dict[bytes, _Shape | RefuseReason] = {}
"""Names as they were sent, joined → what they amount to. Lines that never come twice still have the names of others. At
most 512, of at most 1 KiB."""

_sections: dict[_Key, _Known] = {}
"""Whole sections: clients repeat theirs byte for byte in every request. At most 512, of at most 2 KiB, without the
secret line that is cut out; a section with any other is not remembered."""

_seen: set[int] = set()
"""Hashes of sections that came once, and of their begins. What comes again is remembered; what never does costs little
time, no memory, and drives out nothing. At most 4096."""


def parse_section(section: bytes, max_fields: int) -> Fields | RefuseReason | None:
    """Parse the field lines of a request head, each with the CR LF before it. Never raises; linear. RFC 9112 §5.

    Returns None when a line is not valid, or there are more than `max_fields`: `why_not_a_field` says which and why.
    """
    mark = hash(section[:MARK_BYTES])
    if mark not in _seen or len(section) > MAX_REMEMBERED_SECTION_BYTES:
        _see(mark)  # what begins like nothing before is not looked for: 0.9 of 6 µs
        return _parse_lines(section, max_fields)
    # Fast path: the line that is most often a secret is cut out, and the rest looked for. 2.5 of 6.5 µs.
    before, found, behind = section.rpartition(b"ookie: ")
    if not found:
        before, found, behind = section.rpartition(b"uthorization: ")
    if found:
        value, line_end, behind = behind.partition(b"\r\n")
        key: _Key = before, found, line_end, behind
        known = _sections.get(key)
        if known is not None and not value.translate(None, grammar.FIELD_VALUE_BYTES):
            first, name, rest, steering = known
            if len(first) + len(rest) < max_fields:
                return [*first, (name, value.strip()), *rest], steering
    else:
        key = section
        known = _sections.get(key)
        if known is not None and len(known[0]) <= max_fields:
            return known[0].copy(), known[3]
    fields = _parse_lines(section, max_fields)
    if isinstance(fields, tuple) and _see(hash(key)):
        _remember(key, *fields)
    return fields


def _see(mark: int) -> bool:
    """Whether a hash has been seen; from now on it has."""
    if mark in _seen:
        return True
    if len(_seen) >= MAX_SEEN:
        _seen.clear()
    _seen.add(mark)
    return False


def _remember(key: _Key, pairs: list[Pair], steering: Steering) -> None:
    """Let a section be known from now on, unless there is still a secret in it."""
    first, name, rest = pairs.copy(), b"", list[Pair]()
    if isinstance(key, tuple):
        before = key[0]
        if not before.endswith((b"\r\nC", b"\r\nc", b"\r\nA", b"\r\na")):
            return  # what was cut is no line
        at = before.count(b"\r\n") - 1
        first, name, rest = pairs[:at], pairs[at][0], pairs[at + 1 :]
        if name not in SECRET_FIELDS:
            return
    if not SECRET_FIELDS.isdisjoint(dict(first)) or not SECRET_FIELDS.isdisjoint(dict(rest)):
        return
    if len(_sections) >= MAX_REMEMBERED_SECTIONS:
        _sections.clear()
    _sections[key] = first, name, rest, steering


def _parse_lines(section: bytes, max_fields: int) -> Fields | RefuseReason | None:
    """Parse lines without a look at what came before."""
    found = _take_apart(section, max_fields)
    if found is None:
        return None
    names, values = found
    sent = b":".join(names)
    shape = _shapes.get(sent) or _shape(sent)
    if isinstance(shape, RefuseReason):
        hosts = (value for name, value in zip(names, values, strict=True) if name.lower() == b"host")
        return shape if all(map(is_host, hosts)) else None
    lower_names, steering, continued = shape
    steers = {}
    for name, at in steering:
        steers[name] = values[at]
    host = steers.get(b"host")
    if host is not None and not is_host(host):
        return None
    for name, at in continued:
        steers[name] += b", " + values[at]
    return list(zip(lower_names, values)), steers  # noqa: B905  (as many as each other; `strict` costs 0.15 of 6 µs)


def _take_apart(section: bytes, most: int) -> tuple[list[bytes], list[bytes]] | None:
    """Take lines apart into names and values, or None when one is not valid or there are more than `most`.

    `field-line = field-name ":" OWS field-value OWS`; exactly SP and HTAB are white space (CVE-2019-16789).
    """
    parts = grammar.FIELD_START.split(section, most)  # nothing, name, value, name, value, ...
    names = parts[1::2]
    # Each name took a CR LF. If the section has no other CR or LF, nor what is in no value, then the values are values.
    if parts[0] or section.translate(None, grammar.FIELD_VALUE_BYTES) != b"\r\n" * len(names):
        return None
    return names, list(map(bytes.strip, parts[2::2]))  # of all that this strips, only SP and HTAB can be there


def _shape(sent: bytes) -> _Shape | RefuseReason:
    """What a section's names amount to: a reason to refuse it when one stands twice that may not."""
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
    if len(sent) <= MAX_REMEMBERED_SHAPE_BYTES:
        if len(_shapes) >= MAX_REMEMBERED_SHAPES:
            _shapes.clear()
        _shapes[sent] = shape
    return shape


def is_host(value: bytes) -> bool:
    """Whether a Host value, or an authority, is a host with an optional port. Never raises. RFC 9110 §7.2."""
    if grammar.PLAIN_HOST.fullmatch(value):
        return True
    match = grammar.HOST.fullmatch(value)
    if match is None or (not match[1] and value):
        return False  # an empty value says that there is no host, a port alone says nothing (RFC 9110 §4.2.1)
    return not match[2] or int(match[2]) <= 65535


def why_not_a_field(line: bytes) -> RefuseReason | None:
    """Say what is wrong with a field line, if anything is."""
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
    """Parse the field lines of a trailer section, given without the empty line that ends it, or None. Never raises."""
    found = _take_apart(b"\r\n" + section, 0)
    if found is None:
        return None
    pairs = [(name.lower(), value) for name, value in zip(*found, strict=True)]
    return pairs if all(name != b"host" or is_host(value) for name, value in pairs) else None
