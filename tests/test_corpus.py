"""The corpus itself: its verdicts exist and leave nothing out. The corpus through a `Conn`, however it is cut."""

import re
from collections.abc import Callable

import pytest

from h1core.errors import RefuseReason
from h1core.events import Data, EndOfMessage, Event, Refused, Request
from h1core.http1.state import CloseReason, Disposition

from .corpus_files import Case, Kind, load, make_case
from .feed import LAST, Outcome, at_random, byte_by_byte, collect, messages, new_conn

VALID = load("valid")
INVALID = load("invalid")
ALL = [*VALID, *INVALID]

# Rows of section 2 of research/peers.md that an input can speak of; the others are about output and the server.
PEERS = frozenset(
    "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 F13 F14 F15 F16 F17 C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 "
    "L1 L2 L3 L4 L5 L6 L7 L8 L9 L10 L11 L12 L13 S1 S5 S7".split()
)

TAIL = b"GET /tail HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

CUTS: dict[str, Callable[[Case], list[bytes]]] = {
    "byte_by_byte": lambda case: byte_by_byte(case.wire),
    "at_random_1": lambda case: at_random(case.wire, f"{case.name} 1"),
    "at_random_2": lambda case: at_random(case.wire, f"{case.name} 2"),
    "at_random_3": lambda case: at_random(case.wire, f"{case.name} 3"),
}

each_valid = pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
each_invalid = pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def feed(case: Case, pieces: list[bytes]) -> tuple[Outcome, CloseReason | None, Disposition]:
    conn = new_conn()
    outcome = collect(conn, [*pieces, b""] if case.eof else pieces)
    return outcome, conn.close_reason, conn.disposition


# The corpus itself.


@each_case
def test_a_case_is_well_described(case: Case) -> None:
    assert case.wire
    assert re.fullmatch(r"RFC \d+ §[\dC][\d.]*", case.source)
    assert re.fullmatch(r".{1,110}[.`]", case.about)
    assert PEERS.issuperset(case.peers)
    assert len(set(case.peers)) == len(case.peers)


@each_invalid
def test_a_refusal_is_a_row_of_the_table(case: Case) -> None:
    assert case.status == RefuseReason[case.reason].status


def test_every_refusal_has_a_case() -> None:
    assert {case.reason for case in INVALID} == set(RefuseReason.__members__)


def test_every_row_of_the_peers_has_a_case() -> None:
    assert {row for case in ALL for row in case.peers} == PEERS


def test_no_two_cases_are_the_same() -> None:
    assert len({(case.wire, case.eof) for case in ALL}) == len(ALL)


GOOD = {"source": "RFC 9112 §3", "peers": [], "about": "A."}
REFUSED = {"status": 400, "reason": "NOT_HTTP"}
REQUEST = {"method": "GET", "target": "/", "version": "1.1", "headers": [["host", "a"]]}


@pytest.mark.parametrize(
    ("kind", "name", "table"),
    [
        ("valid", "Name", GOOD),
        ("valid", "no-dash", GOOD),
        ("valid", "name", {"peers": [], "about": "A."}),
        ("valid", "name", GOOD | {"peers": "F1"}),
        ("valid", "name", GOOD | {"peers": [1]}),
        ("valid", "name", GOOD | {"unheard": 1}),
        ("valid", "name", GOOD | {"rest": "open"}),
        ("valid", "name", GOOD | {"eof": True}),
        ("valid", "name", GOOD | REFUSED),
        ("valid", "name", GOOD | {"requests": REQUEST}),
        ("valid", "name", GOOD | {"requests": [REQUEST | {"unheard": 1}]}),
        ("valid", "name", GOOD | {"requests": [{"method": "GET"}]}),
        ("valid", "name", GOOD | {"requests": [REQUEST | {"method": "\u0100"}]}),
        ("valid", "name", GOOD | {"requests": [REQUEST | {"headers": [["host"]]}]}),
        ("valid", "name", GOOD | {"requests": [REQUEST | {"headers": ["ab"]}]}),
        ("invalid", "name", GOOD),
        ("invalid", "name", GOOD | REFUSED | {"status": True}),
        ("invalid", "name", GOOD | REFUSED | {"eof": 1}),
        ("invalid", "name", GOOD | REFUSED | {"rest": "close"}),
        ("invalid", "name", GOOD | REFUSED | {"partial": {}}),
    ],
)
def test_the_loader_is_strict(kind: Kind, name: str, table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        make_case(kind, name, b"GET", table)


# The corpus through a Conn.


@each_valid
def test_a_valid_case_comes_out_as_its_verdict_says(case: Case) -> None:
    outcome, close_reason, disposition = feed(case, [case.wire])
    assert messages(outcome.events) == (list(case.requests), None)
    assert {type(event) for event in outcome.events} <= {Request, Data, EndOfMessage}
    assert close_reason is (CloseReason.PEER_ASKED if case.closes else None)
    assert disposition is (Disposition.LINGER if case.closes else Disposition.KEEP)


@each_invalid
def test_an_invalid_case_is_refused_as_its_verdict_says(case: Case) -> None:
    outcome, close_reason, disposition = feed(case, [case.wire])
    assert outcome.events[-1:] == [Refused(case.status, RefuseReason[case.reason])]
    assert messages(outcome.events) == (list(case.requests), case.partial)
    answer = outcome.outputs[-1]
    assert answer.startswith(b"HTTP/1.1 %d " % case.status)
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert close_reason is CloseReason.REFUSED
    assert disposition is (Disposition.CLOSE if case.eof else Disposition.LINGER)


@each_case
@pytest.mark.parametrize("cut", CUTS)
def test_the_cut_means_nothing(case: Case, cut: str) -> None:
    assert events_and_end(case, CUTS[cut](case)) == events_and_end(case, [case.wire])


@pytest.mark.parametrize("case", [case for case in VALID if not case.closes], ids=lambda case: case.name)
def test_a_request_behind_a_valid_case_surfaces(case: Case) -> None:
    tail = Request(b"GET", b"/tail", [(b"host", b"x")])
    expected = [*feed(case, [case.wire])[0].events, tail]
    for pieces in ([case.wire + TAIL], [case.wire, TAIL], byte_by_byte(case.wire + TAIL)):
        assert feed(case, pieces)[0].events == expected


@pytest.mark.parametrize("case", [case for case in ALL if case.reason or case.closes], ids=lambda case: case.name)
def test_nothing_behind_the_end_surfaces(case: Case) -> None:
    if case.eof:
        assert feed(case, [case.wire])[2] in LAST  # nothing can follow the end of the stream
        return
    expected = events_and_end(case, [case.wire])
    for pieces in ([case.wire + SMUGGLED], [case.wire, SMUGGLED, SMUGGLED], byte_by_byte(case.wire + SMUGGLED)):
        assert events_and_end(case, pieces) == expected


def events_and_end(case: Case, pieces: list[bytes]) -> tuple[list[Event], CloseReason | None, Disposition]:
    outcome, close_reason, disposition = feed(case, pieces)
    return outcome.events, close_reason, disposition
