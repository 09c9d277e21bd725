"""The three phases of a server."""

import pytest

from h1core.http1.timers import NEVER
from h1core.server.drain import Drain, Phase


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
