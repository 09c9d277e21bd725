"""The options of a Connection field."""

import pytest

from h1core.http1.connection_field import NO_OPTIONS, options


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", set()),
        (b"close", {b"close"}),
        (b"Keep-Alive", {b"keep-alive"}),
        (b"a, b", {b"a", b"b"}),
        (b"a,b\t ,\tclose", {b"a", b"b", b"close"}),
        (b",, a,, ", {b"a"}),
        (b"close, close", {b"close"}),
        (b"closed", {b"closed"}),
        (b"clo se", {b"clo se"}),
        (b"\x0bclose", {b"\x0bclose"}),  # white space is SP and HTAB
        (b"close;q=1", {b"close;q=1"}),
    ],
)
def test_the_options_are_the_members_in_lower_case(value: bytes, said: set[bytes]) -> None:
    assert options(value) == said


def test_a_message_without_the_field_says_nothing() -> None:
    assert options(b"") == NO_OPTIONS
