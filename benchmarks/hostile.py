"""A real server under hostile and heavy load: what holds, and what it costs.

python benchmarks/hostile.py [slow|drain|memory|idle|threads|streams]... [--driver selectors|asyncio|trio] [--loop LOOP]
    [--threads N [N]] [options]

slow    a third each of slow-head, slow-body and never-reading clients at once, from one process. A good client, in
        another one, has its latency taken, in turns: without them, with them at another server, with them here; each
        must be gone by its deadline. The server has a processor to itself; clients, and the other server, have another,
        where the good client goes first. What the bad ones cost at the other server is the machine's. Whoever may use
        real-time priorities is not disturbed by what else runs on the machine.
drain   SIGTERM under load, again and again: requests that failed, exit status, time to the exit.
memory  resident bytes of an idle keep-alive connection that has made one request: many against few.
idle    32 busy connections with and without thousands of idle ones beside them: requests a second, and the server's own
        processor time for a request.

threads 200 slow readers, 50 event streams whose clients leave and 20 sleeping requests at a WSGI server with four
        threads: how long the worst of all other requests waits, and what is left behind. Exits with 1 if it fails.
streams SIGTERM with 50 open streams, `--runs` times on each host: seconds to the exit, and how each stream ends.
        Exits with 1 if it fails.

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
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import held
from slow_clients import GET, KINDS

HERE = Path(__file__).resolve()
LARGE = bytes(16 * 1024 * 1024)
CLOSE_WAIT = 8  # tcpi_state: the peer's FIN has come
SERVER_CPU, CLIENTS_CPU = 0, 1
FIRST, LATER = 20, 10  # real-time priorities


def app(request: Any) -> Any:
    """What is served: a small page, or 16 MiB."""
    from h1core import Response

    body = LARGE if request.target == b"/large" else b"Hello, world!\n"
    return Response(200, [(b"content-type", b"text/plain")], body)


async def async_app(request: Any) -> Any:
    """The same for asyncio and trio."""
    return app(request)


# The server


class Server:
    """A server process, ended at the end of the `with`."""

    driver = "selectors"
    loop = "auto"
    """The event loop of the asyncio driver."""

    def __init__(self, threads: int, *options: str) -> None:
        name = "app" if threads or self.driver == "selectors" else "async_app"
        command = [sys.executable, "-m", "h1core", f"{HERE.stem}:{name}", "--driver", self.driver]
        command += ["--loop", self.loop, "--bind", "127.0.0.1:0"]
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


class Turn(NamedTuple):
    """A while with or without bad clients."""

    taken: list[float]
    """The good client's latencies in seconds."""
    report: dict[str, Any] | None
    """What became of the bad ones."""


def beside_bad_clients(server: Server, victim: Server | None, options: argparse.Namespace) -> Turn:
    """The good client's latencies at a server while bad clients are at a victim, if any, and what became of those."""
    with client_process("good", FIRST, server) as good:
        assert good.stdout is not None
        assert good.stdout.readline() == "begun\n"
        if victim is None:
            time.sleep(options.seconds)
            report = None
        else:
            bad_options = ("--clients", str(options.clients), "--timeout", str(options.timeout), "--kinds")
            with client_process("bad", LATER, victim, *bad_options, *options.kinds) as bad:
                report = json.loads(bad.communicate()[0])
        good.send_signal(signal.SIGTERM)
        return Turn(json.loads(good.communicate()[0]), report)


def client_process(who: str, priority: int, server: Server, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE.with_name("slow_clients.py")), who, str(server.address[1]), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    place(process, CLIENTS_CPU, priority)
    return process


def place(process: subprocess.Popen[str], cpu: int, priority: int) -> None:
    """Give a process its processor, before whoever else wants that one, as far as we may.

    Niceness would not do: Linux lets a process of any niceness finish its slice of some milliseconds. A thread beside
    the main one goes before it, as who has waited does ordinarily; else the loop would go on until it waits.
    """
    for thread in map(int, os.listdir(f"/proc/{process.pid}/task")):
        if cpu in os.sched_getaffinity(0):
            os.sched_setaffinity(thread, {cpu})
        with contextlib.suppress(PermissionError):
            own = priority if thread == process.pid else priority + 1
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(own))


def slow(options: argparse.Namespace) -> None:
    timeout = str(options.timeout)
    for threads in options.threads:
        short = [f"--{name}-timeout={timeout}" for name in ("head", "body", "write")]
        short += [f"--max-connections={options.clients + 1000}", "--max-requests-per-connection=1000000"]
        turns: dict[str, list[Turn]] = {"none": [], "at another server": [], "here": []}
        with Server(threads, *short) as server, Server(threads, *short) as another:
            place(server.process, SERVER_CPU, FIRST)
            place(another.process, CLIENTS_CPU, LATER)
            for number in range(options.turns):
                victims = list(zip(turns, (None, another, server), strict=True))
                for name, victim in victims if number % 2 else reversed(victims):
                    turns[name].append(beside_bad_clients(server, victim, options))
        show_bad_clients(turns["here"], threads, options)
        show_good_client(turns)


def show_bad_clients(turns: list[Turn], threads: int, options: argparse.Namespace) -> None:
    rows = []
    for kind in options.kinds:
        reports = [turn.report["kinds"][kind] for turn in turns if turn.report]
        late_s = [each for report in reports for each in report["late_s"]]
        ends: Counter[str] = sum((Counter(report["ends"]) for report in reports), Counter())
        how = ", ".join(f"{count} × {status}" for status, count in ends.items())
        number = sum(report["clients"] for report in reports)
        first, last = min(late_s, default=0), max(late_s, default=0)
        rows.append([kind, str(number), str(len(late_s)), f"{first:+.3f}", f"{last:+.3f}", how])
    connect_s = statistics.median(turn.report["connect_s"] for turn in turns if turn.report)
    table(
        f"slow: {len(turns)} times {options.clients} bad clients at once, connected within {connect_s:.2f} s; "
        f"{Server.driver}, threads {threads}; timeouts {options.timeout} s",
        "bad clients|number|gone|earliest after deadline, s|latest after deadline, s|how",
        rows,
    )


def show_good_client(turns: dict[str, list[Turn]]) -> None:
    rows = []
    unloaded = statistics.median(quantile(turn.taken, 0.99) for turn in turns["none"])
    for name, of in turns.items():
        taken = [turn.taken for turn in of]
        p99s = [1e3 * quantile(each, 0.99) for each in taken]
        rows.append(
            [
                name,
                f"{statistics.median(map(len, taken)):.0f}",
                f"{1e3 * statistics.median(quantile(each, 0.5) for each in taken):.3f}",
                f"{statistics.median(p99s):.3f}",
                f"{min(p99s):.3f} to {max(p99s):.3f}",
                f"{1e3 * statistics.median(map(max, taken)):.3f}",
                f"{statistics.median(p99s) / (1e3 * unloaded):.2f}",
            ]
        )
    columns = "bad clients|requests|p50 ms|p99 ms|p99 from to|max ms|p99 / none"
    table(f"      and one good client, medians of {len(turns['none'])} turns", columns, rows)


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
CHECKS = {"threads": held.threads, "streams": held.streams}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(PARTS | CHECKS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{names} (default: all but the last two)")
    parser.add_argument("--driver", choices=("selectors", "asyncio", "trio"), default="selectors")
    parser.add_argument("--loop", choices=("auto", "asyncio", "uvloop"), default="auto", help="of --driver asyncio")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[0, 4], help="0 is a handler on the loop, async on asyncio and trio"
    )
    parser.add_argument("--clients", type=int, default=1000, help="slow: bad clients")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="slow: of which kinds")
    parser.add_argument("--timeout", type=float, default=3.0, help="slow: head, body and write timeout of the server")
    parser.add_argument("--seconds", type=float, default=5.0, help="slow: without bad clients; idle: each of both")
    parser.add_argument("--runs", type=int, default=20, help="drain: how often")
    parser.add_argument("--connections", type=int, default=16, help="drain: busy connections")
    parser.add_argument("--idle", type=int, default=5000, help="memory, idle: idle connections")
    parser.add_argument("--turns", type=int, default=10, help="slow, idle: turns of each")
    held.add_options(parser.add_argument)
    options = parser.parse_args()
    if unknown := set(options.parts) - (PARTS | CHECKS).keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    Server.driver, Server.loop = options.driver, options.loop
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    holds = True
    for part in options.parts or PARTS:
        if part in PARTS:
            PARTS[part](options)
        else:
            holds = CHECKS[part](options) and holds
    raise SystemExit(0 if holds else 1)


if __name__ == "__main__":
    main()
