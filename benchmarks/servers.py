"""Requests a second of real servers under wrk, beside floors and peers; their p99, processor time, memory.

python benchmarks/servers.py [GROUP]... [--loads LOAD...] [--rounds N] [--seconds S] [--peers-python PYTHON]

All servers share one processor, and wrk has another where the machine has two. That holds also for what a server
starts: threads and processes of granian and gunicorn too. In each round all are started anew, and for each load each
has its turn; only one has work to do at a time. So a machine that slows down slows all of them. Figures are medians
over the rounds; only ratios within one run mean something. candidates.py has the servers, loads.py the loads.

In a second part each server is started alone, and is measured without and beside idle connections (--idle), each
of which has made one request; what one of them costs in memory is told by the difference between a hundred and all.

A peer that is not installed is named and left out. Linux only: it reads /proc. wrk must be there.
"""

import argparse
import contextlib
import resource
import shutil
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import loads
import results
from candidates import GROUPS, SERVERS, Server
from loads import LOADS, Load, Turn
from serving import Running, is_installed, running

FEW = 100
SETTLE_S = 0.3


class Found:
    """The turns of each server at each load."""

    def __init__(self) -> None:
        self.turns: dict[str, dict[str, list[Turn]]] = defaultdict(lambda: defaultdict(list))

    def add(self, load: str, server: str, turn: Turn) -> None:
        self.turns[load][server].append(turn)

    def rows(self, load: str) -> dict[str, dict[str, Any]]:
        """The medians of each server."""
        return {server: row(turns) for server, turns in self.turns[load].items()}


def row(turns: list[Turn]) -> dict[str, Any]:
    rates = [turn.rate for turn in turns]
    return {
        "rate": round(statistics.median(rates)),
        "low": round(min(rates)),
        "high": round(max(rates)),
        "p99_ms": round(statistics.median(turn.p99_ms for turn in turns), 2),
        "cpu_us": round(statistics.median(turn.cpu_us for turn in turns), 2),
        "errors": next((turn.errors for turn in turns if turn.errors), ""),
    }


def start(server: Server, answer: str, options: argparse.Namespace) -> contextlib.AbstractContextManager[Running]:
    python = options.peers_python if server.is_peer else sys.executable
    return running(server.arguments_for(answer), python=python, processor=0)


def measure_loads(servers: Iterable[Server], which: Iterable[Load], options: argparse.Namespace) -> Found:
    found = Found()
    for number in range(options.rounds):
        began_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            started: dict[tuple[str, ...], Running] = {}
            for load in which:
                for server in servers:
                    if load.answer not in server.answers:
                        continue
                    key = server.arguments_for(load.answer)
                    if key not in started:
                        started[key] = stack.enter_context(start(server, load.answer, options))
                    found.add(
                        load.name, server.name, loads.run(started[key], load, options.seconds, options.connections)
                    )
        print(f"round {number + 1} of {options.rounds}: {time.monotonic() - began_at:.0f} s", file=sys.stderr)
    return found


# Idle connections


def idle_connections(server: Running, count: int) -> list[socket.socket]:
    """Open connections, each with one request behind it."""
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", server.port), 10)
        connection.sendall(loads.SMALL)
        received = b""
        while not received.endswith(b"Hello, world!\n"):
            data = connection.recv(65536)
            if not data:
                raise ConnectionError(f"closed after {received!r}")
            received += data
        connections.append(connection)
    return connections


def measure_idle(servers: Iterable[Server], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """For each server: its row without idle connections, its row beside them, bytes for each of them."""
    turns = Found()
    sizes: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for server in servers:
            with start(server, "canned", options) as process, contextlib.ExitStack() as stack:
                turns.add(
                    "without", server.name, loads.run(process, LOADS["small"], options.seconds, options.connections)
                )
                try:
                    sizes[server.name].append(bytes_of_an_idle_one(process, options.idle, stack))
                except OSError as error:
                    print(f"{server.name} does not hold {options.idle} idle connections: {error}", file=sys.stderr)
                    continue
                turns.add(
                    "beside", server.name, loads.run(process, LOADS["small"], options.seconds, options.connections)
                )
    without, beside = turns.rows("without"), turns.rows("beside")
    return {
        name: {"bytes": round(statistics.median(each)), "without": without[name], "beside": beside[name]}
        for name, each in sizes.items()
        if name in beside
    }


def bytes_of_an_idle_one(server: Running, idle: int, stack: contextlib.ExitStack) -> float:
    """Open idle connections, which the stack closes. Raises OSError when the server does not take so many."""
    memory = []
    for count in (FEW, idle - FEW):
        for connection in idle_connections(server, count):
            stack.enter_context(connection)
        time.sleep(SETTLE_S)
        memory.append(server.resident_bytes())
    return (memory[1] - memory[0]) / (idle - FEW)


# Telling


def print_load(load: Load, rows: dict[str, dict[str, Any]]) -> None:
    best = max((row["rate"] for name, row in rows.items() if SERVERS[name].is_floor), default=0)
    print(f"\n{load.name}: {load.what}")
    print(f"{'server':<26}{'requests/s':>11}{'low':>9}{'high':>9}{'of floor':>10}{'p99 ms':>9}{'cpu µs':>9}  errors")
    for name, row in rows.items():
        of_floor = f"{row['rate'] / best:.2f}" if best else "–"
        figures = f"{row['rate']:>11}{row['low']:>9}{row['high']:>9}{of_floor:>10}{row['p99_ms']:>9}{row['cpu_us']:>9}"
        print(f"{name:<26}{figures}  {row['errors']}")
    sys.stdout.flush()


def print_idle(idle: int, rows: dict[str, dict[str, Any]]) -> None:
    print(f"\nidle: small requests without and beside {idle} idle connections")
    print(f"{'server':<26}{'without':>11}{'beside':>11}{'ratio':>9}{'cpu':>9}{'bytes each':>12}  errors")
    for name, row in rows.items():
        without, beside = row["without"], row["beside"]
        ratios = f"{beside['rate'] / max(without['rate'], 1):>9.3f}{beside['cpu_us'] / max(without['cpu_us'], 1):>9.3f}"
        figures = f"{without['rate']:>11}{beside['rate']:>11}{ratios}{row['bytes']:>12}"
        print(f"{name:<26}{figures}  {without['errors']} {beside['errors']}")


def chosen(groups: list[str], python: str) -> list[Server]:
    """The servers of the groups that can be run; the others are named."""
    servers = []
    for name in dict.fromkeys(name for group in groups or ["all"] for name in GROUPS[group]):
        server = SERVERS[name]
        if is_installed(server.needs, python if server.is_peer else sys.executable):
            servers.append(server)
        else:
            print(f"{name} is left out: {', '.join(server.needs)} must be installed")
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (default all)")
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS), metavar="LOAD", help=", ".join(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="for each turn (%(default)s)")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--idle", type=int, default=5000, help="idle connections; 0 leaves that part out (%(default)s)")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--json", metavar="FILE", help="where to keep what was found")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    if unknown := set(options.groups) - GROUPS.keys():
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    servers = chosen(options.groups, options.peers_python)
    found = measure_loads(servers, [LOADS[name] for name in options.loads], options)
    kept = {name: found.rows(name) for name in options.loads}
    for name, rows in kept.items():
        print_load(LOADS[name], rows)
    if options.idle:
        kept["idle"] = measure_idle([server for server in servers if server.holds_idle], options)
        print_idle(options.idle, kept["idle"])
    if options.json:
        measured = {name: getattr(options, name) for name in ("rounds", "seconds", "connections", "idle")}
        results.write(options.json, measured, kept, options.peers_python)


if __name__ == "__main__":
    main()
