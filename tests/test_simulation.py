"""The simulation (fuzz/): seeds that everybody runs, seeds that nobody has run, and that it would notice.

A failure is printed with the command that replays it. The fresh seeds of a run are named in the header of its output.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import mutate, simulate
from fuzz.simulation import page, report
from fuzz.simulation.invariants import Invariant
from fuzz.simulation.runs import DRIVERS, Outcome, run_seed, run_seeds, run_twice
from h1core.http1.output import Buffer, OutputQueue

from .conftest import FIRST_FRESH_SEED

ROOT = Path(__file__).parent.parent
FIXED = range(60)
FRESH = 500
BATCH = 50

each_driver = pytest.mark.parametrize("driver", sorted(DRIVERS))


def holds(outcome: Outcome, driver: str) -> None:
    if outcome.violation is not None:
        pytest.fail(report.failure(run_seed(outcome.seed, driver, detailed=True), driver), pytrace=False)


@each_driver
def test_the_fixed_seeds_hold(driver: str) -> None:
    for outcome in run_seeds(FIXED, driver):
        holds(outcome, driver)


@each_driver
@pytest.mark.parametrize("batch", range(FRESH // BATCH))
def test_fresh_seeds_hold(driver: str, batch: int) -> None:
    first = FIRST_FRESH_SEED + batch * BATCH
    for outcome in run_seeds(range(first, first + BATCH), driver):
        holds(outcome, driver)


def regressions() -> list[tuple[str, int]]:
    lines = (ROOT / "fuzz/seeds/regressions.txt").read_text("utf-8").splitlines()
    words = [line.split(maxsplit=2) for line in lines if not line.startswith("#")]
    return [(driver, int(seed)) for driver, seed, _ in words]


@pytest.mark.parametrize(("driver", "seed"), regressions())
def test_seeds_that_once_failed_hold(driver: str, seed: int) -> None:
    holds(run_seed(seed, driver), driver)


@each_driver
def test_a_seed_is_the_same_run_in_any_process(driver: str) -> None:
    here = [run_twice(seed, driver).hex for seed in range(12)]
    code = "import sys; from fuzz.simulation.runs import run_seed\n"
    code += "print(*(run_seed(seed, sys.argv[1]).hex for seed in range(12)))"
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, driver], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == here
    assert len(set(here)) == len(here)


@each_driver
def test_the_details_for_a_reader_change_nothing(driver: str) -> None:
    for seed in range(5):
        detailed = run_seed(seed, driver, detailed=True)
        assert detailed.hex == run_seed(seed, driver).hex
        assert len(detailed.world.trace.all) > len(detailed.world.trace.entries)


# It notices, and says so.


def overtake(queue: OutputQueue, buffer: Buffer) -> None:
    """A bug: what is queued goes before what waits."""
    queue.buffers.insert(0, buffer)
    queue.size += len(buffer)


def test_a_failure_says_what_does_not_hold_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(OutputQueue, "add", overtake)
    html = tmp_path / "failure.html"
    assert simulate.main(["--first", "0", "--runs", "100", "--html", str(html)]) == 1
    said = capsys.readouterr().out
    seed = next(line for line in said.splitlines() if line.startswith("seed ") and "breaks" in line).split()[1]
    assert f"replay: fuzz/simulate.py --driver selectors --seed {seed}\n" in said
    assert "requests/s" in said
    assert simulate.main(["--seed", seed]) == 1
    again = capsys.readouterr().out
    name = again.split("breaks ")[1].split(":")[0]
    assert Invariant[name].value in again
    text = html.read_text("utf-8")
    assert name in text
    assert "://" not in text  # nothing is loaded from anywhere


def test_a_page_of_a_run_that_held_shows_each_connection(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    html = tmp_path / "run.html"
    assert simulate.main(["--seed", "3", "--html", str(html), "--trace"]) == 0
    outcome = run_seed(3, detailed=True)
    assert html.read_text("utf-8") == page.page(outcome, "selectors")
    for peer in outcome.world.peers:
        assert f"c{peer.lane} {peer.kind}" in html.read_text("utf-8")
    assert f"trace {outcome.hex}" in capsys.readouterr().out


def test_a_mutant_is_found() -> None:
    verdict = mutate.judge("wake-up-lost", most=40, enough=1)
    assert verdict.failed
    assert "NOT_OVERLOOKED" in verdict.invariants


@pytest.mark.parametrize("name", mutate.all_names())
def test_each_mutant_can_be_made(name: str) -> None:
    patch = ["patch", "--dry-run", "--quiet", "-p1", "--input", str(mutate.MUTANTS / f"{name}.patch")]
    assert subprocess.run(patch, cwd=ROOT, check=False).returncode == 0, "mend the patch: what it changes has changed"


def test_the_table_of_mutants_is_whole_and_none_survives() -> None:
    rows = [
        line.split("|")[1].strip() for line in mutate.TABLE.read_text("utf-8").splitlines() if line.startswith("| ")
    ]
    assert [row for row in rows if row not in ("mutant", "---")] == mutate.all_names()
    assert "survives" not in mutate.TABLE.read_text("utf-8")
