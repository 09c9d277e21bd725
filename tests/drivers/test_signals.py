"""Signals to the whole command, on both drivers."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..wire import statuses
from .world import GET

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0


@pytest.fixture(params=["examples.hello:app", "examples.hello_async:app", "examples.starlette_page:app"])
def command(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """`python -m h1core`, and the address that it announces."""
    arguments = [sys.executable, "-m", "h1core", request.param, "--bind", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("h1core: listening on http://127.0.0.1:"), line + process.stderr.read()
            yield process, ("127.0.0.1", int(line.rpartition(":")[2]))
            assert process.stderr.read() == ""
            life = ["starting up", "shutting down"] if "starlette" in request.param else []
            assert process.stdout.read().splitlines() == life, "a lifespan ends once, however the server ends"
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(
    command: tuple[subprocess.Popen[str], tuple[str, int]], number: signal.Signals
) -> None:
    process, address = command
    with socket.create_connection(address, timeout=PATIENCE_S) as client:
        client.sendall(GET)
        assert statuses(client.recv(1 << 16)) == [200]
        process.send_signal(number)
        assert client.recv(1) == b""
    assert process.wait(PATIENCE_S) == 0


def test_a_signal_ends_a_server_that_nobody_has_asked(command: tuple[subprocess.Popen[str], tuple[str, int]]) -> None:
    process, _ = command
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_at_once(
    command: tuple[subprocess.Popen[str], tuple[str, int]], number: signal.Signals, status: int
) -> None:
    process, address = command
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as busy,
        socket.create_connection(address, timeout=PATIENCE_S) as idle,
    ):
        busy.sendall(GET[:-1])
        idle.sendall(GET)
        assert statuses(idle.recv(1 << 16)) == [200]
        process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "the drain has begun, and waits for the request whose head is coming"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == status
        with pytest.raises(ConnectionResetError):
            busy.recv(1)
