"""A run in words: what does not hold, what led to it, and how to see it again."""

from collections.abc import Iterator

from .runs import Outcome
from .trace import WORLD, Entry
from .world import START, World

MOST_LINES = 150
MOST_BYTES = 100


def replay_command(outcome: Outcome, driver: str) -> str:
    return f"fuzz/simulate.py --driver {driver} --seed {outcome.seed}"


def failure(outcome: Outcome, driver: str) -> str:
    """Everything that there is to say about a seed that failed."""
    violation = outcome.violation
    assert violation is not None
    lines = [
        f"seed {outcome.seed} breaks {violation.invariant.name}: {violation.invariant.value}",
        f"    {violation.detail}",
        f"replay: {replay_command(outcome, driver)}",
        "",
        *about(outcome.world),
        "",
        *story(outcome.world, violation.lane),
        f"{outcome.world.clock.now - START:+13.6f} s  here {violation.invariant.name} does not hold",
    ]
    return "\n".join(lines)


def about(world: World) -> Iterator[str]:
    """What the run was like."""
    swarm = world.swarm
    faults = ", ".join(f"{name} {rate:g}" for name, rate in swarm.faults.items()) or "none"
    yield f"clients: {', '.join(swarm.peers)}"
    kinds = ", ".join(dict.fromkeys(world.apps.kinds))
    yield f"applications: {world.apps.interface}: {kinds}; {swarm.threads or 'no'} workers"
    yield f"faults: {faults}; for {swarm.storm_s:g} s, then: {swarm.ends}"
    yield f"{swarm.limits}"
    yield f"{swarm.timeouts}"


def story(world: World, lane: int = WORLD, most: int = MOST_LINES) -> Iterator[str]:
    """The trace of one connection and of the world; of all connections without one."""
    entries = [entry for entry in world.trace.all if lane == WORLD or entry.lane in (lane, WORLD)]
    if len(entries) > most:
        yield f"({len(entries) - most} earlier lines left out)"
    for entry in entries[-most:]:
        yield line(entry, world)


def line(entry: Entry, world: World) -> str:
    who = "" if entry.lane == WORLD else f"c{entry.lane}"
    what = f"{entry.actor} {entry.verb}"
    return f"{entry.at - START:+13.6f} s {who:>4}  {what:28} {in_words(entry)}".rstrip()


def in_words(entry: Entry) -> str:
    """What an entry says besides who did what."""
    detail = entry.detail
    if isinstance(detail, bytes):
        more = f"… {len(detail)} bytes" if len(detail) > MOST_BYTES else ""
        return f"{detail[:MOST_BYTES]!r}{more}"
    if entry.verb.startswith("deadline"):
        assert isinstance(detail, float)
        return "off" if detail == float("inf") else f"at {detail - START:+.6f} s, in {detail - entry.at:g} s"
    return str(detail)
