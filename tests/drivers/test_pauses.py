"""After a pause of the process (SIGSTOP, a suspended machine), sockets are read before deadlines count."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from h1core.testing import MemoryClient

from ..wire import answers, statuses
from .world import GET, MakeWorld, World, body_echo, post

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0
PAUSE_S = 100.0
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


def pause(world: World, client: MemoryClient, wire: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next poll of the server takes long, and returns nothing; in the meantime the client has sent."""
    select = world.selector.select

    def paused(timeout: float | None = None) -> list[object]:
        monkeypatch.setattr(world.selector, "select", select)
        client.send(wire)
        world.clock.advance(PAUSE_S)
        return []

    monkeypatch.setattr(world.selector, "select", paused)


@pytest.mark.parametrize(
    ("before", "during", "body"),
    [
        (HEAD[:20], HEAD[20:] + b"\r\n", b""),
        (HEAD + b"Content-Length: 9\r\n\r\nfive", b"four", b"fivefour"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfi", b"ve!\r\n0\r\n\r\n", b"five!"),
        (GET, post(b"after"), b"after"),
    ],
    ids=["head", "body", "chunked", "keep-alive"],
)
def test_what_came_during_a_pause_is_answered(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, before: bytes, during: bytes, body: bytes
) -> None:
    world = make_world(body_echo)
    client = world.connect(before.replace(b"Content-Length: 9", b"Content-Length: 8"))
    world.tick(3)
    client.read()
    pause(world, client, during, monkeypatch)
    world.tick(3)
    assert [(answer.status, answer.body) for answer in answers(client.read())] == [(200, body)]


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_large_body_that_lies_in_the_socket_is_read_whole(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    world = make_world(body_echo, initial_buffer_bytes=1024)
    client = world.connect(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    world.tick(3)
    pause(world, client, b"x" * size, monkeypatch)
    world.clock.advance(30.0)
    world.tick(40)
    assert statuses(client.read()) == [200]


def test_a_client_that_sent_nothing_is_late_all_the_same(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    client = world.connect(HEAD)
    world.tick(3)
    pause(world, client, b"", monkeypatch)
    world.tick(2)
    assert statuses(client.read()) == [408]


def test_a_client_that_closed_during_a_pause_is_no_timeout(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    client = world.connect(GET[:-1])
    world.tick(3)
    pause(world, client, b"", monkeypatch)
    client.end()
    world.tick(2)
    assert statuses(client.read()) == [400]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot pause a process")
@pytest.mark.parametrize(
    ("app", "driver"),
    [
        ("examples.hello:app", "selectors"),
        ("examples.hello_async:app", "asyncio"),
        ("examples.hello_async:app", "trio"),
    ],
)
def test_a_process_that_was_stopped_answers_what_came(app: str, driver: str) -> None:
    options = ["--driver", driver, "--head-timeout", "0.5", "--keepalive-timeout", "0.5", "--bind", "127.0.0.1:0"]
    arguments = [sys.executable, "-m", "h1core", app, *options]
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = int(process.stderr.readline().rpartition(":")[2])
            with (
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as idle,
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as slow,
            ):
                idle.sendall(GET)
                assert statuses(idle.recv(1 << 16)) == [200]
                slow.sendall(GET[:20])
                os.kill(process.pid, signal.SIGSTOP)
                idle.sendall(GET)
                slow.sendall(GET[20:])
                time.sleep(0.75)
                os.kill(process.pid, signal.SIGCONT)
                assert [statuses(sock.recv(1 << 16)) for sock in (idle, slow)] == [[200], [200]]
        finally:
            process.kill()
