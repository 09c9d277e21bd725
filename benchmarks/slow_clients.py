"""The clients of `hostile.py slow`, each kind in a process of its own; they print JSON.

    slow_clients.py good PORT               asks again and again, until SIGTERM; "begun", then latencies in seconds
    slow_clients.py bad PORT --clients 1000 --timeout 3   ends when all of them are gone; what became of them

The good one is timed, so it does as little as it can between two looks at the clock.
"""

import argparse
import contextlib
import json
import resource
import select
import signal
import socket
import time
from collections import Counter
from typing import Any

KINDS = ("slow-head", "slow-body", "never-reading")
GET = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: 1000000\r\n\r\n"
DRIP_S = 0.5
"""Between two bytes of a slow client."""
ROUNDS = 250
"""Of drips in that time: real clients are not in step."""
PAUSE_S = 0.001
"""Between two requests of the good client."""


# The good one


def ask_again_and_again(port: int) -> list[float]:
    """Latencies of requests on one connection, until SIGTERM."""
    taken: list[float] = []
    is_over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: is_over.append(number))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(GET)
        whole = sock.recv(4096)  # few bytes, which loopback brings in one piece
        assert whole.startswith(b"HTTP/1.1 200"), whole
        print("begun", flush=True)
        while not is_over:
            before = time.perf_counter()
            sock.sendall(GET)
            size = 0
            while size < len(whole):
                data = sock.recv(4096)
                if not data:
                    raise ConnectionError("the server has closed the good client's connection")
                size += len(data)
            taken.append(time.perf_counter() - before)
            time.sleep(PAUSE_S)
    return taken


# The bad ones


class Bad:
    """A bad client, and when it should be gone."""

    def __init__(self, kind: str, port: int, timeout: float) -> None:
        self.kind = kind
        self.answer = b""
        self.gone_at = 0.0
        self.sock = socket.socket()
        if kind == "never-reading":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # As beyond loopback, whose segments of 64 KiB let the kernel take megabytes for each of these at once.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.send({"slow-head": b"GET / HTTP/1.1\r\n", "slow-body": POST, "never-reading": GET_LARGE}[kind])
        self.due_at = time.monotonic() + timeout
        self.mask = 0 if kind == "never-reading" else select.EPOLLIN  # errors and resets always show

    def drip(self) -> None:
        if self.kind != "never-reading" and not self.gone_at:
            with contextlib.suppress(OSError):
                self.sock.send(b"x")
                if self.kind == "slow-body":
                    self.due_at += 1 / 1024  # a byte earns its share of a second

    def look(self) -> None:
        """Something happened: the end, or an answer before it."""
        try:
            data = self.sock.recv(65536) if self.mask else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.answer += data
        if not data:
            self.gone_at = time.monotonic()
            self.sock.close()


def be_bad(port: int, kinds: list[str], clients: int, timeout: float) -> dict[str, Any]:
    """Let all of them come at once, and see them go."""
    poll = select.epoll()
    began_at = time.monotonic()
    bad = [Bad(kinds[number % len(kinds)], port, timeout) for number in range(clients)]
    connected_at = time.monotonic()
    by_fd = {client.sock.fileno(): client for client in bad}
    for fd, client in by_fd.items():
        poll.register(fd, client.mask)
    give_up_at = connected_at + 4 * timeout + 10
    turn = 0
    while by_fd and time.monotonic() < give_up_at:
        for fd, _ in poll.poll(DRIP_S / ROUNDS):
            client = by_fd[fd]
            client.look()
            if client.gone_at:
                del by_fd[fd]
        while turn < (time.monotonic() - connected_at) * ROUNDS / DRIP_S:
            for client in bad[turn % ROUNDS :: ROUNDS]:
                client.drip()
            turn += 1
    report: dict[str, Any] = {"connect_s": connected_at - began_at, "kinds": {}}
    for kind in kinds:
        ended = [client for client in bad if client.kind == kind and client.gone_at]
        report["kinds"][kind] = {
            "clients": sum(client.kind == kind for client in bad),
            "late_s": [client.gone_at - client.due_at for client in ended],
            "ends": Counter(client.answer[9:12].decode() or "reset" for client in ended),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=("good", "bad"))
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--timeout", type=float, default=3.0, help="head, body and write timeout of the server")
    options = parser.parse_args()
    if options.who == "good":
        print(json.dumps(ask_again_and_again(options.port)))
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(be_bad(options.port, options.kinds, options.clients, options.timeout)))


if __name__ == "__main__":
    main()
