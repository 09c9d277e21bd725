"""The table of states and steps, and that a real connection keeps to it."""

from collections.abc import Callable

import pytest

from h1core import Conn, Data, EndOfMessage, InformationalResponse, State
from h1core.http1 import state
from h1core.http1.state import APPLICATION_STEPS, PEER_STEPS, TABLE, Step
from tests.kit import (
    BODY,
    GET,
    OK,
    POST,
    STREAMED,
    UPGRADE,
    a_conn,
    conn_at,
    each_state,
    flush,
    local_error,
    play,
    where,
)

PAIRS = [(at, step) for at in State for step in Step]
OWN_STEPS = frozenset({Step.GIVE_UP_BODY, Step.END, Step.CLOSE})

# The picture in state.py, line by line, but for what it says in words: END, CLOSE.
PICTURE = {
    (State.HEAD, Step.REQUEST, State.HANDLING),
    (State.HANDLING, Step.RESPONSE, State.HEAD),
    (State.HANDLING, Step.RESPONSE_HEAD, State.RESPONDING),
    (State.RESPONDING, Step.RESPONSE_END, State.HEAD),
    (State.HEAD, Step.REQUEST_WITH_BODY, State.RECEIVING),
    (State.RECEIVING, Step.BODY_END, State.HANDLING),
    (State.RECEIVING, Step.RESPONSE_HEAD, State.DUPLEX),
    (State.DUPLEX, Step.BODY_END, State.RESPONDING),
    (State.DUPLEX, Step.GIVE_UP_BODY, State.RESPONDING),
    (State.RECEIVING, Step.RESPONSE, State.DRAINING),
    (State.DUPLEX, Step.RESPONSE_END, State.DRAINING),
    (State.DRAINING, Step.BODY_END, State.HEAD),
    (State.HANDLING, Step.SWITCH, State.SWITCHED),
}

# Steps of the application by what takes them.
TAKE: dict[Step, Callable[[Conn], object]] = {
    Step.INFORMATIONAL: lambda conn: conn.send(InformationalResponse(103)),
    Step.RESPONSE: lambda conn: conn.send(OK),
    Step.RESPONSE_HEAD: lambda conn: conn.send(STREAMED),
    Step.RESPONSE_DATA: lambda conn: conn.send(Data(b"x")),
    Step.RESPONSE_END: lambda conn: conn.send(EndOfMessage()),
    Step.SWITCH: lambda conn: conn.switch_protocols(),
}

# Steps of the peer by the bytes that are one.
BYTES = {Step.REQUEST: GET, Step.REQUEST_WITH_BODY: POST, Step.BODY_END: BODY}


def pair_id(pair: object) -> str | None:
    return pair.name if isinstance(pair, State | Step) else None


def pairs(steps: frozenset[Step], *, possible: bool) -> pytest.MarkDecorator:
    chosen = [(at, step) for at, step in PAIRS if step in steps and (step in TABLE[at]) is possible]
    return pytest.mark.parametrize(("at", "step"), chosen, ids=pair_id)


def reachable_from(start: State) -> set[State]:
    found, new = {start}, {start}
    while new:
        new = {after for at in new for after in TABLE[at].values()} - found
        found |= new
    return found


# The table.


def test_every_state_has_its_row_and_every_step_its_side() -> None:
    assert TABLE.keys() == set(State)
    assert sorted([*PEER_STEPS, *APPLICATION_STEPS, *OWN_STEPS]) == list(Step)


def test_every_state_can_be_reached_and_left_for_good() -> None:
    assert reachable_from(State.HEAD) == set(State)
    assert all(State.CLOSED in reachable_from(at) for at in State)


def test_the_end_never_leads_back() -> None:
    assert reachable_from(State.ENDING) == {State.ENDING, State.CLOSED}
    assert reachable_from(State.CLOSED) == {State.CLOSED}
    assert reachable_from(State.SWITCHED) == {State.SWITCHED, State.CLOSED}


def test_the_picture_says_the_same_as_the_table() -> None:
    moves = {(at, step, after) for at, row in TABLE.items() for step, after in row.items() if at != after}
    assert {move for move in moves if move[1] not in {Step.END, Step.CLOSE}} == PICTURE


def test_the_picture_names_every_step_that_moves() -> None:
    words = (state.__doc__ or "").replace("REQUEST_ ", "REQUEST_WITH_BODY").split()
    names = {word.strip(",:+->.") for word in words}
    assert {at.name for at in State} <= names
    assert {step.name for _, step, _ in PICTURE} <= names


# A real connection.


@pairs(APPLICATION_STEPS, possible=True)
def test_a_step_of_the_application_leads_where_the_table_says(at: State, step: Step) -> None:
    conn = conn_at(at)
    if step is Step.SWITCH:
        conn = a_conn(upgrades={b"chat"})
        play(conn, UPGRADE)
    TAKE[step](conn)
    assert where(conn) is TABLE[at][step]


@pairs(APPLICATION_STEPS - {Step.SWITCH}, possible=False)
def test_a_step_out_of_turn_names_itself_and_the_state_and_does_nothing(at: State, step: Step) -> None:
    conn = conn_at(at)
    with local_error(conn, f"^{step.name} is out of turn: the connection is {at.name}"):
        TAKE[step](conn)


@pairs(frozenset({Step.SWITCH}), possible=False)
def test_switching_out_of_turn_does_nothing(at: State, step: Step) -> None:
    conn = conn_at(at)
    with local_error(conn, "SWITCH is out of turn|the request offers no protocol"):
        TAKE[step](conn)


@pairs(PEER_STEPS, possible=True)
def test_a_step_of_the_peer_leads_where_the_table_says(at: State, step: Step) -> None:
    conn = conn_at(at)
    conn.receive_data(BYTES[step])
    assert where(conn) is TABLE[at][step]


@pytest.mark.parametrize("step", PEER_STEPS, ids=pair_id)
@pytest.mark.parametrize("at", [State.HANDLING, State.RESPONDING, State.ENDING, State.CLOSED], ids=pair_id)
def test_the_peer_cannot_step_out_of_turn(at: State, step: Step) -> None:
    conn = conn_at(at)
    assert conn.receive_data(BYTES[step]) == []
    assert where(conn) is at


def test_a_body_is_given_up_only_under_a_response() -> None:
    assert [at for at in State if Step.GIVE_UP_BODY in TABLE[at]] == [State.DUPLEX]
    conn = conn_at(State.DUPLEX)
    conn.receive_data(b"")
    assert where(conn) is State.RESPONDING


@pytest.mark.parametrize("at", [State.HEAD, State.RECEIVING, State.DRAINING], ids=pair_id)
def test_a_connection_without_a_whole_request_can_end(at: State) -> None:
    conn = conn_at(at)
    conn.receive_data(b"") if at is not State.HEAD else conn.begin_drain()
    assert TABLE[at][Step.END] is State.ENDING
    assert where(conn) in {State.ENDING, State.CLOSED}


@each_state
def test_every_state_can_close(state: State) -> None:
    assert TABLE[state].get(Step.CLOSE, State.CLOSED) is State.CLOSED
    conn = conn_at(state)
    conn.connection_lost()
    assert where(conn) is State.CLOSED
    assert flush(conn) == b""
