"""What h1core should reach, as ratios between figures of one run; and where a peer of the same kind is faster."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from candidates import SERVERS
from loads import LOADS

KIB = 1024


@dataclass(frozen=True)
class Figures:
    """What core.py and servers.py have found."""

    core: dict[str, Any]
    servers: dict[str, Any]

    def row(self, load: str, server: str) -> dict[str, Any]:
        """The row of a server at a load. Raises KeyError when it was not measured."""
        if load in ("without", "beside"):
            found: dict[str, Any] = self.servers["idle"][server][load]
        else:
            found = self.servers[load][server]
        return found


@dataclass(frozen=True)
class Verdict:
    """A row of the table of bars."""

    what: str
    bar: str
    measured: str
    by_cpu: str
    """The same ratio by the servers' processor time for a request, which others on the machine disturb less."""
    is_met: bool


@dataclass(frozen=True)
class CoreBar:
    """h1core's exchanges in a second, in proportion to another library's."""

    stream: str
    least: float
    other: str

    def judge(self, figures: Figures) -> Verdict:
        row = figures.core["microseconds"][self.stream]
        ratio = row[self.other] / row["h1core"]
        return Verdict(
            f"core, {self.stream}", f"≥ {self.least:g} × {self.other}", f"{ratio:.2f}", "", ratio >= self.least
        )


@dataclass(frozen=True)
class ServerBar:
    """A server's requests a second at a load, in proportion to another server's, or to those at another load."""

    server: str
    load: str
    least: float
    other: str
    other_load: str = ""

    def judge(self, figures: Figures) -> Verdict:
        other_load = self.other_load or self.load
        row, other = figures.row(self.load, self.server), figures.row(other_load, self.other)
        ratio = row["rate"] / max(other["rate"], 1)
        by_cpu = other["cpu_us"] / max(row["cpu_us"], 0.01)
        of = self.other if self.other != self.server else {"without": "that without them"}.get(other_load, other_load)
        load = f"beside {figures.servers['measured']['idle']} idle" if self.load == "beside" else self.load
        bar = f"≥ {self.least:g} × {of}"
        return Verdict(f"{self.server}, {load}", bar, f"{ratio:.2f}", f"{by_cpu:.2f}", ratio >= self.least)


@dataclass(frozen=True)
class MemoryBar:
    """Bytes of an idle connection."""

    server: str
    most_bytes: int

    def judge(self, figures: Figures) -> Verdict:
        size = figures.servers["idle"][self.server]["bytes"]
        most, found = f"≤ {self.most_bytes / KIB:g} KiB", f"{size / KIB:.2f} KiB"
        return Verdict(f"{self.server}, an idle connection", most, found, "", size <= self.most_bytes)


BARS: tuple[CoreBar | ServerBar | MemoryBar, ...] = (
    CoreBar("browser", 12, "h11"),
    CoreBar("browser", 0.8, "httptools"),
    CoreBar("cold", 8, "h11"),
    ServerBar("h1core inline", "small", 0.65, "floor: epoll"),
    ServerBar("h1core inline", "small", 2, "uvicorn uvloop zttp"),
    ServerBar("h1core 4 threads", "small", 0.55, "floor: pool"),
    ServerBar("h1core 4 threads", "small", 3, "waitress"),
    ServerBar("h1core WSGI inline", "small", 1, "granian WSGI"),
    ServerBar("h1core ASGI trio", "small", 15, "hypercorn trio"),
    *(
        ServerBar(f"h1core ASGI {driver}", load, least, "uvicorn uvloop httptools")
        for driver, least in (("uvloop", 1.25), ("asyncio", 1.1), ("trio", 1))
        for load in ("small", "browser", "post")
    ),
    ServerBar("h1core inline", "pipelined", 2.5, "h1core inline", "small"),
    ServerBar("h1core inline", "beside", 0.95, "h1core inline", "without"),
    ServerBar("h1core trio", "beside", 0.95, "h1core trio", "without"),
    MemoryBar("h1core inline", 2 * KIB),
    MemoryBar("h1core trio", 8 * KIB),
    ServerBar("h1core inline", "large", 0.9, "floor: epoll"),
    ServerBar("h1core trio", "large", 0.9, "floor: trio-epoll"),
)


def verdicts(figures: Figures) -> Iterator[Verdict]:
    """Every bar whose figures are there."""
    for bar in BARS:
        try:
            yield bar.judge(figures)
        except KeyError:
            continue


@dataclass(frozen=True)
class Loss:
    """A peer that is faster than h1core with an application of the same kind."""

    load: str
    ours: str
    peer: str
    times: float
    by_cpu: float | None = None


def losses(figures: Figures) -> Iterator[Loss]:
    """Where a peer is faster, for each of h1core's ways to serve the interface that the peer serves."""
    for stream, row in figures.core["microseconds"].items():
        for name, us in row.items():
            if name not in ("floor", "h1core") and us < row["h1core"]:
                yield Loss(f"core, {stream}", "h1core", name, row["h1core"] / us)
    for load in LOADS:
        rows = figures.servers.get(load, {})
        for name, row in rows.items():
            for other, other_row in rows.items():
                are_alike = (
                    SERVERS[name].is_ours and SERVERS[other].is_peer and SERVERS[name].kind == SERVERS[other].kind
                )
                if are_alike and other_row["rate"] > row["rate"]:
                    times = other_row["rate"] / max(row["rate"], 1)
                    yield Loss(load, name, other, times, row["cpu_us"] / max(other_row["cpu_us"], 0.01))
