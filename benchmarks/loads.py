"""What wrk sends, and what one turn of it finds."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import core
from serving import HERE, Running, pinned

SMALL = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
COLD = next(core.cold_requests()).replace(b"100000", b"\0")  # load.lua puts a number there
DEPTH = 16


@dataclass(frozen=True)
class Load:
    """What is sent again and again on each connection."""

    name: str
    what: str
    request: bytes
    answer: str = "canned"
    """What a floor must do for it: a mode of floors.py."""


LOADS = {
    load.name: load
    for load in (
        Load("small", "GET with Host", SMALL),
        Load("browser", "GET with the 17 fields of a navigation by Chrome", core.BROWSER),
        Load("cold", "the same, but no line ever comes twice", COLD),
        Load("pipelined", f"{DEPTH} small requests in one write", SMALL * DEPTH),
        Load("post", "POST of 1 KiB, which the application reads", core.LENGTH),
        Load("closing", "a connection for each request", SMALL[:-2] + b"Connection: close\r\n\r\n", "closing"),
        Load("large", "GET of 1 MiB", SMALL.replace(b"/", b"/large", 1), "large"),
    )
}


@dataclass(frozen=True)
class Turn:
    """What came of one run of wrk."""

    rate: float
    p99_ms: float
    cpu_us: float
    """The server's processor time for one request."""
    errors: str


@contextmanager
def request_file(load: Load) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(load.request)
        file.flush()
        yield file.name


def run(server: Running, load: Load, seconds: int, connections: int) -> Turn:
    """One run of wrk, on the last processor, against a server."""
    script = str(Path(HERE, "load.lua"))
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", script]
    with request_file(load) as name:
        before = server.cpu_s()
        result = subprocess.run(
            pinned([*command, f"http://127.0.0.1:{server.port}/"], -1),
            env={**os.environ, "REQUEST": name},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            return Turn(0.0, 0.0, 0.0, result.stderr.strip() or f"wrk ended with {result.returncode}")
        cpu_s = server.cpu_s() - before
    said = json.loads(result.stdout.strip().rpartition("\n")[2])
    count = said["requests"]
    kinds = ("connect", "read", "write", "timeout", "status")
    errors = ", ".join(f"{said[kind]} {kind}" for kind in kinds if said[kind])
    return Turn(count / said["us"] * 1e6, said["p99_us"] / 1e3, cpu_s / max(count, 1) * 1e6, errors)
