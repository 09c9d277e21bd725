"""The README says what is true: its snippets run, and its defaults are the defaults."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from h1core import Limits, Timeouts

README = Path(__file__).parent.parent / "README.md"
UNITS = {"KiB": 1024, "MiB": 1024 * 1024}


def test_the_snippets_run(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, {})
    printed = capsys.readouterr().out.strip()
    assert f"# {printed}\n" in README.read_text()


def test_every_limit_and_deadline_stands_there_with_its_default() -> None:
    rows: dict[str, float] = {}
    for names, defaults in re.findall(r"^\| (`.*?) \| (.*?) \|", README.read_text(), re.MULTILINE):
        for name, (number, unit) in zip(
            re.findall(r"`(\w+)`", names), re.findall(r"(\d+)(?: (KiB|MiB))?", defaults), strict=True
        ):
            rows[name] = float(number) * UNITS.get(unit, 1)
    expected = {field.name: field.default for kind in (Limits, Timeouts) for field in fields(kind)}
    del expected["min_body_rate"], expected["min_write_rate"]  # said in the rows of their deadlines
    assert rows == expected
