"""docs/verdicts.md is what the libraries that are installed here say, and gives a reason for every difference."""

import pytest

from fuzz import verdicts
from fuzz.peers import PEERS, READERS, is_installed, version
from fuzz.verdict_reasons import REASONS


def test_the_page_is_what_the_record_says() -> None:
    assert verdicts.PAGE.read_text("utf-8") == verdicts.page(verdicts.read_record()), "run python -m fuzz.verdicts"


@pytest.mark.parametrize("library", READERS)
def test_the_record_is_what_a_library_says(library: str) -> None:
    record = verdicts.read_record()
    if not is_installed(library):
        pytest.skip(f"{library} is not installed: pip install -e .[peers]")
    if library in PEERS and version(library) != record.versions[library]:
        pytest.skip(f"{library} {version(library)} is here, the record is of {record.versions[library]}")
    measured = {name: verdicts.verdict(library, case) for name, case in verdicts.cases().items()}
    assert measured == {name: said[library] for name, said in record.verdicts.items()}, "run python -m fuzz.verdicts"


def test_every_difference_has_one_reason() -> None:
    without = [each for each in verdicts.differences(verdicts.read_record()) if len(each.reasons) != 1]
    assert not without, "fuzz/verdict_reasons.py says nothing, or too much, of them"


def test_every_reason_has_a_difference() -> None:
    used = {reason for each in verdicts.differences(verdicts.read_record()) for reason in each.reasons}
    assert [reason.title for reason in REASONS if reason not in used] == []


def test_every_name_in_a_reason_is_one() -> None:
    cases = verdicts.cases()
    refusals = {case.reason for case in cases.values()}
    for reason in REASONS:
        assert refusals.issuperset(reason.refusals.split())
        for name in reason.cases.split():
            peer, colon, case = name.rpartition(":")
            assert case in cases
            assert peer in PEERS or not colon


def test_h1core_says_what_the_corpus_says() -> None:
    for name, case in verdicts.cases().items():
        count = len(case.requests)
        refuses = f"refuses after {count}" if count else "refuses"
        assert verdicts.verdict("h1core", case) == (refuses if case.reason else f"accepts {count}"), name
