"""Field lines: one pass comes to what reading line by line does. What single lines come out as is in test_head.py."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h1core import RefuseReason
from h1core.http1 import fields
from h1core.http1.fields import (
    LISTS,
    MAX_CACHED_SHAPE_BYTES,
    MAX_CACHED_SHAPES,
    SINGLETONS,
    STEERING,
    Fields,
    parse_section,
    why_not_a_field,
)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    fields._shapes.clear()
    yield
    fields._shapes.clear()


def section(*lines: bytes) -> bytes:
    return b"".join(b"\r\n" + line for line in lines)


def plainly(text: bytes, most: int) -> Fields | RefuseReason | None:
    """The same as `parse_section`, line by line."""
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
    *(name for known in (STEERING, [b"content-type"]) for name in sorted(known)),
    *b"Cookie Authorization Host Connection A b".split(),
]
VALUES = [b"a", b"", b"a b", b"close", b"1", b"a\tb", b"\xff", b"k=v; A: z"]
SPACE = [b" ", b" ", b"", b"\t", b"  "]
BAD_LINES = [b"", b"A", b" A: b", b"A : b", b": b", b"A: \x00", b"A: b\rC: d", b"A: b\nC: d", b"C", b"c", b"A\xe4: b"]

good_lines = st.tuples(*map(st.sampled_from, (NAMES, [b":"], SPACE, VALUES, [b"", b"", b" ", b"\t"]))).map(b"".join)
any_lines = st.one_of(good_lines, good_lines, good_lines, good_lines, st.sampled_from(BAD_LINES))


@given(st.lists(st.lists(any_lines, max_size=6), min_size=1, max_size=3), st.integers(1, 6), st.booleans())
def test_a_section_comes_out_the_same_each_time(heads: list[list[bytes]], most: int, is_torn: bool) -> None:
    fields._shapes.clear()
    texts = [section(*lines)[is_torn:] for lines in heads]
    for _ in range(2):
        for text in texts:
            assert parse_section(text, most) == plainly(text, most)
            assert parse_section(text, 100) == plainly(text, 100)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_in_several_lines_is_joined_each_time(name: bytes) -> None:
    for _ in range(2):
        found = parse_section(section(name + b": a", b"B: 1", name.title() + b": b"), 3)
        assert isinstance(found, tuple)
        assert found[1] == {name: b"a, b"}


# What is remembered: names.


def test_no_value_is_remembered() -> None:
    parse_section(section(b"Host: s3cret", b"Cookie: s3cret"), 2)
    assert list(fields._shapes) == [b"Host:Cookie"]
    assert b"s3cret" not in repr(fields._shapes).encode()


@pytest.mark.parametrize("more", [0, 1])
def test_long_names_are_not_remembered(more: int) -> None:
    parse_section(section(b"x" * (MAX_CACHED_SHAPE_BYTES + more) + b":"), 100)
    assert len(fields._shapes) == 1 - more


def test_the_table_is_bounded() -> None:
    for number in range(3 * MAX_CACHED_SHAPES):
        parse_section(section(b"X-Number-%d: x" % number), 1)
        assert len(fields._shapes) <= MAX_CACHED_SHAPES
