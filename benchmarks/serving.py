"""Servers as processes: started on a port of the system's choosing, asked of /proc what they cost, ended."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE_S = 20.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """The processor time of the server and its children so far."""
        ticks = 0
        for pid in family(self.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime
        return ticks / CLOCK_TICKS

    def resident_bytes(self, what: str = "VmRSS") -> int:
        """What the server and its children have in memory, or had at most (VmHWM); pages they share count twice."""
        size = 0
        for pid in family(self.pid):
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            size += int(lines[what].split()[0]) * 1024
        return size


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def pinned(command: Sequence[str], which: int) -> list[str]:
    """The command, with all that it starts, on one processor only, where that can be had."""
    if shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "-c", str(sorted(os.sched_getaffinity(0))[which]), *command]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    arguments: Sequence[str], *, python: str = sys.executable, processor: int | None = None, **environment: str
) -> Iterator[Running]:
    """Python with these arguments, `{port}` in them filled in, from when it listens until the end of the `with`."""
    port = free_port()
    command = [python, *(argument.format(port=port) for argument in arguments)]
    # It gets a session of its own, so that what it starts ends with it.
    with subprocess.Popen(
        command if processor is None else pinned(command, processor),
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path(), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_for(port, process, command)
            yield Running(process.pid, port)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def path() -> str:
    """Where a server finds the applications of this folder, and h1core as this tree has it."""
    return os.pathsep.join((str(HERE), str(HERE.parent)))


def wait_for(port: int, process: "subprocess.Popen[bytes]", command: list[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"did not start: {' '.join(command)}")


def is_installed(names: Sequence[str], python: str = sys.executable) -> bool:
    """Whether an interpreter can import all of them."""
    imports = "; ".join(f"import {name}" for name in names)
    return subprocess.run([python, "-c", imports], capture_output=True, check=False).returncode == 0
