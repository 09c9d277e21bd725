"""What a large download through wsgi.file_wrapper costs in memory and time: h1core beside waitress.

python benchmarks/frameworks.py [--mebibytes N]

Each server is a process of its own, on loopback, with four threads; a client reads the file as fast as it comes. The
memory is the most that the server ever had resident, by the kernel's account, its interpreter and imports included.
"""

import argparse
import contextlib
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
PATIENCE_S = 20.0

SERVERS = {
    "h1core": ("-m", "h1core", "frameworks:download", "--bind", "127.0.0.1:{port}"),
    "h1core inline": ("-m", "h1core", "frameworks:download", "--bind", "127.0.0.1:{port}", "--threads", "0"),
    "waitress": ("-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", "frameworks:download"),
}


def download(environ: dict[str, Any], start_response: Any) -> Any:
    """The application that is served."""
    file = open(os.environ["FILE"], "rb")  # noqa: SIM115 - the server closes it
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](file, 64 * 1024)


@contextlib.contextmanager
def running(arguments: tuple[str, ...], file: Path) -> Iterator[tuple[int, int]]:
    """A server process: its number and its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, *(argument.format(port=port) for argument in arguments)]
    environment = {**os.environ, "FILE": str(file)}
    here = Path(__file__).parent
    process = subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if time.monotonic() > give_up_at or process.poll() is not None:
                raise SystemExit(f"{command} did not start")
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def resident_mib(pid: int) -> float:
    """The most a process had in memory, anonymous pages and mapped files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def read_all(port: int) -> int:
    """Ask for the file; how many bytes came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    response = connection.getresponse()
    buffer = bytearray(MIB)
    count = 0
    while got := response.readinto(buffer):
        count += got
    connection.close()
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=1024)
    size = parser.parse_args().mebibytes * MIB
    print(f"| server | seconds for {size // MIB} MiB | resident at most |\n| --- | --- | --- |")
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        for name, arguments in SERVERS.items():
            if importlib.util.find_spec(arguments[1]) is None:
                print(f"| {name} | not installed | |")
                continue
            with running(arguments, Path(file.name)) as (pid, port):
                before = resident_mib(pid)
                began_at = time.perf_counter()
                if read_all(port) != size:
                    raise SystemExit(f"{name} has sent something else")
                took_s = time.perf_counter() - began_at
                print(f"| {name} | {took_s:.2f} | {resident_mib(pid):.1f} MiB, {before:.1f} before |")


if __name__ == "__main__":
    main()
