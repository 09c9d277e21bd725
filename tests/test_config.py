"""Limits and timeouts: what they accept, and what they add up to."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from h1core import Limits, LocalError, Timeouts

LIMITS = [field.name for field in fields(Limits)]
TIMEOUTS = [field.name for field in fields(Timeouts)]


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None], ids=repr)
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_is_no_positive_whole_number_is_named(name: str, value: Any) -> None:
    with pytest.raises(LocalError, match=rf"^{name} must be a whole number of at least 1, not {value!r}$"):
        Limits(**{name: value})


def test_every_limit_may_be_one() -> None:
    assert Limits(**dict.fromkeys(LIMITS, 1)).max_head_bytes == 1


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("max_request_line_bytes", "max_head_bytes"),
        ("max_head_bytes", "max_buffer_bytes"),
        ("initial_buffer_bytes", "max_buffer_bytes"),
    ],
)
def test_limits_that_contradict_each_other_are_named(small: str, large: str) -> None:
    smallest = Limits(**dict.fromkeys(LIMITS, 1))
    raised = dict.fromkeys(("max_buffer_bytes", large), 3)
    assert getattr(replace(smallest, **(raised | {small: 3})), small) == 3
    with pytest.raises(LocalError, match=rf"^{small} must not be larger than {large}"):
        replace(smallest, **(raised | {large: 3, small: 4}))


@pytest.mark.parametrize("value", [0, 0.0, -1, float("inf"), float("nan"), True, "1", None], ids=repr)
@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_that_is_no_positive_number_is_named(name: str, value: Any) -> None:
    with pytest.raises(LocalError, match=rf"^{name} must be a positive number, not {value!r}$"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("value", [1, 1e-9, 1e300], ids=repr)
@pytest.mark.parametrize("name", TIMEOUTS)
def test_a_timeout_may_be_any_positive_number(name: str, value: float) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


def test_what_was_checked_stays_as_it_was() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().max_fields = 0  # type: ignore[misc]  # that it is frozen is the test
    with pytest.raises(FrozenInstanceError):
        Timeouts().head_timeout = 0  # type: ignore[misc]  # that it is frozen is the test


@pytest.mark.parametrize(
    "name",
    "max_buffer_bytes max_head_bytes max_fields max_trailer_bytes max_trailer_fields max_output_bytes".split(),
)
def test_the_memory_of_a_connection_grows_with_what_it_keeps(name: str) -> None:
    more = replace(Limits(), **{name: getattr(Limits(), name) + 1})
    assert more.connection_bytes > Limits().connection_bytes


@pytest.mark.parametrize("name", ["max_body_bytes", "max_linger_bytes", "max_unread_body_bytes", "max_connections"])
def test_the_memory_of_a_connection_is_not_what_passes_through_it(name: str) -> None:
    assert replace(Limits(), **{name: 2**40}).connection_bytes == Limits().connection_bytes
