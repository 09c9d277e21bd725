"""docs/parent.md says what is true: every part and every test that it names exists."""

import re
from functools import cache
from pkgutil import resolve_name
from typing import NamedTuple

import pytest

from tests.test_conformance_doc import ROOT, exists

DOCUMENT = ROOT / "docs" / "parent.md"
COLUMNS = ["here", "where", "shown by"]
LINES = 105


class Row(NamedTuple):
    """A behaviour of the parent, or a bad condition: what it is, what is here, its parts, the tests that hold it."""

    parent: str
    here: str
    parts: list[str]
    tests: list[str]


@cache
def rows() -> list[Row]:
    found = []
    for line in DOCUMENT.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and cells[1:] != COLUMNS and not set(line) <= set("|- "):
            parent, here, where, tests = cells
            found.append(Row(parent, here, re.findall(r"`([^`]*)`", where), with_files(tests)))
    return found


def with_files(tests: str) -> list[str]:
    """The tests of a cell; one without a file is in the same file as the one before it."""
    found = []
    file = ""
    for test in re.findall(r"`([^`]*)`", tests):
        path, _, name = test.partition("::")
        file = path or file
        found.append(f"tests/{file}::{name}")
    return found


def is_part(name: str) -> bool:
    try:
        resolve_name(f"h1core.{name}")
    except (ImportError, AttributeError):
        return False
    return True


def test_the_document_is_in_its_format() -> None:
    assert len(DOCUMENT.read_text("utf-8").splitlines()) <= LINES
    assert len(rows()) > 50
    for row in rows():
        assert row.parent, row
        assert row.here, row
        assert bool(row.parts) is bool(row.tests), row


def test_every_test_that_the_document_names_exists() -> None:
    assert [test for row in rows() for test in row.tests if not exists(test)] == []


def test_every_part_that_the_document_names_exists() -> None:
    assert [part for row in rows() for part in row.parts if not is_part(part)] == []


@pytest.mark.parametrize("name", ["drivers.selectors_driver.Server.tock", "no_such_module.Thing", "config.Limits.no"])
def test_a_part_that_is_not_there_is_noticed(name: str) -> None:
    assert not is_part(name)
