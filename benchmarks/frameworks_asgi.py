"""A large upload through ASGI, and what it costs in memory.

python benchmarks/frameworks_asgi.py [--megabytes N]

A server process runs an application that reads its request piece by piece and counts; the client sends that much at
once. Printed: how long it took, and the most memory that the server ever had resident, beside what it has after its
start. Linux only: the figure is VmHWM of /proc.
"""

import argparse
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PIECE = bytes(1 << 20)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Counts what it is sent."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


def peak_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def upload(address: tuple[str, int], megabytes: int) -> bytes:
    with socket.create_connection(address) as client:
        length = megabytes * len(PIECE)
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length)
        for _ in range(megabytes):
            client.sendall(PIECE)
        return b"".join(iter(lambda: client.recv(65536), b""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    megabytes = parser.parse_args().megabytes
    options = ["--bind", "127.0.0.1:0", "--max-body-bytes", str((megabytes + 1) << 20)]
    command = [sys.executable, "-m", "h1core", "frameworks_asgi:app", *options]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            assert "listening on" in line, line + server.stderr.read()
            before = peak_kib(server.pid)
            began_at = time.perf_counter()
            answer = upload(("127.0.0.1", int(line.rpartition(":")[2])), megabytes)
            took_s = time.perf_counter() - began_at
            assert answer.endswith(b"\r\n\r\n%d" % (megabytes * len(PIECE))), answer
            after = peak_kib(server.pid)
            print(f"{megabytes} MiB in {took_s:.1f} s, {megabytes / took_s:.0f} MiB/s")
            print(f"resident at most {after / 1024:.1f} MiB, {before / 1024:.1f} MiB before the upload")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
