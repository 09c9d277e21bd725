"""The table of refusals, and the one exception."""

import re

import pytest

from h1core import LocalError, RefuseReason

each_reason = pytest.mark.parametrize("reason", RefuseReason, ids=lambda reason: reason.name)


@each_reason
def test_a_refusal_is_an_error_status_that_speaks_of_requests(reason: RefuseReason) -> None:
    assert reason.status in {400, 413, 414, 417, 431, 501, 505}


@each_reason
def test_a_refusal_is_one_sentence_with_its_source(reason: RefuseReason) -> None:
    assert re.fullmatch(r"[A-Z][\x20-\x7e]+[^.]\.", reason.text)
    assert re.fullmatch(r"RFC (9110|9112|6585) §\d+(\.\d+)*", reason.source)


def test_no_two_refusals_say_the_same() -> None:
    assert len({reason.text for reason in RefuseReason}) == len(RefuseReason)


def test_rows_with_equal_content_stay_two_members() -> None:
    assert len(RefuseReason) == len(RefuseReason.__members__)
    assert [reason.value for reason in RefuseReason] == list(range(1, len(RefuseReason) + 1))


def test_misuse_is_no_error_of_the_system_or_of_a_value() -> None:
    assert not issubclass(LocalError, OSError | ValueError | RuntimeError)  # nobody catches it by chance
