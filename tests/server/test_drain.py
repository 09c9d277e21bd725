"""The three phases of a server."""

import pytest

from h1core.http1.timers import NEVER
from h1core.server.drain import SILENCE_S, Drain, Phase, StreamStep


@pytest.mark.parametrize("open_connections", [0, 1, 5])
def test_a_server_runs_until_it_is_told_otherwise(open_connections: int) -> None:
    drain = Drain(30.0, 5.0)
    assert drain.phase(open_connections) is Phase.RUNNING
    assert drain.deadline_at == NEVER


def test_it_drains_while_connections_are_open_and_then_is_stopped() -> None:
    drain = Drain(30.0, 5.0)
    assert drain.begin(100.0)
    assert [drain.phase(count) for count in (2, 1, 0)] == [Phase.DRAINING, Phase.DRAINING, Phase.STOPPED]
    assert drain.deadline_at == 130.0


def test_beginning_again_changes_nothing() -> None:
    drain = Drain(30.0, 5.0)
    assert drain.begin(100.0)
    assert not drain.begin(120.0)
    assert drain.deadline_at == 130.0


def test_streams_are_told_and_a_moment_later_cut() -> None:
    drain = Drain(30.0, 5.0)
    drain.begin(100.0)
    assert drain.next_step_at == 105.0
    assert drain.stream_step(104.875) is None
    assert drain.stream_step(105.0) is StreamStep.TELL
    assert drain.next_step_at == 105.0 + SILENCE_S
    assert drain.stream_step(105.0 + SILENCE_S) is StreamStep.CUT
    assert drain.streams_are_cut
    assert drain.next_step_at is None


def test_streams_that_begin_in_a_drain_are_told_in_their_turn() -> None:
    drain = Drain(30.0, 5.0)
    drain.begin(100.0)
    assert [drain.stream_step(at) for at in (105.0, 106.0)] == [StreamStep.TELL, StreamStep.CUT]
    assert drain.next_step_at is None
    drain.stream_begins(107.0)
    drain.stream_begins(108.0)
    assert [drain.stream_step(at) for at in (111.875, 112.0, 113.0)] == [None, StreamStep.TELL, StreamStep.CUT]


def test_streams_that_begin_between_the_two_steps_are_told_too() -> None:
    drain = Drain(30.0, 5.0)
    assert drain.begin(100.0)
    assert drain.stream_step(105.0) is StreamStep.TELL
    drain.stream_begins(105.25)
    drain.stream_begins(105.375)
    assert drain.stream_step(105.5) is StreamStep.CUT
    assert drain.next_step_at == 110.25
    assert [drain.stream_step(at) for at in (110.125, 110.25, 111.0)] == [None, StreamStep.TELL, StreamStep.CUT]
    assert drain.next_step_at is None


def test_streams_have_half_of_a_short_drain() -> None:
    drain = Drain(4.0, 5.0)
    drain.begin(100.0)
    assert drain.next_step_at == 102.0
