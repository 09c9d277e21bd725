"""Requests a second of real servers under wrk, one after the other, again and again, beside floors and peers.

python benchmarks/servers.py [GROUP]... [--rounds N] [--seconds S] [--connections N] [--peers-python PYTHON]

Each server runs alone, on one processor of its own where the machine has two, with wrk on the other. In each round
every server of the group has its turn, so that a machine that slows down slows all of them; the figures are medians.
Only ratios within one table mean something. A peer that is not installed is named and left out. wrk must be there.

Servers are started here, on a port of the system's choosing, and ended here.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE_S = 15.0
H1CORE = ("-m", "h1core")
ROOMY = ("--max-connections", "5000", "--max-queued-requests", "5000", "--max-requests-per-connection", "1000000000")


@dataclass(frozen=True)
class Candidate:
    """A server: its name, the arguments to Python, and what must be importable for it."""

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    is_floor: bool = False

    @property
    def is_peer(self) -> bool:
        return bool(self.needs)


def floor(name: str) -> Candidate:
    return Candidate(f"floor: {name}", (str(HERE / "floors.py"), name, "{port}"), is_floor=True)


def ours(name: str, app: str, *options: str) -> Candidate:
    return Candidate(f"h1core {name}", (*H1CORE, app, "--bind", "127.0.0.1:{port}", *ROOMY, *options))


def uvicorn(http: str) -> Candidate:
    arguments = ("-m", "uvicorn", "apps:asgi", "--port", "{port}", "--loop", "uvloop", "--http", http)
    return Candidate(f"uvicorn uvloop {http}", (*arguments, "--no-access-log"), ("uvicorn", "uvloop", http))


def granian(interface: str) -> Candidate:
    arguments = ("-m", "granian", f"apps:{interface}", "--interface", interface, "--port", "{port}", "--workers", "1")
    return Candidate(f"granian {interface}", (*arguments, "--no-access-log", "--log-level", "error"), ("granian",))


HYPERCORN = Candidate(
    "hypercorn trio",
    ("-m", "hypercorn", "apps:asgi", "--bind", "127.0.0.1:{port}", "--worker-class", "trio"),
    ("hypercorn", "trio"),
)
WAITRESS = Candidate(
    "waitress", ("-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", "apps:wsgi"), ("waitress",)
)
CHEROOT = Candidate(
    "cheroot", ("-m", "cheroot", "--bind", "127.0.0.1:{port}", "--threads", "4", "apps:wsgi"), ("cheroot",)
)
GUNICORN = Candidate(
    "gunicorn gthread",
    ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "4", "--log-level", "error", "apps:wsgi"),
    ("gunicorn",),
)

GROUPS: dict[str, tuple[Candidate, ...]] = {
    "handlers": (
        floor("epoll"),
        floor("pool"),
        ours("inline", "handlers:handler"),
        ours("4 threads", "handlers:handler", "--threads", "4"),
    ),
    "trio": (
        floor("trio-stream"),
        floor("trio-direct"),
        ours("trio", "handlers:async_handler"),
        HYPERCORN,
    ),
    "wsgi": (
        floor("epoll"),
        ours("WSGI inline", "apps:wsgi", "--threads", "0"),
        ours("WSGI 4 threads", "apps:wsgi"),
        WAITRESS,
        CHEROOT,
        GUNICORN,
        granian("wsgi"),
    ),
    "asgi": (
        floor("trio-direct"),
        ours("ASGI trio", "apps:asgi"),
        HYPERCORN,
        uvicorn("httptools"),
        uvicorn("zttp"),
        granian("asgi"),
    ),
}


def pinned(command: list[str], which: int) -> list[str]:
    """The command on one processor only, where that can be had."""
    if shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(sorted(os.sched_getaffinity(0))[which]), *command]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(candidate: Candidate, python: str) -> Iterator[int]:
    """A server process that listens, and its port."""
    port = free_port()
    arguments = [argument.format(port=port) for argument in candidate.arguments]
    with subprocess.Popen(
        pinned([python, *arguments], 0),
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(port, process, candidate)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(port: int, process: "subprocess.Popen[bytes]", candidate: Candidate) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{candidate.name} did not start: {' '.join(candidate.arguments)}")


def wrk(port: int, options: argparse.Namespace) -> tuple[float, str]:
    """Requests a second, and what went wrong."""
    command = [
        "wrk",
        "-t",
        "1",
        "-c",
        str(options.connections),
        "-d",
        f"{options.seconds}s",
        f"http://127.0.0.1:{port}/",
    ]
    result = subprocess.run(pinned(command, -1), capture_output=True, text=True, check=True)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", result.stdout)
    wrong = re.findall(r"(?:Non-2xx.*|Socket errors.*)", result.stdout)
    return float(rate[1]) if rate else 0.0, "; ".join(wrong)


def is_installed(candidate: Candidate, python: str) -> bool:
    imports = "; ".join(f"import {name}" for name in candidate.needs)
    return subprocess.run([python, "-c", imports], capture_output=True, check=False).returncode == 0


def measure(group: str, options: argparse.Namespace) -> None:
    candidates = []
    for candidate in GROUPS[group]:
        if candidate.is_peer and not is_installed(candidate, options.peers_python):
            print(f"{candidate.name} is left out: {', '.join(candidate.needs)} must be installed")
        else:
            candidates.append(candidate)
    rates: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    wrong: dict[str, str] = {}
    for _ in range(options.rounds):
        for candidate in candidates:
            with running(candidate, options.peers_python if candidate.is_peer else sys.executable) as port:
                rate, errors = wrk(port, options)
            rates[candidate.name].append(rate)
            wrong[candidate.name] = wrong.get(candidate.name, "") or errors
    medians = {name: statistics.median(values) for name, values in rates.items()}
    floors = [medians[candidate.name] for candidate in candidates if candidate.is_floor]
    of_ours = [name for name in medians if name.startswith("h1core")]
    print(f"\n{group}: {options.connections} connections, {options.rounds} rounds of {options.seconds} s")
    print(f"{'server':<24}{'requests/s':>12}{'of floor':>10}  " + "  ".join(f"{name} is ×" for name in of_ours))
    for name, median in medians.items():
        ratios = "  ".join(f"{medians[our] / median:>{len(our) + 5}.2f}" for our in of_ours)
        print(f"{name:<24}{median:>12.0f}{median / max(floors):>10.2f}  {ratios}  {wrong[name]}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (default all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    if unknown := set(options.groups) - GROUPS.keys():
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    for group in options.groups or GROUPS:
        measure(group, options)


if __name__ == "__main__":
    main()
