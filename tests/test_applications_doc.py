"""docs/applications.md: each row names tests, and they exist."""

import re
from pathlib import Path

from .test_resources_doc import names_of_tests

TEXT = (Path(__file__).parent.parent / "docs" / "applications.md").read_text()


def test_each_row_is_held_by_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| an app", "| ---"))]
    assert rows
    assert all(re.search(r"`test_\w+` \|$|`test_\w+` \|", row) for row in rows)


def test_each_test_that_is_named_exists() -> None:
    assert set(re.findall(r"`(test_\w+)`", TEXT)) <= names_of_tests()
