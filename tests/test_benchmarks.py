"""The benchmarks run, and the page of figures says what they have kept. Nothing is asked of the figures."""

import http.client
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

HOSTILE = "--threads 0 --runs 1 --connections 2 --idle 20 --seconds 0.2 --turns 2 --clients 6 --timeout 0.2 --driver"
SMALL_RUNS = [
    ("core.py", "--rounds 1 --exchanges 5"),
    ("growth.py", "--rounds 1"),
    *(("hostile.py", f"{HOSTILE} {driver}") for driver in ("selectors", "asyncio", "trio")),
    ("same_as_peers.py", "waitress"),
    ("transfers.py", "--mebibytes 1"),
]
FLOORS = [
    *((name, "canned") for name in ("epoll", "pool", "trio-stream", "trio-direct", "trio-epoll")),
    *((name, mode) for name in ("epoll", "trio-direct", "trio-epoll") for mode in ("closing", "large")),
]


def run(program: str, arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCHMARKS / program), *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("program", "arguments"), SMALL_RUNS)
def test_a_benchmark_runs(program: str, arguments: str) -> None:
    done = run(program, arguments)
    assert done.stderr == ""
    assert done.stdout
    assert done.returncode == 0 or (program == "growth.py" and "GROWS" in done.stdout), done.stdout


@pytest.mark.skipif(shutil.which("wrk") is None, reason="servers.py needs wrk, which is not installed")
def test_servers_are_measured(tmp_path: Path) -> None:
    kept = tmp_path / "servers.json"
    done = run("servers.py", f"async --loads small --rounds 1 --seconds 1 --connections 4 --idle 0 --json {kept}")
    assert done.returncode == 0, done.stderr
    found = kept.read_text("utf-8")
    assert all(name in found for name in ("h1core asyncio", "h1core uvloop", "h1core trio"))


@pytest.mark.parametrize(("name", "mode"), FLOORS)
def test_a_floor_answers_again_and_again(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    running = importlib.import_module("serving").running
    with running(("floors.py", name, "{port}", mode)) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(3):
            client.request("GET", "/")
            answer = client.getresponse()
            assert (answer.status, len(answer.read())) == (200, 1 << 20 if mode == "large" else 14)
        client.close()


def test_the_page_has_the_figures_that_were_kept() -> None:
    done = run("report.py", "--check")
    assert done.returncode == 0, f"python benchmarks/report.py brings it up to date\n{done.stderr}"
