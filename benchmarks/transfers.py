"""What a gigabyte costs in time and memory: a download through wsgi.file_wrapper, an upload through ASGI.

python benchmarks/transfers.py [download|upload]... [--mebibytes N] [--peers-python PYTHON]

download    h1core with four threads and with none, waitress; a client reads as fast as it comes
upload      h1core on asyncio, uvloop and trio, and hypercorn on trio; the application reads piece by piece, and counts

The memory is the most that the server ever had resident, by the kernel's account (VmHWM), its interpreter and imports
included, and the same before the transfer.
"""

import argparse
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from serving import is_installed, running

MIB = 1024 * 1024


def download(environ: dict[str, Any], start_response: Any) -> Any:
    """A WSGI application: the file that the environment names."""
    file = open(os.environ["FILE"], "rb")  # noqa: SIM115 - the server closes it
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](file, 64 * 1024)


async def upload(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application: how many bytes came."""
    if scope["type"] != "http":
        raise NotImplementedError("no lifespan")
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


def read_all(port: int, size: int) -> int:
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


def send_all(port: int, size: int) -> int:
    """Send that much; how many bytes the application says it was."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    piece = bytes(MIB)
    connection.request("POST", "/", (piece for _ in range(size // MIB)), {"Content-Length": str(size)})
    answer = connection.getresponse().read()
    connection.close()
    return int(answer)


class Transfer(NamedTuple):
    move: Callable[[int, int], int]
    servers: dict[str, tuple[str, ...]]
    """What Python runs; the module comes second."""


def h1core(app: str, *options: str) -> tuple[str, ...]:
    return ("-m", "h1core", app, "--bind", "127.0.0.1:{port}", *options)


ANY_SIZE = ("--max-body-bytes", str(1 << 40))

TRANSFERS = {
    "download": Transfer(
        read_all,
        {
            "h1core": h1core("transfers:download"),
            "h1core inline": h1core("transfers:download", "--threads", "0"),
            "waitress": ("-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", "transfers:download"),
        },
    ),
    "upload": Transfer(
        send_all,
        {
            "h1core asyncio": h1core("transfers:upload", *ANY_SIZE, "--driver", "asyncio", "--loop", "asyncio"),
            "h1core uvloop": h1core("transfers:upload", *ANY_SIZE, "--driver", "asyncio", "--loop", "uvloop"),
            "h1core trio": h1core("transfers:upload", *ANY_SIZE, "--driver", "trio"),
            "hypercorn": (
                "-m",
                "hypercorn",
                "transfers:upload",
                "--bind",
                "127.0.0.1:{port}",
                "--worker-class",
                "trio",
            ),
        },
    ),
}


def measure(transfer: Transfer, size: int, peers_python: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        for name, arguments in transfer.servers.items():
            python = sys.executable if name.startswith("h1core") else peers_python
            if not is_installed([arguments[1], *(loop for loop in ("uvloop", "trio") if loop in arguments)], python):
                print(f"| {name} | not installed | |")
                continue
            with running(arguments, python=python, FILE=file.name) as server:
                before = server.resident_bytes("VmHWM") / MIB
                began_at = time.perf_counter()
                if transfer.move(server.port, size) != size:
                    raise SystemExit(f"{name} has moved something else")
                took_s = time.perf_counter() - began_at
                print(
                    f"| {name} | {took_s:.2f} | {server.resident_bytes('VmHWM') / MIB:.1f} MiB, {before:.1f} before |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transfers", nargs="*", metavar="TRANSFER", help=f"{', '.join(TRANSFERS)} (default both)")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers")
    options = parser.parse_args()
    for name in options.transfers or TRANSFERS:
        print(f"| {name} | seconds for {options.mebibytes} MiB | resident at most |\n| --- | --- | --- |")
        measure(TRANSFERS[name], options.mebibytes * MIB, options.peers_python)
        print()


if __name__ == "__main__":
    main()
