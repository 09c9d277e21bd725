#!/usr/bin/env python3
"""Put known bugs in, one at a time, and see in how many seeds the simulation finds each.

    fuzz/mutate.py                    all of fuzz/mutants/, and the table of docs/mutants.md
    fuzz/mutate.py wake-up-lost ...   only these, and no table

Each patch is applied to a copy of the tree in a temporary folder, never to the tree itself. A mutant that survives the
simulation is given to the properties (tests/test_machine.py, test_properties.py), which see a `Conn` alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = ROOT / "fuzz" / "mutants"
TABLE = ROOT / "docs" / "mutants.md"
COPIED = ("h1core", "drivers", "fuzz", "tests", "pyproject.toml")
MOST_SEEDS = 2000
ENOUGH_FINDS = 20
"""The share of seeds is known well enough then."""

TITLE = """# Mutants

Known bugs, put in one at a time by `fuzz/mutate.py`, which has written this table. The simulation runs seeds from 0
until {enough} have failed, {most} at most, on the selectors driver, or on asyncio or trio where the sentence says so.
"First" is how many seeds it took; the share says what to expect of others.

| mutant | what is wrong with it | first | share of seeds | invariants that found it |
| --- | --- | --- | --- | --- |
"""


@dataclass(slots=True)
class Verdict:
    """What became of a mutant."""

    name: str
    sentence: str
    runs: int
    failed: list[int]
    invariants: list[str]
    by_properties: bool = False

    @property
    def survived(self) -> bool:
        return not self.failed and not self.by_properties

    @property
    def row(self) -> str:
        if self.failed:
            found = ", ".join(self.invariants)
            return f"| {self.name} | {self.sentence} | {self.failed[0] + 1} | {self.share} | {found} |"
        found = "properties of `Conn`" if self.by_properties else "**survives**"
        return f"| {self.name} | {self.sentence} | – | 0 of {self.runs} | {found} |"

    @property
    def share(self) -> str:
        percent = 100 * len(self.failed) / self.runs
        return f"{percent:.0f} %" if percent >= 2 else f"{percent:.2f} %"


def copy_of_tree(folder: Path) -> Path:
    """A tree that imports itself: `h1core.drivers` is a folder below, as in the wheel."""
    tree = folder / "tree"
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
        else:
            shutil.copy(source, tree / name)
    (tree / "h1core" / "drivers").symlink_to(tree / "drivers")
    return tree


def judge(name: str, most: int = MOST_SEEDS, enough: int = ENOUGH_FINDS, first: int = 0) -> Verdict:
    """Apply a patch to a copy, and look for it."""
    patch = MUTANTS / f"{name}.patch"
    text = patch.read_text("utf-8")
    sentence = text.splitlines()[0]
    driver = next((name for name in ("asyncio", "trio") if f"({name}" in sentence), "selectors")
    with tempfile.TemporaryDirectory(prefix="h1core-mutant-") as folder:
        tree = copy_of_tree(Path(folder))
        subprocess.run(["patch", "--quiet", "-p1", "--input", str(patch)], cwd=tree, check=True)
        verdict = Verdict(name, sentence, *_simulate(tree, driver, most, enough, first))
        if not verdict.failed:
            verdict.by_properties = not _holds(tree)
    return verdict


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def _simulate(tree: Path, driver: str, most: int, enough: int, first: int) -> tuple[int, list[int], list[str]]:
    """How many seeds were run, which failed, and what did not hold."""
    command = [sys.executable, "fuzz/simulate.py", "--json", "--driver", driver, "--first", str(first)]
    command += ["--runs", str(most), "--failures", str(enough)]
    done = subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            figures = json.loads(line)
            return figures["runs"], figures["failed"], sorted(figures["names"])
    raise SystemExit(f"the simulation itself failed:\n{done.stdout}{done.stderr}")


def _holds(tree: Path) -> bool:
    """Whether the properties hold."""
    tests = ("tests/test_machine.py", "tests/test_properties.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, env=_environment(tree), capture_output=True, check=False).returncode == 0


def all_names() -> list[str]:
    return sorted(path.stem for path in MUTANTS.glob("*.patch"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a file in fuzz/mutants/, without .patch")
    parser.add_argument("--runs", type=int, default=MOST_SEEDS, help="seeds at most, for each")
    options = parser.parse_args()
    verdicts = []
    for name in options.names or all_names():
        verdicts.append(judge(name, options.runs))
        print(verdicts[-1].row, flush=True)
    if not options.names:
        title = TITLE.format(enough=ENOUGH_FINDS, most=options.runs)
        TABLE.write_text(title + "".join(f"{verdict.row}\n" for verdict in verdicts), "utf-8")
    survivors = [verdict.name for verdict in verdicts if verdict.survived]
    if survivors:
        print(f"survived: {', '.join(survivors)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
