"""Field lines: what is remembered of them, and that it changes nothing. What lines come out as is in test_head.py."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h1core import RefuseReason, fields
from h1core.fields import (
    LISTS,
    MARK_BYTES,
    MAX_REMEMBERED_SECTION_BYTES,
    MAX_REMEMBERED_SECTIONS,
    MAX_REMEMBERED_SHAPE_BYTES,
    MAX_REMEMBERED_SHAPES,
    MAX_SEEN,
    SECRET_FIELDS,
    SINGLETONS,
    STEERING,
    Fields,
    Pair,
    Steering,
    parse_section,
    why_not_a_field,
)

SIGHTS = 4
"""How often a section comes until it is remembered, and once more."""


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    fields._sections.clear()
    fields._shapes.clear()
    fields.seen.clear()


def section(*lines: bytes) -> bytes:
    return b"".join(b"\r\n" + line for line in lines)


def see(*lines: bytes, most: int = 100) -> Fields:
    """Let a section come until it is remembered, if it ever is."""
    for _ in range(SIGHTS - 1):
        parse_section(section(*lines), most)
    found = parse_section(section(*lines), most)
    assert isinstance(found, tuple)
    return found


def parsed(text: bytes, most: int) -> tuple[list[Pair], Steering] | RefuseReason | None:
    """What a section is, without whether it is remembered."""
    found = parse_section(text, most)
    return found[:2] if isinstance(found, tuple) else found


def remembered() -> bytes:
    """All that the tables hold, in one piece."""
    return repr((fields._sections, fields._shapes)).encode()


# What comes out does not depend on what came before.


def plainly(text: bytes, most: int) -> tuple[list[Pair], Steering] | RefuseReason | None:
    """The same as `parsed`, line by line."""
    first, *lines = text.split(b"\r\n")
    if first or len(lines) > most or any(why_not_a_field(line) for line in lines):
        return None
    pairs = [(line.partition(b":")[0].lower(), line.partition(b":")[2].strip(b" \t")) for line in lines]
    names = [name for name, _ in pairs]
    for name in names:
        if name in SINGLETONS and names.count(name) > 1:
            return SINGLETONS[name]
    steering = {name: b", ".join(value for other, value in pairs if other == name) for name in names}
    return pairs, {name: value for name, value in steering.items() if name in STEERING}


NAMES = [
    *(name for known in (SECRET_FIELDS, STEERING, [b"content-type"]) for name in sorted(known)),
    *b"Cookie Authorization COOKIE X-Cookie Proxy-Authorization Host Connection A b".split(),
    *b"ookie uthorization Aookie Cuthorization".split(),
]
VALUES = [b"a", b"", b"a b", b"close", b"1", b"ookie: x", b"a\tb", b"\xff", b"k=v; ookie: z", b"Cookie: a"]
SPACE = [b" ", b" ", b"", b"\t", b"  "]
BAD_LINES = [b"", b"A", b" A: b", b"A : b", b": b", b"A: \x00", b"A: b\rC: d", b"A: b\nC: d", b"C", b"c", b"A\xe4: b"]

good_lines = st.tuples(*map(st.sampled_from, (NAMES, [b":"], SPACE, VALUES, [b"", b"", b" ", b"\t"]))).map(b"".join)
any_lines = st.one_of(good_lines, good_lines, good_lines, good_lines, st.sampled_from(BAD_LINES))


@given(st.lists(st.lists(any_lines, max_size=6), min_size=1, max_size=3), st.integers(1, 6), st.booleans())
def test_a_section_comes_out_the_same_each_time(heads: list[list[bytes]], most: int, is_torn: bool) -> None:
    forget()
    texts = [section(*lines)[is_torn:] for lines in heads]
    for _ in range(SIGHTS):
        for text in texts:
            assert parsed(text, most) == plainly(text, most)
            assert parsed(text, 100) == plainly(text, 100)


@given(st.lists(good_lines, min_size=1, max_size=5), st.integers(0, 200), st.integers(0, 255))
def test_one_byte_beside_what_is_remembered_is_judged_anew(lines: list[bytes], at: int, byte: int) -> None:
    forget()
    text = section(*lines)
    for _ in range(SIGHTS):
        parse_section(text, 100)
    at %= len(text)
    other = text[:at] + bytes([byte]) + text[at + 1 :]
    for changed in (other, text + b"\r\n", text + b"\r\nC", text[:at], text[at:], text[:at] + text[at + 1 :]):
        assert parsed(changed, 100) == plainly(changed, 100)


def test_a_section_that_ends_like_one_with_its_cookie_cut_out_is_not_taken_for_it() -> None:
    see(b"Host: a", b"Cookie: b")
    assert fields._sections
    assert parse_section(section(b"Host: a", b"C"), 100) is None


def test_a_name_that_ends_like_that_of_a_secret_is_not_taken_for_it() -> None:
    for ours, other in ((b"Authorization", b"Aookie"), (b"Cookie", b"Cuthorization")):
        see(b"Host: a", ours + b": b")
        assert see(b"Host: a", other + b": b")[0][1] == (other.lower(), b"b")
        assert see(b"Host: a", b"X-" + ours + b": b")[0][1] == (b"x-" + ours.lower(), b"b")


@pytest.mark.parametrize("lines", [(b"A: 1", b"B: 2"), (b"A: 1", b"Cookie: 2"), (b"Cookie: 1", b"B: 2")])
def test_the_limit_is_that_of_each_connection(lines: tuple[bytes, ...]) -> None:
    see(*lines)
    assert fields._sections
    assert parse_section(section(*lines), 2) == see(*lines)
    assert parse_section(section(*lines), 1) is None


@pytest.mark.parametrize("lines", [(b"A: 1",), (b"A: 1", b"Cookie: x")])
def test_a_list_that_the_caller_changes_changes_no_other(lines: tuple[bytes, ...]) -> None:
    for _ in range(SIGHTS):
        headers = see(*lines)[0]
        headers.clear()
    assert len(see(*lines)[0]) == len(lines)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_in_several_lines_is_joined_each_time(name: bytes) -> None:
    for _ in range(SIGHTS):
        assert see(name + b": a", b"B: 1", name.title() + b": b")[1] == {name: b"a, b"}


# What is remembered.


def test_a_section_is_remembered_when_it_comes_again() -> None:
    text = section(b"X-Seen: yes", b"X-Long:".ljust(MARK_BYTES))
    for sight in range(SIGHTS):
        assert (text in fields._sections) is (sight == SIGHTS - 1)
        parse_section(text, 100)


@pytest.mark.parametrize("spell", [bytes.title, bytes.lower, bytes.upper])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_secret_is_never_remembered(name: bytes, place: int, spell: Callable[[bytes], bytes]) -> None:
    for space in (b" ", b"\t"):
        lines = [b"Host: a", b"B: c"]
        lines.insert(place, spell(name) + b":" + space + b"s3cret")
        see(*lines)
        see(b"Cookie: s3cret", *lines)
        see(*lines, b"cookie: s3cret", b"D: e")
    assert b"s3cret" not in remembered()


def test_what_lies_around_a_cookie_is_remembered_without_it() -> None:
    see(b"Host: a", b"Cookie: s3cret", b"B: c")
    assert list(fields._sections.values()) == [([(b"host", b"a")], b"cookie", [(b"b", b"c")], {b"host": b"a"})]
    assert see(b"Host: a", b"Cookie: other", b"B: c")[0] == [(b"host", b"a"), (b"cookie", b"other"), (b"b", b"c")]


def test_a_bad_section_is_not_remembered() -> None:
    for _ in range(SIGHTS):
        assert parse_section(section(b"Host: a", b"bad : line"), 100) is None
        assert parse_section(section(b"Host: a", b"Host: a"), 100) is RefuseReason.DUPLICATE_HOST
    assert not fields._sections


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_section_is_not_remembered(more: int) -> None:
    see((b"X:").ljust(MAX_REMEMBERED_SECTION_BYTES - 2 + more, b"x"))
    assert len(fields._sections) == 1 - more


@pytest.mark.parametrize("more", [0, 1])
def test_long_names_are_not_remembered(more: int) -> None:
    parse_section(section(b"x" * (MAX_REMEMBERED_SHAPE_BYTES + more) + b":"), 100)
    assert len(fields._shapes) == 1 - more


def test_the_tables_are_bounded() -> None:
    for number in range(max(MAX_SEEN + 1, 3 * MAX_REMEMBERED_SECTIONS, 3 * MAX_REMEMBERED_SHAPES)):
        see(b"X-Number-%d: x" % number)
        assert len(fields._sections) <= MAX_REMEMBERED_SECTIONS
        assert len(fields._shapes) <= MAX_REMEMBERED_SHAPES
        assert len(fields.seen) <= MAX_SEEN


def test_what_never_comes_again_drives_out_nothing() -> None:
    see(b"X-Seen: yes")
    for number in range(3 * MAX_REMEMBERED_SECTIONS):
        parse_section(section(b"X-Number: %d" % number), 100)
    assert list(fields._sections) == [section(b"X-Seen: yes")]
