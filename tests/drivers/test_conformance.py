"""One table of scenarios, and what runs it: all three hosts, in memory to the instant, and on real sockets.

The table stands in scenario_messages.py, scenario_limits.py, scenario_deadlines.py and scenario_ends.py; what a row can
say is in scenario.py and scenario_steps.py.
"""

import os
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import pytest
from h1core.drivers import asyncio_driver

from h1core import CloseReason, Disposition, Limits, Timeouts

from .memory_worlds import play_on_asyncio, play_on_selectors, play_on_trio
from .scenario import Kind, Record, Row, check_reasons
from .scenario_deadlines import DEADLINES
from .scenario_ends import ENDS
from .scenario_limits import LIMITS, REFUSALS
from .scenario_messages import BODIES, REQUESTS, RESPONSES
from .scenario_steps import Leaves
from .socket_world import play_on_sockets

ROWS = [*REQUESTS, *BODIES, *RESPONSES, *REFUSALS, *LIMITS, *DEADLINES, *ENDS]

SELECTORS_KINDS = (Kind.INLINE, Kind.THREADS)
HOSTED_KINDS = tuple(Kind)
STREAM_KINDS = (Kind.INLINE, Kind.EXCHANGE)
"""Over streams of trio nothing else is different."""

ASYNCIO_LOOPS = ["asyncio", *(["uvloop"] if find_spec("uvloop") is not None or "CI" in os.environ else [])]

if "uvloop" in ASYNCIO_LOOPS:
    asyncio_driver.loop_factory("uvloop")().close()  # its first loop opens two descriptors for the life of the process

SCALES = (0.01, 0.1)
"""Seconds on real sockets for a second in memory. The second is for a machine that was busy with something else."""

# What no row can show, and why.
OUT_OF_REACH: dict[str | CloseReason, str] = {
    "max_unread_body_bytes": "a request is whole before its handler is called; only an Exchange leaves a body",
    CloseReason.BODY_UNREAD: "as above",
    CloseReason.CONTINUE_OWED: "as above",
    CloseReason.TUNNEL_DECLINED: "no driver offers tunnels, so CONNECT is refused",
}


def runs(kinds: tuple[Kind, ...], *, on_sockets: bool = False) -> list[Any]:
    """The rows, each in every one of these ways in which it can be run; on sockets in two, or one if it takes time."""
    found = []
    for number, row in enumerate(ROWS):
        possible = [kind for kind in kinds if kind in row.kinds]
        if not possible or (on_sockets and any(isinstance(step, Leaves) for step in row.steps)):
            continue
        if on_sockets:
            possible = (possible * 2)[number % len(possible) :][: 1 if row.due else min(2, len(possible))]
        found += [pytest.param(row, kind, id=f"{row.name}-{kind.value}") for kind in possible]
    return found


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    return Record(monkeypatch)


@pytest.fixture
def no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/dev/fd")
    yield
    assert os.listdir("/dev/fd") == before


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(SELECTORS_KINDS))
def test_the_selectors_driver_in_memory(row: Row, kind: Kind, record: Record) -> None:
    play_on_selectors(row, kind, record)
    check_reasons(row, record)


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(HOSTED_KINDS))
def test_the_asyncio_driver_in_memory(row: Row, kind: Kind, record: Record) -> None:
    play_on_asyncio(row, kind, record)
    check_reasons(row, record)


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(HOSTED_KINDS))
def test_the_trio_driver_in_memory(row: Row, kind: Kind, record: Record) -> None:
    play_on_trio(row, kind, record)
    check_reasons(row, record)


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(STREAM_KINDS))
def test_the_trio_driver_over_streams(row: Row, kind: Kind, record: Record) -> None:
    play_on_trio(row, kind, record, over_streams=True)
    check_reasons(row, record)


def play_in_time(row: Row, kind: Kind, driver: str) -> None:
    """Let a row happen on sockets, once more slowly if it has deadlines and the machine was busy."""
    for scale in SCALES if row.due else SCALES[-1:]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            record = Record(monkeypatch)
            try:
                play_on_sockets(row, kind, record, driver, scale)
                check_reasons(row, record)
                return
            except AssertionError:
                if scale == SCALES[-1]:
                    raise


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(SELECTORS_KINDS, on_sockets=True))
def test_the_selectors_driver_on_sockets(row: Row, kind: Kind) -> None:
    play_in_time(row, kind, "selectors")


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize("loop", ASYNCIO_LOOPS)
@pytest.mark.parametrize(("row", "kind"), runs(HOSTED_KINDS, on_sockets=True))
def test_the_asyncio_driver_on_sockets(row: Row, kind: Kind, loop: str) -> None:
    play_in_time(row, kind, loop)


@pytest.mark.usefixtures("no_descriptor_is_left")
@pytest.mark.parametrize(("row", "kind"), runs(HOSTED_KINDS, on_sockets=True))
def test_the_trio_driver_on_sockets(row: Row, kind: Kind) -> None:
    play_in_time(row, kind, "trio")


# What the table says something about.


def test_every_deadline_and_every_limit_has_a_row_by_its_name() -> None:
    named = {row.name.partition(":")[0] for row in ROWS}
    fields_of_both = {field.name for config in (Limits, Timeouts) for field in fields(config)}
    assert fields_of_both - named == {name for name in OUT_OF_REACH if isinstance(name, str)}


def test_every_deadline_passes_in_a_row() -> None:
    due = {name for row in ROWS for name in row.due}
    assert due == {field.name for field in fields(Timeouts)} - {"min_body_rate", "min_write_rate"}


def test_connections_end_in_every_way_and_for_every_reason() -> None:
    ends = [end for row in ROWS for end in row.ends]
    assert {end.disposition for end in ends} == set(Disposition)
    assert set(CloseReason) - {end.reason for end in ends} == OUT_OF_REACH.keys() - {"max_unread_body_bytes"}


def test_no_two_rows_have_the_same_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
