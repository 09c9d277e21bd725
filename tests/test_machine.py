"""A `Conn` between a peer, an application and a clock that do anything they can, and what holds all the same."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from h1core.config import Limits, Timeouts
from h1core.errors import LocalError
from h1core.events import (
    Data,
    EndOfMessage,
    Event,
    InformationalResponse,
    Response,
    Sendable,
    Switched,
)
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, Disposition, State

from . import promises
from .feed import TINY
from .journal import Journal
from .promises import OVER, STREAMING, UNANSWERED, snapshot
from .strategies import broken_streams, sendables

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
USUAL = [
    GET,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n" + b"." * 50,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n%b\r\n0\r\nX: y\r\n\r\n" % (b"." * 40),
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(GET),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\ntunnel",
    b"CONNECT a:1 HTTP/1.0\r\n\r\ntunnel",
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 60\r\n\r\n",
]
"""What reaches most of the states; chance alone rarely makes a request. A GET may come to be the body of another."""

LIMITS = {"default": Limits(), "tiny": TINY, "tiny and impatient": replace(TINY, max_linger_bytes=64)}
all_limits = st.sampled_from(list(LIMITS))  # by name: a failure prints them at every step
usual = st.sampled_from(USUAL)
pipelines = st.lists(usual, min_size=2, max_size=8).map(b"".join)
wires = st.one_of(usual, usual, st.just(b""), pipelines, broken_streams())
sizes = st.one_of(st.just(1 << 20), st.integers(1, 200))
BOTH = [True, False]
SIZES = [1 << 20, 1 << 20, 1 << 20, 100, 30, 1]
SHARES = [1.0, 0.5, 0.01, 0.0]
SECONDS = [0.001, 0.001, 1.0, 9.0, 100.0]
RARE = ["misuse", "misuse", "drain", "end of stream", "loss", "failure"]
ACTS = ["resume", "pause", "switch", "anything"]
acts = st.sampled_from(ACTS).flatmap(lambda act: sendables if act == "anything" else st.just(act))


def when(*states: State) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a rule apply in these states only."""
    return precondition(lambda self: self.conn.state in states)


alive = precondition(lambda self: self.conn.state is not State.CLOSED)


class Machine(RuleBasedStateMachine):
    """Rules are what a driver calls, in any order it may; after each, what `Conn` promises is looked at.

    What rarely happens, or ends a connection, stands together in few rules, so that most connections live for a while.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.clock_reads = 0

    def clock(self) -> float:
        self.clock_reads += 1
        return self.now

    @initialize(limits=all_limits, wire=usual, most=sizes, is_prompt=st.booleans(), is_drained=st.booleans())
    def accept(self, limits: str, wire: bytes, most: int, is_prompt: bool, is_drained: bool) -> None:
        self.is_prompt = is_prompt
        """Whether the application answers what is complete at once."""
        self.is_drained = is_drained
        """Whether the peer takes at once what there is for it."""
        self.limits = LIMITS[limits]
        upgrades = {b"connect", b"websocket"}
        self.conn = Conn(self.limits, Timeouts(), clock=self.clock, wall_clock=lambda: self.now, upgrades=upgrades)
        self.incoming = b""
        """What the peer has written and nobody has read."""
        self.journal = Journal()
        self.peer_writes(wire, most)

    @when(State.CLOSED)
    @rule(late=sendables, limits=all_limits, wire=usual, most=sizes, is_prompt=st.booleans(), is_drained=st.booleans())
    def accept_another(
        self, late: Sendable, limits: str, wire: bytes, most: int, is_prompt: bool, is_drained: bool
    ) -> None:
        """Once nothing that comes too late has moved the old one."""
        conn, before = self.conn, snapshot(self.conn)
        self.misuse(late)
        self.take([*conn.receive_data(b"late"), *conn.receive_data(b""), *conn.connection_lost()])
        conn.begin_drain()
        conn.abort(CloseReason.APPLICATION_FAILED)
        self.handle_deadline()
        assert snapshot(conn) == before
        self.journal.compare(self.limits)
        self.accept(limits, wire, most, is_prompt, is_drained)

    # What comes out.

    def take(self, events: list[Event]) -> None:
        """Hold what came out to its grammar, and ask for what waits, as a driver does after each call."""
        is_full = self.conn.output_bytes > self.limits.max_output_bytes
        promises.events_are_few(events, self.limits)
        waiting = self.conn.next_events()
        promises.events_are_few(waiting, self.limits)
        assert not (is_full and waiting), "responses pile up"
        for event in [*events, *waiting]:
            self.journal.came(event)
        if self.is_drained and self.conn.output_bytes:
            self.write(1.0)
        if self.is_prompt and self.conn.state is State.HANDLING:
            self.send(Response(200))

    def attempt(self, call: Callable[[], object]) -> bool:
        """Do what may be refused; then nothing has happened."""
        before = snapshot(self.conn)
        try:
            call()
        except LocalError:
            assert snapshot(self.conn) == before
            return False
        return True

    # What is done.

    @alive
    @rule(wire=wires, most=sizes)
    def peer_writes(self, wire: bytes, most: int) -> None:
        """Something, or nothing; and a piece of all it wrote is read."""
        conn = self.conn
        self.incoming += wire
        if not self.incoming or not conn.wants_read:
            return
        count = min(most, conn.receive_bytes)
        data, self.incoming = self.incoming[:count], self.incoming[count:]
        self.journal.received += data
        clock_reads = self.clock_reads
        events = conn.receive_data(data)
        assert self.clock_reads - clock_reads <= 1
        self.take(events)

    @precondition(lambda self: self.conn.output_bytes)
    @rule(share=st.sampled_from(SHARES))
    def write(self, share: float) -> None:
        out = bytes(self.conn.data_to_send())
        count = round(share * len(out))
        self.conn.data_sent(count)
        self.journal.written += out[:count]
        rest = bytes(self.conn.data_to_send())
        assert rest.startswith(out[count:]), "what was not taken comes again"
        self.take([])

    @when(*UNANSWERED, *STREAMING)
    @rule(at_once=st.booleans())
    def application_answers(self, at_once: bool) -> None:
        if self.conn.state in UNANSWERED:
            self.send(Response(200, (), b"" if at_once else None))
        else:
            self.send(EndOfMessage() if at_once else Data(b"." * 200))

    @when(*UNANSWERED, *STREAMING)
    @rule(act=acts)
    def application_acts(self, act: Sendable | str) -> None:
        conn = self.conn
        match act:
            case "resume":
                conn.resume_body()
                assert conn.wants_read or conn.state not in (State.RECEIVING, State.DUPLEX)
                self.take([])
            case "pause":
                conn.pause_body()
            case "switch":
                events: list[Event] = []
                if self.attempt(lambda: events.extend(conn.switch_protocols([(b"x", b"y")]))):
                    assert [type(event) for event in events] == [Switched]
                    self.journal.switched = True
                    self.take(events)
            case Response() | InformationalResponse() | Data() | EndOfMessage():
                self.send(act)

    def send(self, event: Sendable) -> None:
        if isinstance(event, Response):
            event = replace(event, headers=[*event.headers, *self.journal.fields()])
        if self.attempt(lambda: self.conn.send(event)):
            self.journal.sent(event)
            self.take([])

    @alive
    @rule(seconds=st.sampled_from(SECONDS), in_time=st.booleans())
    def wait(self, seconds: float, in_time: bool) -> None:
        """For some time, or if that is to be in time, at most until the deadline."""
        deadline = self.conn.next_deadline
        self.now += seconds if deadline is None or not in_time else max(0.0, min(seconds, deadline - self.now))
        if in_time:
            self.handle_deadline()

    def handle_deadline(self) -> None:
        deadline, before = self.conn.next_deadline, snapshot(self.conn)
        events = self.conn.handle_deadline()
        if deadline is None or deadline > self.now:
            assert (snapshot(self.conn), events) == (before, []), "it was early, and did something"
        else:
            after = self.conn.next_deadline
            assert after is None or after > self.now, "it would be due again at once"
        self.journal.is_cut |= self.conn.disposition is Disposition.ABORT
        self.take(events)

    @alive
    @rule(what=st.sampled_from(RARE), event=sendables)
    def something_rare_happens(self, what: str, event: Sendable) -> None:
        conn = self.conn
        match what:
            case "misuse":
                self.misuse(event)
            case "drain":
                conn.begin_drain()
                self.take([])
            case "end of stream" if conn.wants_read:
                self.journal.has_ended = True
                self.take(conn.receive_data(b""))
                assert not conn.wants_read
            case "loss":
                self.journal.is_cut = True
                self.take(conn.connection_lost())
                assert conn.disposition in OVER
            case "failure" if conn.state in STREAMING:
                self.journal.is_cut = True
                conn.abort(CloseReason.APPLICATION_FAILED)
                assert conn.disposition is Disposition.ABORT

    def misuse(self, event: Sendable) -> None:
        conn = self.conn
        assert not self.attempt(lambda: conn.data_sent(-1))
        assert not self.attempt(lambda: conn.data_sent(conn.output_bytes + 1))
        if conn.state not in (*UNANSWERED, *STREAMING):
            assert not self.attempt(lambda: conn.send(event))
            assert not self.attempt(conn.switch_protocols)
            before = snapshot(conn)
            conn.resume_body()
            conn.pause_body()
            assert snapshot(conn) == before
        if conn.state is State.SWITCHED:
            assert not self.attempt(lambda: conn.receive_data(b"not HTTP"))

    # What holds at any time.

    @invariant()
    def promises_are_kept(self) -> None:
        conn = self.conn
        promises.closed_is_closed(conn)
        promises.an_end_has_a_reason(conn, had_last_word=self.journal.last_word is not None)
        promises.who_owes_has_a_deadline(conn)
        promises.the_next_deadline_is_the_earliest(conn)
        promises.who_is_idle_only_waits(conn)
        promises.nobody_is_late_with_a_body_that_is_not_read(conn)
        promises.nobody_waits_for_a_peer_that_has_ended(conn, has_ended=self.journal.has_ended)
        promises.what_waits_is_bounded(conn, self.limits)

    def teardown(self) -> None:
        self.journal.is_cut |= self.conn.state is not State.CLOSED
        self.journal.nothing_was_lost(self.conn, self.limits)
        self.journal.compare(self.limits)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=settings().max_examples // 4)  # a run of many steps is one example


# The same without hypothesis: it finds no smaller case and invents no bytes, and does a hundred times as many steps.

SENDABLES: list[Sendable] = [
    Response(200, (), b"." * 20_000),
    Response(204),
    Response(200, [(b"Content-Length", b"200")], None),
    Response(200, [(b"Connection", b"close")]),
    Response(200, [(b"x", b"\r\n")]),
    Response(99),
    Data(b""),
    Data(b"." * 20_000),
    EndOfMessage([(b"x", b"y")]),
    InformationalResponse(100),
    InformationalResponse(103, [(b"x", b"y")]),
]
WIRES = [*USUAL, *USUAL, *[b""] * 8, GET * 5, b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0"]


@pytest.mark.parametrize("seed", range(settings().max_examples // 4))
def test_a_walk(seed: int) -> None:
    one = random.Random(seed).choice
    machine = Machine()

    def accept(how: Callable[..., None]) -> None:
        how(limits=one(list(LIMITS)), wire=one(WIRES), most=one(SIZES), is_prompt=one(BOTH), is_drained=one(BOTH))

    accept(machine.accept)
    for _ in range(1000):
        state = machine.conn.state
        moves = ["peer", "peer", "peer", "wait", one(["wait", "rare"]), *["write"] * bool(machine.conn.output_bytes)]
        if state in UNANSWERED or state in STREAMING:
            moves += ["answer", "answer", "act"]
        match "accept" if state is State.CLOSED else "rare" if state is State.SWITCHED else one(moves):
            case "accept":
                accept(partial(machine.accept_another, late=one(SENDABLES)))
            case "peer":
                machine.peer_writes(one(WIRES), one(SIZES))
            case "wait":
                machine.wait(one(SECONDS), one(BOTH))
            case "rare":
                machine.something_rare_happens(one(RARE), one(SENDABLES))
            case "write":
                machine.write(one(SHARES))
            case "answer":
                machine.application_answers(one(BOTH))
            case "act":
                act = one(ACTS)
                machine.application_acts(one(SENDABLES) if act == "anything" else act)
        machine.promises_are_kept()
    machine.teardown()
