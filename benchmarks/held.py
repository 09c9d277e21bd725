"""`hostile.py threads` and `hostile.py streams`: who holds the workers, and who holds up the end. Linux only."""

import argparse
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
QUEUE_TIMEOUT_S = 2.0
READ_EVERY_S, READ_BYTES = 0.25, 1024
"""4 KB a second."""
EXIT_S = 6.0


class Held:
    """A server process that runs an application of held_apps.py."""

    def __init__(self, app: str, *options: str) -> None:
        command = [sys.executable, "-m", "h1core", f"held_apps:{app}", "--bind", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if "listening on" not in line:
            raise SystemExit(f"the server did not start: {line}{self.process.stderr.read()}")
        self.address = ("127.0.0.1", int(line.rpartition(":")[2].strip()))
        self.errors: list[str] = []
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ask(self, path: str, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(60)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self.address)
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        return sock

    def resources(self) -> dict[str, int]:
        """Threads, descriptors and temporary files of the process, and their bytes."""
        base = Path(f"/proc/{self.process.pid}")
        found = {"threads": len(os.listdir(base / "task")), "descriptors": 0, "files": 0, "disk bytes": 0}
        for entry in (base / "fd").iterdir():
            try:
                found["descriptors"] += 1
                if "(deleted)" in os.readlink(entry):
                    found["files"] += 1
                    found["disk bytes"] += entry.stat().st_size
            except FileNotFoundError:
                found["descriptors"] -= 1
        return found

    def resident_bytes(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class SlowReaders:
    """Clients that take a large response at 4 KB a second, in a thread."""

    def __init__(self, server: Held, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._socks = [server.ask("/large", receive_buffer=4096) for _ in range(count)]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for sock in self._socks:
            sock.setblocking(False)
        while not self._is_over.wait(READ_EVERY_S):
            for sock in self._socks:
                try:
                    sock.recv(READ_BYTES)
                except OSError:
                    continue  # nothing yet, or it was ended for being slow

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        for sock in self._socks:
            sock.close()


def threads(options: argparse.Namespace) -> bool:
    """See that slow, silent and departed clients hold no worker for others; return whether all of it held."""
    with Held("wsgi", "--threads", "4", "--queue-timeout", str(QUEUE_TIMEOUT_S)) as server:
        probe(server)
        before = server.resources()
        readers = SlowReaders(server, options.readers)
        for number in range(options.events):
            sock = server.ask("/quiet" if number % 2 else "/blocked")
            threading.Thread(target=leave_after_first, args=(sock,)).start()
        sleepers: list[socket.socket] = []
        took: list[tuple[float, int]] = []
        most: Counter[str] = Counter()
        began_at = time.monotonic()
        while time.monotonic() < began_at + options.seconds:
            if not sleepers and time.monotonic() > began_at + options.seconds / 4:  # when the others have their workers
                sleepers = [server.ask("/sleep") for _ in range(options.sleepers)]
            took.append(probe(server))
            now = server.resources() | {"resident bytes": server.resident_bytes()}
            most |= Counter(now)
            time.sleep(0.2)
        readers.close()
        for sock in sleepers:
            sock.close()
        left = wait_until_as_before(server, before)
        free_at = probe(server)
    return report_threads(took, most, before, left, free_at)


def leave_after_first(sock: socket.socket) -> None:
    """Read the first event, or the refusal, and leave."""
    try:
        sock.recv(4096)
    except OSError:
        pass
    sock.close()


def probe(server: Held) -> tuple[float, int]:
    """Ask for something that is fast; how many seconds that took, and the status."""
    began_at = time.monotonic()
    with server.ask("/fast") as sock:
        status = int(sock.recv(4096).split(b" ", 2)[1])
    return time.monotonic() - began_at, status


def wait_until_as_before(server: Held, before: dict[str, int]) -> dict[str, int]:
    """Wait until the sleepers are over, and what was used is given back; what is used then."""
    for _ in range(700):
        now = server.resources()
        if all(now[what] <= before[what] for what in before):
            break
        time.sleep(0.1)
    return now


def report_threads(
    took: list[tuple[float, int]],
    most: Counter[str],
    before: dict[str, int],
    left: dict[str, int],
    free: tuple[float, int],
) -> bool:
    worst = max(seconds for seconds, _ in took)
    statuses = Counter(status for _, status in took)
    answered = sorted(seconds for seconds, status in took if status == 200)
    print(f"\nthreads: {len(took)} requests for /fast, {dict(statuses)}")
    print(f"  worst answer {worst:.2f} s ({worst / QUEUE_TIMEOUT_S:.2f} of queue_timeout)")
    if answered:
        print(f"  of the 200s: median {1000 * answered[len(answered) // 2]:.1f} ms")
    print(f"  afterwards: {free[1]} in {1000 * free[0]:.1f} ms")
    print(f"  at most: {dict(most)}")
    print(f"  before {before}, after all had gone {left}")
    is_clean = all(left[what] <= before[what] for what in before)
    return worst <= 1.1 * QUEUE_TIMEOUT_S and is_clean and free[1] == 200


# streams

STREAMS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "selectors, threads": ("wsgi", ("--threads", "50"), ("/ticks", "/blocked", "/quiet")),
    "selectors, inline": ("inline", (), ("/ticks",)),
    "asyncio": ("asgi", ("--driver", "asyncio"), ("/ticks", "/awaits", "/poll")),
    "trio": ("asgi", ("--driver", "trio"), ("/ticks", "/awaits", "/poll")),
}
ENDED_BY_APPLICATION = {"asgi": ("/ticks", "/poll")}


def streams(options: argparse.Namespace) -> bool:
    """See that open streams do not hold up a drain, and how each of them ends; return whether all of it held."""
    holds = True
    for host, (app, arguments, paths) in STREAMS.items():
        seconds: list[float] = []
        ends: Counter[str] = Counter()
        for _ in range(options.runs):
            took_s, status, seen = end_with_open_streams(app, arguments, paths, options.events)
            seconds.append(took_s)
            ends.update(f"{path} {end}" for path, end in seen)
            for path, end in seen:
                must_be_whole = path in ENDED_BY_APPLICATION.get(app, ())
                holds = holds and end != "reset" and (end == "whole" or not must_be_whole)
            holds = holds and status == 0 and took_s <= EXIT_S
        print(f"\nstreams, {host}: exit after {min(seconds):.2f} to {max(seconds):.2f} s; {dict(ends)}")
    return holds


def end_with_open_streams(
    app: str, arguments: tuple[str, ...], paths: tuple[str, ...], clients: int
) -> tuple[float, int, list[tuple[str, str]]]:
    """SIGTERM with open streams: seconds to the exit, its status, and how each stream ended."""
    seen: list[tuple[str, str]] = []
    with Held(app, *arguments) as server:
        socks = [(path, server.ask(path)) for path in (paths[number % len(paths)] for number in range(clients))]
        readers = [threading.Thread(target=read_to_end, args=(path, sock, seen)) for path, sock in socks]
        for reader in readers:
            reader.start()
        time.sleep(0.5)
        began_at = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(60)
        took_s = time.monotonic() - began_at
        for reader in readers:
            reader.join()
    return took_s, status, seen


def read_to_end(path: str, sock: socket.socket, seen: list[tuple[str, str]]) -> None:
    """Read a stream, and note whether it ended whole, truncated or by a reset."""
    tail = b""
    end = "truncated"
    try:
        with sock:
            while data := sock.recv(65536):
                tail = (tail + data)[-200:]
    except ConnectionResetError:
        end = "reset"
    if end != "reset" and (tail.endswith(b"0\r\n\r\n") or b"content-length" in tail.lower()):
        end = "whole"
    seen.append((path, end))


def add_options(add: Any) -> None:
    """Add the options of both to a parser."""
    add("--readers", type=int, default=200, help="threads: clients that read 4 KB/s")
    add("--events", type=int, default=50, help="threads, streams: clients that wait for events")
    add("--sleepers", type=int, default=20, help="threads: requests that sleep for 30 s")
