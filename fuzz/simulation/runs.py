"""Running seeds: one, many, the same twice."""

import gc
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .driver import Driver
from .engine_world import EngineDriver
from .hosted_worlds import AsyncioDriver, TrioDriver
from .invariants import Invariant, Violation
from .world import World

DRIVERS: dict[str, type[Driver]] = {"selectors": EngineDriver, "asyncio": AsyncioDriver, "trio": TrioDriver}

TWICE_EVERY = 64
"""One of so many seeds is run a second time, and must leave the same trace."""

COLLECT_EVERY = 1000
"""Runs between two collections of garbage: by itself the collector costs a third of the time, and `forget` leaves it
little to do."""


@dataclass(slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    hex: str
    violation: Violation | None
    requests: int
    simulated_s: float
    world: World


@dataclass(slots=True)
class Totals:
    """Figures of many runs."""

    runs: int = 0
    requests: int = 0
    simulated_s: float = 0.0
    began_at: float = field(default_factory=time.perf_counter)
    cpu_began_at: float = field(default_factory=time.process_time)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.requests += outcome.requests
        self.simulated_s += outcome.simulated_s

    def __str__(self) -> str:
        wall_s = max(1e-9, time.perf_counter() - self.began_at)
        cpu_s = max(1e-9, time.process_time() - self.cpu_began_at)
        return (
            f"{self.runs:,} runs in {wall_s:.1f} s ({cpu_s:.1f} s of CPU): {self.runs / wall_s:,.0f} runs/s, "
            f"{self.requests / wall_s:,.0f} requests/s ({self.requests / cpu_s:,.0f} per second of CPU), "
            f"{self.simulated_s / wall_s:,.0f} simulated seconds/s"
        )


def run_seed(seed: int, driver: str = "selectors", *, detailed: bool = False) -> Outcome:
    """One run, from its number to the hash of its trace."""
    world = World(seed, DRIVERS[driver], detailed)
    violation: Violation | None = None
    try:
        world.run()
    except Violation as found:
        violation = found
    return Outcome(seed, world.trace.hex(), violation, world.requests, world.simulated_s, world)


def run_twice(seed: int, driver: str = "selectors") -> Outcome:
    """One run, and another that must be the same; its outcome says so if it is not."""
    first, second = run_seed(seed, driver), run_seed(seed, driver)
    if first.violation is None and first.hex != second.hex:
        first.violation = Violation(Invariant.DETERMINISM, f"one run is {first.hex}, the next {second.hex}")
    return first


def run_seeds(seeds: Iterable[int], driver: str = "selectors") -> Iterator[Outcome]:
    """Many runs; one in `TWICE_EVERY` is run twice. The world of an outcome is gone when the next one is asked for."""
    was_enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        for count, seed in enumerate(seeds):
            if count % COLLECT_EVERY == 0:
                gc.collect()
            again = count % TWICE_EVERY == TWICE_EVERY - 1
            outcome = run_twice(seed, driver) if again else run_seed(seed, driver)
            yield outcome
            outcome.world.forget()
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
