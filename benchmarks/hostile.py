"""A real server under hostile and heavy load: what holds, and what it costs.

python benchmarks/hostile.py [slow|drain|memory|idle]... [--driver selectors|trio] [--threads N [N]] [options]

slow    a third each of slow-head, slow-body and never-reading clients at once, from one process. A good client on one
        connection has its latency taken before, during and after; each bad client must be gone by its deadline. The row
        "at another" has the same bad clients at another server: what they cost by the processor they take.
drain   SIGTERM under load, again and again: requests that failed, exit status, time to the exit.
memory  resident bytes of an idle keep-alive connection that has made one request: many against few.
idle    32 busy connections with and without thousands of idle ones beside them: requests a second, and the server's own
        processor time for a request.

Everything runs on loopback, against servers that are started here (`python -m h1core hostile:app`) and ended here.
Linux only: it reads /proc and TCP_INFO.

How `drain` counts. On each connection there is one request at a time, and it is complete when it is written. It is
- *answered*, when a whole response came, also one that says `Connection: close`;
- *failed*, when a response broke off, was a 5xx, or the connection was reset after it had served before;
- *crossed*, when the server's FIN was here before the request left: nobody's fault, RFC 9112 §9.3.1, to be retried;
- *overtaken*, when it had reached the server's socket and the server sent its FIN instead of an answer. To the client
  this looks the same as crossed, and it may retry; but the server could have read it.
- *unaccepted*, when it was sent on a new connection, and that was reset before any answer: not accepted.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
GET = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
KINDS = ("slow-head", "slow-body", "never-reading")
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: 1000000\r\n\r\n"
LARGE = bytes(16 * 1024 * 1024)
CLOSE_WAIT = 8  # tcpi_state: the peer's FIN has come
DRIP_S = 0.5  # between two bytes of a slow client


def app(request: Any) -> Any:
    """What is served: a small page, or 16 MiB."""
    from h1core import Response

    body = LARGE if request.target == b"/large" else b"Hello, world!\n"
    return Response(200, [(b"content-type", b"text/plain")], body)


async def async_app(request: Any) -> Any:
    """The same for trio."""
    return app(request)


# The server


class Server:
    """A server process, ended at the end of the `with`."""

    driver = "selectors"

    def __init__(self, threads: int, *options: str) -> None:
        name = "async_app" if self.driver == "trio" and not threads else "app"
        command = [sys.executable, "-m", "h1core", f"{HERE.stem}:{name}", "--driver", self.driver]
        command += ["--bind", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads), *options], cwd=HERE.parent, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if "listening on" not in line:
            raise SystemExit(f"the server did not start: {line}{self.process.stderr.read()}")
        self.address = ("127.0.0.1", int(line.rpartition(":")[2].strip().rstrip("/")))

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(sock: socket.socket) -> None:
    """One request and its whole answer."""
    sock.sendall(GET)
    answer = b""
    while not is_whole(answer):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the server has closed")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered {answer[:40]!r}")


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


def idle_connections(server: Server, count: int) -> list[socket.socket]:
    """Open connections, each with one request behind it."""
    socks = []
    for _ in range(count):
        sock = server.connect()
        ask(sock)
        socks.append(sock)
    return socks


def table(title: str, columns: str, rows: list[list[str]]) -> None:
    names = columns.split("|")
    widths = [max(len(row[n]) for row in [names, *rows]) for n in range(len(names))]
    print(f"\n{title}")
    for row in [names, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    sys.stdout.flush()


# slow


class Bad:
    """A bad client, and when it should be gone."""

    def __init__(self, kind: str, address: tuple[str, int], timeout: float) -> None:
        self.kind = kind
        self.timeout = timeout
        self.sent = 0
        self.answer = b""
        self.gone_at = 0.0
        self.sock = socket.socket()
        if kind == "never-reading":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # As beyond loopback, whose segments of 64 KiB let the kernel take megabytes for each of these at once.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.sock.send({"slow-head": b"GET / HTTP/1.1\r\n", "slow-body": POST, "never-reading": GET_LARGE}[kind])
        self.due_at = time.monotonic() + timeout
        self.mask = 0 if kind == "never-reading" else select.EPOLLIN  # errors and resets always show

    def drip(self) -> None:
        if self.kind != "never-reading" and not self.gone_at:
            with contextlib.suppress(OSError):
                self.sock.send(b"x")
                self.sent += 1
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


def run_bad_clients(port: int, kinds: list[str], clients: int, timeout: float) -> None:
    """In a process of its own: print what became of the clients."""
    poll = select.epoll()
    began_at = time.monotonic()
    bad = [Bad(kinds[number % len(kinds)], ("127.0.0.1", port), timeout) for number in range(clients)]
    connected_at = time.monotonic()
    by_fd = {client.sock.fileno(): client for client in bad}
    for fd, client in by_fd.items():
        poll.register(fd, client.mask)
    give_up_at = connected_at + 4 * timeout + 10
    rounds = 250  # of drips in a DRIP_S: real clients are not in step
    turn = 0
    while by_fd and time.monotonic() < give_up_at:
        for fd, _ in poll.poll(DRIP_S / rounds):
            client = by_fd[fd]
            client.look()
            if client.gone_at:
                del by_fd[fd]
        while turn < (time.monotonic() - connected_at) * rounds / DRIP_S:
            for client in bad[turn % rounds :: rounds]:
                client.drip()
            turn += 1
    report: dict[str, Any] = {"connect_s": connected_at - began_at}
    for kind in kinds:
        ended = [client for client in bad if client.kind == kind and client.gone_at]
        late = [client.gone_at - client.due_at for client in ended]
        statuses = Counter(client.answer[9:12].decode() or "reset" for client in ended)
        report[kind] = {
            "clients": sum(client.kind == kind for client in bad),
            "gone": len(ended),
            "early_s": min(late, default=0),
            "late_s": max(late, default=0),
            "ends": ", ".join(f"{count} × {status}" for status, count in statuses.items()),
        }
    print(json.dumps(report))


def latencies(server: Server, until: float | None = None, process: subprocess.Popen[str] | None = None) -> list[float]:
    """A good client asks again and again, with a millisecond between; until an instant, or the end of a process."""
    taken = []
    with server.connect() as sock:
        while time.monotonic() < until if until is not None else process is not None and process.poll() is None:
            before = time.perf_counter()
            ask(sock)
            taken.append(time.perf_counter() - before)
            time.sleep(0.001)
    return taken


def beside_bad_clients(
    server: Server, victim: Server, options: argparse.Namespace
) -> tuple[list[float], dict[str, Any]]:
    """The good client's latencies while bad clients are at a victim, and what became of those."""
    command = [sys.executable, str(HERE), "--bad-clients-of", str(victim.address[1])]
    command += ["--clients", str(options.clients), "--timeout", str(options.timeout), "--kinds", *options.kinds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bad:
        taken = latencies(server, process=bad)
        return taken, json.loads(bad.communicate()[0])


def slow(options: argparse.Namespace) -> None:
    timeout = str(options.timeout)
    for threads in options.threads:
        short = [f"--{name}-timeout={timeout}" for name in ("head", "body", "write")]
        short += [f"--max-connections={options.clients + 1000}", "--max-requests-per-connection=1000000"]
        with Server(threads, *short) as server, Server(threads, *short) as another:
            latencies(server, time.monotonic() + 0.5)
            taken = {"before": latencies(server, time.monotonic() + options.seconds)}
            elsewhere, _ = beside_bad_clients(server, another, options)
            during, report = beside_bad_clients(server, server, options)
            taken |= {"at another": elsewhere, "during": during}
            taken["after"] = latencies(server, time.monotonic() + options.seconds)
        connect_s = report.pop("connect_s")
        table(
            f"slow: {options.clients} bad clients, all connected in {connect_s:.2f} s; "
            f"{Server.driver}, threads {threads}; timeouts {timeout} s",
            "bad clients|number|gone|earliest after deadline, s|latest after deadline, s|how",
            [
                [
                    kind,
                    str(of["clients"]),
                    str(of["gone"]),
                    f"{of['early_s']:+.3f}",
                    f"{of['late_s']:+.3f}",
                    of["ends"],
                ]
                for kind, of in report.items()
            ],
        )
        rows = []
        for name, values in taken.items():
            p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
            rows.append([name, str(len(values)), *(f"{1e3 * value:.3f}" for value in (p50, p99, max(values)))])
            rows[-1].append(f"{p99 / quantile(taken['before'], 0.99):.2f}")
        table("      and one good client", "bad clients|requests|p50 ms|p99 ms|max ms|p99 / before", rows)


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


# drain


class Busy:
    """A keep-alive connection with a request always under way."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.answers = 0
        self.answer = b""
        self.crossed = False

    def ask(self) -> None:
        """Write a request, and note whether the server's FIN had come before. Raises OSError."""
        self.answer = b""
        try:
            self.sock.send(GET)
        finally:
            self.crossed = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT

    def end(self, error: OSError | None) -> str:
        """What to call the request under way, now that the connection has ended."""
        if self.answer:
            return "failed"
        if self.crossed:
            return "crossed"
        if not self.answers:
            return "unaccepted"
        return "overtaken" if error is None else "failed"


class Load:
    """As many busy connections as asked for, on one selector."""

    def __init__(self, address: tuple[str, int], connections: int) -> None:
        self.address = address
        self.counts: Counter[str] = Counter()
        self.selector = selectors.DefaultSelector()
        self.open = 0
        self.why: Counter[str] = Counter()
        for _ in range(connections):
            self.connect()

    def connect(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(self.address)
        except OSError:
            sock.close()
            self.counts["not connected"] += 1
            return
        sock.setblocking(False)
        busy = Busy(sock)
        self.selector.register(sock, selectors.EVENT_READ, busy)
        self.open += 1
        self.begin(busy)

    def begin(self, busy: Busy) -> None:
        try:
            busy.ask()
        except OSError as error:
            self.end(busy, error)

    def end(self, busy: Busy, error: OSError | None) -> None:
        kind = busy.end(error)
        self.counts[kind] += 1
        if kind == "failed":
            self.why[f"{error!r} after {busy.answers} answers, {busy.answer[:30]!r}"] += 1
        self.drop(busy)

    def drop(self, busy: Busy) -> None:
        self.selector.unregister(busy.sock)
        busy.sock.close()
        self.open -= 1

    def turn(self, reconnect: bool) -> None:
        """Take what has come, and ask again."""
        for key, _ in self.selector.select(0.05):
            busy = key.data
            try:
                data = busy.sock.recv(65536)
            except OSError as error:
                self.end(busy, error)
                continue
            if not data:
                self.end(busy, None)
                continue
            busy.answer += data
            if not is_whole(busy.answer):
                continue
            busy.answers += 1
            if busy.answer.startswith(b"HTTP/1.1 200"):
                self.counts["answered"] += 1
            else:
                self.counts["failed"] += 1
                self.why[repr(busy.answer[:40])] += 1
            if b"\r\nconnection: close\r\n" in busy.answer.lower():
                self.drop(busy)
                if reconnect:
                    self.connect()
            else:
                self.begin(busy)

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            self.drop(key.data)
        self.selector.close()


DRAIN_KINDS = ("answered", "failed", "crossed", "overtaken", "unaccepted")


def drain(options: argparse.Namespace) -> None:
    for threads in options.threads:
        rows = []
        total: Counter[str] = Counter()
        exits: list[int] = []
        times = []
        why: Counter[str] = Counter()
        for number in range(options.runs):
            with Server(threads) as server:
                load = Load(server.address, options.connections)
                until = time.monotonic() + 0.3 + 0.017 * number  # never at the same moment
                while time.monotonic() < until:
                    load.turn(reconnect=True)
                server.process.send_signal(signal.SIGTERM)
                began_at = time.monotonic()
                while load.open and time.monotonic() < began_at + 35:
                    load.turn(reconnect=False)
                try:
                    exits.append(server.process.wait(35))
                except subprocess.TimeoutExpired:
                    exits.append(-1)
                times.append(time.monotonic() - began_at)
                load.close()
            total += load.counts
            why += load.why
        rows.append(
            [
                *(str(total[kind]) for kind in DRAIN_KINDS),
                ", ".join(f"{count} × {status}" for status, count in Counter(exits).items()),
                f"{max(times):.3f}",
            ]
        )
        table(
            f"drain: SIGTERM {options.runs} times under {options.connections} busy connections; threads {threads}",
            "|".join([*DRAIN_KINDS, "exit status", "slowest exit s"]),
            rows,
        )
        for reason, count in why.items():
            print(f"failed {count} × {reason}")


# memory


def memory(options: argparse.Namespace) -> None:
    rows = []
    few = min(100, options.idle // 2)
    for threads in options.threads:
        with keeping_server(threads, options) as server:
            ask_once = idle_connections(server, few)
            time.sleep(0.3)
            at_few = server.resident_bytes()
            ask_once += idle_connections(server, options.idle - few)
            time.sleep(0.3)
            at_many = server.resident_bytes()
            each = (at_many - at_few) / (options.idle - few)
            for sock in ask_once:
                sock.close()
            time.sleep(1)
            left = server.resident_bytes()
        rows.append(
            [str(threads), *(f"{size / 2**20:.1f}" for size in (at_few, at_many)), f"{each:.0f}", f"{left / 2**20:.1f}"]
        )
    table(
        "memory: resident size of the server",
        f"threads|{few} idle, MiB|{options.idle} idle, MiB|bytes a connection|all gone, MiB",
        rows,
    )


def keeping_server(threads: int, options: argparse.Namespace) -> Server:
    """One that neither closes idle connections nor counts requests."""
    return Server(
        threads,
        *("--max-connections", str(options.idle + 1000), "--keepalive-timeout", "3600"),
        *("--max-requests-per-connection", "1000000000"),
    )


# idle


def throughput(server: Server, load: Load, seconds: float) -> tuple[float, float]:
    """Requests a second, and the server's processor time for each in microseconds."""
    before, cpu = load.counts["answered"], server.cpu_s()
    began_at = time.monotonic()
    while time.monotonic() < began_at + seconds:
        load.turn(reconnect=True)
    answered = load.counts["answered"] - before
    return answered / (time.monotonic() - began_at), 1e6 * (server.cpu_s() - cpu) / answered


def idle(options: argparse.Namespace) -> None:
    for threads in options.threads:
        with keeping_server(threads, options) as empty, keeping_server(threads, options) as full:
            idlers = idle_connections(full, options.idle)
            loads = {empty: Load(empty.address, 32), full: Load(full.address, 32)}
            figures: dict[Server, list[tuple[float, float]]] = {empty: [], full: []}
            for server in figures:
                throughput(server, loads[server], 0.5)
            for turn in range(options.turns):
                for server in (empty, full) if turn % 2 else (full, empty):
                    figures[server].append(throughput(server, loads[server], options.seconds / options.turns))
            failed = sum(count for load in loads.values() for kind, count in load.counts.items() if kind != "answered")
            for load in loads.values():
                load.close()
            for sock in idlers:
                sock.close()
        rate = {server: statistics.median(each[0] for each in figures[server]) for server in figures}
        cpu = {server: statistics.median(each[1] for each in figures[server]) for server in figures}
        rows = [["0", f"{rate[empty]:.0f}", f"{cpu[empty]:.1f}", "", ""]]
        ratios = [f"{rate[full] / rate[empty]:.3f}", f"{cpu[full] / cpu[empty]:.3f}"]
        rows.append([str(options.idle), f"{rate[full]:.0f}", f"{cpu[full]:.1f}", *ratios])
        table(
            f"idle: 32 busy connections, {options.turns} turns each, medians; threads {threads}; {failed} failed",
            "idle beside them|requests/s|server µs/request|rate ratio|cpu ratio",
            rows,
        )


PARTS = {"slow": slow, "drain": drain, "memory": memory, "idle": idle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default all)")
    parser.add_argument("--driver", choices=("selectors", "trio"), default="selectors")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[0, 4], help="0 is a handler on the loop, which is async on trio"
    )
    parser.add_argument("--clients", type=int, default=1000, help="slow: bad clients")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="slow: of which kinds")
    parser.add_argument("--timeout", type=float, default=3.0, help="slow: head, body and write timeout of the server")
    parser.add_argument("--seconds", type=float, default=5.0, help="slow: before and after; idle: each of both")
    parser.add_argument("--runs", type=int, default=20, help="drain: how often")
    parser.add_argument("--connections", type=int, default=16, help="drain: busy connections")
    parser.add_argument("--idle", type=int, default=5000, help="memory, idle: idle connections")
    parser.add_argument("--turns", type=int, default=10, help="idle: turns of each server")
    parser.add_argument("--bad-clients-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    Server.driver = options.driver
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.bad_clients_of:
        run_bad_clients(options.bad_clients_of, options.kinds, options.clients, options.timeout)
        return
    for part in options.parts or PARTS:
        PARTS[part](options)


if __name__ == "__main__":
    main()
