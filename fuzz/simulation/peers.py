"""Clients: what they are between the script that they follow and the stream that they have."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from h1core.testing import MemoryClient

from .invariants import Invariant, violated
from .network import stream_of
from .reader import Heard, Reader, Unreadable
from .wire import Sent

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True, slots=True)
class News:
    """What a script waits for: that the server does something, for so many seconds at most."""

    at_most_s: float


Script: TypeAlias = Generator[float | News, None, None]
"""Yields how long it waits, or that it waits for news."""

GIVE_UP_S = 400.0
"""More than the longest time for which any server makes anybody wait."""


class Peer:
    """One client with one connection."""

    def __init__(self, world: World, lane: int, kind: str, client: MemoryClient) -> None:
        self.world = world
        self.lane = lane
        self.kind = kind
        self.client = client
        self.stream = stream_of(client)
        self.stream.peer = self
        self.stream.lane = lane
        self.dice = world.dice.clients
        self.reader = Reader(self.method_of)
        self.sent: list[Sent] = []
        self.put_bytes = 0
        self.is_gone = False
        """The client itself has gone: closed, or reset."""
        self.has_ended = False
        self.is_done = False
        self.window = self.stream.window_bytes
        self._script: Script | None = None
        self.turn = 0
        """How often it has acted; what was arranged for an earlier turn is void."""
        self._waits = False
        self._is_called = False

    # Turns

    def start(self, script: Script) -> None:
        self._script = script
        self.go_on()

    def hear(self) -> None:
        """The server has done something."""
        if self._waits and not self._is_called:
            self._is_called = True
            self.world.after_for(self, self.turn, self.world.lag(self.world.dice.network))

    def go_on(self) -> None:
        """Act, up to the next wait of the script."""
        self.turn += 1
        self._waits = self._is_called = False
        if self._script is None:
            return
        try:
            wait = next(self._script)
        except StopIteration:
            self._script = None
            self.is_done = True
            self.world.trace.note(self.lane, "client", "is done")
            return
        if isinstance(wait, News):
            self._waits = True
            wait = wait.at_most_s
        self.world.after_for(self, self.turn, wait)

    # Steps of scripts

    def pause(self, longest: float | None = None) -> Script:
        """Wait for a while; not for long when there are no faults any more."""
        seconds = self.dice.duration(self.world.swarm.longest_s if longest is None else longest)
        if self.world.is_calm:
            seconds = min(seconds, 0.01)
        if seconds:
            yield seconds

    def send(self, *requests: Sent) -> Script:
        """Send requests in one go, in pieces as the network cuts them."""
        for sent in requests:
            self.begin(sent)
        yield from self.send_bytes(b"".join(sent.wire for sent in requests))

    def begin(self, sent: Sent) -> None:
        """Take note that a request's bytes follow those that were sent."""
        sent.start = self.put_bytes if not self.sent else self._next_start()
        self.sent.append(sent)
        self.reader.expected += 1
        self.world.trace.note(self.lane, "client", "begins request", sent.number)

    def _next_start(self) -> int:
        last = self.sent[-1]
        return max(self.put_bytes, last.start + len(last.wire))

    def send_bytes(self, wire: bytes) -> Script:
        """Send bytes, cut and delayed, unless the connection is over."""
        world = self.world
        cuts = world.faults.get("cuts")
        if cuts is None or self.dice.random() > 0.7:
            self.put(wire)
            return
        at = 0
        stalls = world.faults.get("stalls", 0.0)
        while at < len(wire) and not self.is_gone:
            size = 1 + world.dice.network.below(world.dice.network.pick((1, 4, 40, 4000, 4000)))
            if len(wire) - at > 3000:
                size = max(size, (len(wire) - at) // 3)
            if world.is_calm:
                size = len(wire)
            self.put(wire[at : at + size])
            at += size
            if self._breaks():
                return
            if world.dice.network.random() < stalls:
                yield from self.pause()
            else:
                yield world.dice.network.random() / 1024

    def _breaks(self) -> bool:
        """Whether the network, or the client, gives out here."""
        faults, dice = self.world.faults, self.world.dice.network
        if dice.random() < faults.get("resets", 0.0) / 5:
            self.reset()
            return True
        if dice.random() < faults.get("half_closes", 0.0) / 5:
            self.end()
            return True
        return False

    def put(self, data: bytes) -> None:
        if data and not self.is_gone and not self.has_ended:
            self.put_bytes += len(data)
            self.world.trace.note(self.lane, "client", "sends", data)
            self.client.send(data)
            self.stream.unread_since = min(self.stream.unread_since, self.world.clock.now)
            self.world.changed(self.stream)

    def end(self) -> None:
        if not self.is_gone and not self.has_ended:
            self.has_ended = True
            self.world.trace.note(self.lane, "client", "ends its side")
            self.client.end()
            self.stream.unread_since = min(self.stream.unread_since, self.world.clock.now)
            self.world.changed(self.stream)

    def reset(self) -> None:
        if not self.is_gone and not self.stream.is_closed:
            self.take()
            self.is_gone = True
            self.world.trace.note(self.lane, "client", "resets")
            self.client.reset()
            self.world.changed(self.stream)

    def take(self, most: int | None = None) -> bytes:
        """Read what has come."""
        data = self.client.read(most)
        if data:
            try:
                self.reader.feed(data)
            except Unreadable as error:
                violated(Invariant.READABLE, str(error), self.lane)
            self.world.changed(self.stream)
        return data

    def method_of(self, number: int) -> bytes:
        """What the server knew of a request's method when it answered: GET, unless what had come says HEAD."""
        sent, conn = self.sent[number], self.stream.conn
        if sent.method != b"HEAD" or conn is None:
            return sent.method
        consumed = self.stream.consumed if conn.decided_by is None else self.stream.consumed[: conn.decided_by[0]]
        return b"HEAD" if consumed.startswith(b"HEAD ", sent.start) else b"GET"

    @property
    def sees_end(self) -> bool:
        return self.is_gone or (self.stream.output_ended and not self.stream.outbox)

    def await_responses(self, count: int, patience_s: float = GIVE_UP_S) -> Script:
        """Wait until so many responses in all are complete, or there will be no more."""
        until = self.world.clock.now + patience_s
        while True:
            self.take()
            left = until - self.world.clock.now
            if self.reader.complete >= count or self.sees_end or left <= 0:
                return
            yield News(left)
            if self._breaks():
                return

    def await_end(self, patience_s: float = GIVE_UP_S) -> Script:
        """Read until the server ends its side."""
        yield from self.await_responses(1 << 30, patience_s)

    def leave(self) -> Script:
        """Go, in one of the ways in which clients go."""
        match self.dice.below(4):
            case 0:
                self.reset()
            case 1 | 2:
                self.end()
                yield from self.await_end()
            case _:
                yield from self.await_end()
                self.end()

    @property
    def last(self) -> Heard | None:
        return self.reader.responses[-1] if self.reader.responses else None
