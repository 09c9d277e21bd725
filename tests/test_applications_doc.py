"""docs/applications.md: each row names tests, and they exist."""

import re
from pathlib import Path

from .test_resources_doc import names_of_tests

TEXT = (Path(__file__).parent.parent / "docs" / "applications.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.endswith((" held by |", " --- |"))]


def test_each_row_is_held_by_a_test() -> None:
    assert ROWS
    assert [row for row in ROWS if not re.search(r"`test_\w+` \|$", row)] == []


def test_each_test_that_is_named_exists() -> None:
    assert set(re.findall(r"`(test_\w+)`", TEXT)) <= names_of_tests()
