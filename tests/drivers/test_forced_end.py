"""An application that holds the server's thread does not keep the process alive, however it holds it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .world import get

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0
SOON_S = 5.0
"""Well below what the applications below would take."""

APPS = """
import time
from h1core import Response

def hold():
    print("held", flush=True)
    time.sleep(60)

def handler(request):
    hold()

async def async_handler(request):
    hold()

def wsgi(environ, start_response):
    hold()

def in_c(request):
    print("held", flush=True)
    return Response(200, (), b"%d" % sum(range(10**11)))

async def starts_late(scope, receive, send):
    hold()
"""


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "held_apps.py").write_text(APPS)
    command = [sys.executable, "-m", "h1core", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_held(process: subprocess.Popen[str], path: Path | None) -> socket.socket | None:
    """Ask for something, and wait until the application has the thread."""
    assert process.stdout is not None
    client = None
    if path is not None:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.sendall(get(b"/held"))
    assert process.stdout.readline() == "held\n"
    return client


def end(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    began_at = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors, time.monotonic() - began_at


HELD = {
    "inline": ("held_apps:handler",),
    "WSGI": ("held_apps:wsgi", "--threads", "0", "--interface", "wsgi"),
    "asyncio": ("held_apps:async_handler", "--driver", "asyncio"),
    "trio": ("held_apps:async_handler", "--driver", "trio"),
}


@pytest.mark.parametrize("arguments", HELD.values(), ids=HELD)
def test_a_second_signal_ends_the_process_and_says_who_held_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "socket"
    with running(tmp_path, *arguments, "--bind", f"unix:{path}") as process:
        client = wait_until_held(process, path)
        process.send_signal(signal.SIGINT)
        time.sleep(0.25)
        assert process.poll() is None, "it finishes what is in flight"
        process.send_signal(signal.SIGINT)
        status, errors, took_s = end(process)
        assert (status, took_s < SOON_S) == (130, True)
        assert '"GET /held HTTP/1.1"' in errors
        assert "in hold" in errors
        assert not path.exists()
        assert client is not None
        client.close()


@pytest.mark.parametrize("driver", ["asyncio", "trio"])
def test_a_startup_that_holds_the_thread_is_ended_too(tmp_path: Path, driver: str) -> None:
    with running(tmp_path, "held_apps:starts_late", "--driver", driver, "--bind", "127.0.0.1:0") as process:
        wait_until_held(process, None)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.25)
        process.send_signal(signal.SIGTERM)
        status, errors, took_s = end(process)
        assert (status, took_s < SOON_S) == (143, True)
        assert "in starts_late" in errors


@pytest.mark.parametrize("arguments", HELD.values(), ids=HELD)
def test_the_deadline_of_a_drain_holds_although_nobody_looks_at_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "socket"
    with running(tmp_path, *arguments, "--bind", f"unix:{path}", "--drain-timeout", "0.5") as process:
        client = wait_until_held(process, path)
        process.send_signal(signal.SIGTERM)
        status, errors, took_s = end(process)
        assert (status, took_s < SOON_S) == (0, True)
        assert '"GET /held HTTP/1.1"' in errors
        assert client is not None
        client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there a handler can be for one signal")
def test_a_loop_in_c_is_ended_by_the_second_signal(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(tmp_path, "held_apps:in_c", "--bind", f"unix:{path}") as process:
        client = wait_until_held(process, path)
        time.sleep(0.25)
        process.send_signal(signal.SIGINT)
        time.sleep(0.25)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        status, _, took_s = end(process)
        assert (status, took_s < SOON_S) == (-signal.SIGINT, True)
        assert client is not None
        client.close()


def test_sigquit_ends_at_once_and_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(tmp_path, "examples.hello:app", "--bind", f"unix:{path}") as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        process.send_signal(signal.SIGQUIT)
        status, errors, took_s = end(process)
        assert (status, errors, took_s < SOON_S) == (131, "", True)
        assert not path.exists()


def test_sighup_drains(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(tmp_path, "examples.hello:app", "--bind", f"unix:{path}") as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(get(b"/")[:-1])
            process.send_signal(signal.SIGHUP)
            time.sleep(0.25)
            client.sendall(b"\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert end(process)[0] == 0
        assert not path.exists()
