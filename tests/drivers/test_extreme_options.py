"""Every limit and every deadline at its edges: a clear line, or a server that answers."""

import signal
import socket
import subprocess
import sys
from dataclasses import fields
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from h1core import Limits, Timeouts
from h1core.errors import LocalError
from h1core.testing import Client

from ..wire import statuses
from .world import GET, hello

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0
LIMITS = [field.name for field in fields(Limits)]
TIMEOUTS = [field.name for field in fields(Timeouts)]
NO_NUMBERS = [0, -1, inf, nan]
TINY, HUGE = 5e-324, 1.7e308


async def async_hello(request: Any) -> Any:
    return hello(request)


SERVERS: dict[str, dict[str, Any]] = {
    "selectors": {"app": hello, "driver": "selectors"},
    "selectors, threads": {"app": hello, "driver": "selectors", "threads": 1},
    "asyncio": {"app": async_hello, "driver": "asyncio"},
    "trio": {"app": async_hello, "driver": "trio"},
}


def see_it_answer(options: dict[str, Any], **more: Any) -> list[int]:
    """What a client gets in a server's whole life, idle times and the drain included."""
    with Client(**options, **more) as client:
        peer = client.connect()
        peer.send(GET)
        client.wait(1.0)
        peer.send(GET)
        client.wait(1.0)
        wire = peer.read()
        client.begin_drain()
        client.wait(1.0)
    return statuses(wire)


@pytest.mark.parametrize("name", [*LIMITS, *TIMEOUTS])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_positive_number_is_one_clear_line(name: str, value: float) -> None:
    kind: Any = Limits if name in LIMITS else Timeouts
    with pytest.raises(LocalError, match=name) as caught:
        kind(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("value", [1, 10**9, 10**300])
@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_at_its_edges(name: str, value: int, options: dict[str, Any]) -> None:
    try:
        limits = Limits(**{name: value})
    except LocalError:
        with pytest.raises(LocalError, match=name):  # too large for the system, or it contradicts another one
            Limits(**{name: value})
        return
    answered = see_it_answer(options, limits=limits)
    assert answered, "whatever the limit, there is an answer"
    assert set(answered) <= {200, 414, 431, 501}


@pytest.mark.parametrize("options", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("value", [TINY, 1e9, 1e300, HUGE])
@pytest.mark.parametrize("name", TIMEOUTS)
def test_every_deadline_at_its_edges(name: str, value: float, options: dict[str, Any]) -> None:
    answered = see_it_answer(options, timeouts=Timeouts(**{name: value}))
    assert set(answered) <= ({200, 408, 503} if value == TINY else {200})
    assert len(answered) == 2 or value == TINY


@pytest.mark.parametrize(
    ("app", "driver"), [("hello", "selectors"), ("hello_async", "asyncio"), ("hello_async", "trio")]
)
def test_a_process_whose_deadlines_are_all_never(app: str, driver: str) -> None:
    """The clocks of the system take no such numbers: 2,147,484 seconds ended a server."""
    options = [argument for name in TIMEOUTS for argument in (f"--{name.replace('_', '-')}", "1e300")]
    command = [sys.executable, "-m", "h1core", f"examples.{app}:app", "--driver", driver, "--bind", "127.0.0.1:0"]
    with subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = int(process.stderr.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
                for _ in range(2):
                    sock.sendall(GET)
                    assert statuses(sock.recv(1 << 16)) == [200]
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
