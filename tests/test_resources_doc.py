"""docs/resources.md says what is so: its numbers are the defaults, and its tests exist."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from h1core import Limits, Timeouts

ROOT = Path(__file__).parent.parent
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "s": 1, "": 1}
ROWS = [
    line.strip("| \n").split(" | ")
    for line in (ROOT / "docs" / "resources.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| resource", "| ---"))
]


def defaults() -> dict[str, float]:
    return {field.name: field.default for kind in (Limits, Timeouts) for field in fields(kind)}  # type: ignore[misc]  # all have one


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_each_number_is_the_default(row: list[str]) -> None:
    for name, number, unit in re.findall(r"`([a-z_]+)` \((\d+)(?: (\w+))?\)", " ".join(row)):
        assert int(number) * UNITS[unit] == defaults()[name]


def test_each_row_is_held_by_a_test() -> None:
    known = names_of_tests()
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row[-1])
        assert named, row
        assert set(named) <= known


def test_each_resource_has_a_row() -> None:
    assert {row[0] for row in ROWS} >= {"worker thread", "connection", "memory", "disk", "descriptor"}
