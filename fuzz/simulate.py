#!/usr/bin/env python3
"""Run the server against a bad world, decided by one number; README.md beside this file says what is in it.

fuzz/simulate.py --runs 10000             fresh seeds, until one fails
fuzz/simulate.py --minutes 5              the same, by the clock
fuzz/simulate.py --seed 42 --trace        one of them again, with everything that happened
fuzz/simulate.py --seed 42 --html x.html  the same as a page
"""

import argparse
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # this file is a program and the package beside it is not installed

from fuzz.simulation import page, report  # noqa: E402 - the path comes first
from fuzz.simulation.runs import DRIVERS, Outcome, Totals, run_seed, run_seeds  # noqa: E402 - the path comes first

PROGRESS_EVERY_S = 0.5


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.seed is not None:
        return _one(options)
    seeds = _seeds(options)
    totals = Totals()
    failed: list[Outcome] = []
    for outcome in _with_progress(run_seeds(seeds, options.driver), totals, failed, options):
        if outcome.violation is not None:
            failed.append(outcome)
            if not options.json:
                _say_failure(outcome.seed, options)
            if len(failed) >= options.failures:
                break
    print(totals)
    if options.json:
        names = Counter(outcome.violation.invariant.name for outcome in failed if outcome.violation)
        print(json.dumps({"runs": totals.runs, "failed": [outcome.seed for outcome in failed], "names": names}))
    if failed:
        print(f"{len(failed)} failed: {' '.join(str(outcome.seed) for outcome in failed)}")
    return 1 if failed else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="selectors")
    parser.add_argument("--seed", type=int, help="this one")
    parser.add_argument("--runs", type=int, help="so many, one after the other")
    parser.add_argument("--minutes", type=float, help="as many as there is time for")
    parser.add_argument("--first", type=int, help="the seed to begin with; else one is drawn, and said")
    parser.add_argument("--failures", type=int, default=1, metavar="N", help="go on until N seeds have failed")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the trace of --seed, or of a failure, as a page"
    )
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happened")
    parser.add_argument("--json", action="store_true", help="end with figures for programs, and tell no stories")
    return parser.parse_args(arguments)


def _one(options: argparse.Namespace) -> int:
    outcome = run_seed(options.seed, options.driver, detailed=True)
    if options.trace:
        print("\n".join([*report.about(outcome.world), "", *report.story(outcome.world, most=1 << 30)]))
    if options.html is not None:
        options.html.write_text(page.page(outcome, options.driver), "utf-8")
    if outcome.violation is not None:
        print(report.failure(outcome, options.driver))
    print(f"seed {outcome.seed}: {outcome.requests} requests in {outcome.simulated_s:.3f} simulated seconds")
    print(f"trace {outcome.hex}")
    return 1 if outcome.violation is not None else 0


def _seeds(options: argparse.Namespace) -> Iterable[int]:
    first = random.SystemRandom().randrange(10**9) if options.first is None else options.first
    print(f"seeds from {first}")
    if options.minutes is not None:
        return _until(time.monotonic() + 60 * options.minutes, itertools.count(first))
    return range(first, first + (options.runs or 1000))


def _until(end_at: float, seeds: Iterable[int]) -> Iterator[int]:
    for seed in seeds:
        if time.monotonic() >= end_at:
            return
        yield seed


def _with_progress(
    outcomes: Iterable[Outcome], totals: Totals, failed: list[Outcome], options: argparse.Namespace
) -> Iterator[Outcome]:
    """The outcomes, counted, with a bar on a terminal."""
    next_at = 0.0
    is_terminal = sys.stderr.isatty()
    for outcome in outcomes:
        totals.add(outcome)
        now = time.perf_counter()
        if is_terminal and now >= next_at:
            next_at = now + PROGRESS_EVERY_S
            share = _share(totals, now, options)
            bar = f"[{'#' * int(20 * share):20}] " if share is not None else ""
            print(f"\r\033[K{bar}{totals}, {len(failed)} failed", end="", file=sys.stderr, flush=True)
        yield outcome
    if is_terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _share(totals: Totals, now: float, options: argparse.Namespace) -> float | None:
    if options.minutes is not None:
        limit_s: float = 60 * options.minutes
        return min(1.0, (now - totals.began_at) / limit_s)
    runs: int = options.runs or 1000
    return totals.runs / runs


def _say_failure(seed: int, options: argparse.Namespace) -> None:
    """Run a seed that failed once more, for the details."""
    again = run_seed(seed, options.driver, detailed=True)
    if again.violation is None:
        print(f"seed {seed} failed, and holds when it is run again: the run is not deterministic")
        return
    print(report.failure(again, options.driver))
    if options.html is not None:
        options.html.write_text(page.page(again, options.driver), "utf-8")
        print(f"page: {options.html}")


if __name__ == "__main__":
    sys.exit(main())
