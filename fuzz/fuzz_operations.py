"""Any calls in any order on a `Conn`: `python -m fuzz.fuzz_operations [--minutes N]`.

An input is a tape: each operation reads its number from it, and whatever else it has to choose. A peer writes, ends or
breaks off; a driver reads as much as it is asked to, writes, and fires deadlines in time or late; an application
answers, streams, pauses, switches or fails; the server drains. The promises of tests/promises.py are looked at after
each call.

At the end nobody is unkind any more: what is owed is written and answered, deadlines fire, and the connection must end.
Then the requests that came out are compared with what the naive reader makes of the bytes that went in, and what was
written has to be, for a strict client, one answer to each request in their order.
"""

from collections.abc import Callable, Iterator

from fuzz import engine

with engine.instrumented(__name__):
    from dataclasses import replace

    from fuzz.scripts import FIRST_ODD, ODD, REQUESTS, Peer, Tape, sendable
    from h1core.config import Limits, Timeouts
    from h1core.errors import LocalError
    from h1core.events import EndOfMessage, Event, InformationalResponse, Response, Sendable, Switched
    from h1core.http1.buffer import ReceiveBuffer
    from h1core.http1.conn import Conn
    from h1core.http1.state import CloseReason, Disposition, State
    from tests import promises
    from tests.feed import TINY
    from tests.journal import Journal

MOST_CONNECTIONS = 3
STEPS_TO_SETTLE = 100
LIMITS = [Limits(), TINY, replace(TINY, initial_buffer_bytes=TINY.max_buffer_bytes)]
SECONDS = [0.0, 0.001, 0.001, 0.001, 1.0, 1.0, 9.0, 100.0]
SHARES = [1.0, 0.5, 0.01, 0.0]
TIMEOUTS = Timeouts()


def run(data: bytes) -> None:
    """One input: connections one after another, each with the buffer of the one before it, until the tape is over."""
    tape = Tape(data)
    buffer: ReceiveBuffer | None = None
    limits = tape.pick(LIMITS)
    for _ in range(MOST_CONNECTIONS):
        world = World(tape, limits, buffer)
        while not tape.is_over and world.conn.state is not State.CLOSED:
            world.step()
        world.settle()
        buffer = world.conn.release_buffer()
        assert not buffer.data
        assert buffer.capacity == limits.initial_buffer_bytes
        if tape.is_over:
            return


class World:
    """A connection, and all who have to do with it."""

    def __init__(self, tape: Tape, limits: Limits, buffer: ReceiveBuffer | None) -> None:
        self.tape = tape
        self.limits = limits
        self.now = 1000.0
        upgrades = {b"connect", b"websocket"}
        self.conn = Conn(limits, clock=lambda: self.now, wall_clock=lambda: 0.0, upgrades=upgrades, buffer=buffer)
        self.peer = Peer()
        self.journal = Journal()
        self.is_prompt = bool(tape.byte() & 1)
        """Whether the application answers what is whole at once."""
        self.is_paused = False
        """Whether the application may have said that it has enough of a body, and not that it wants more."""

    def step(self) -> None:
        self.tape.pick(OPERATIONS)(self)
        self.look()

    def look(self) -> None:
        conn, journal = self.conn, self.journal
        promises.closed_is_closed(conn)
        promises.an_end_has_a_reason(conn, had_last_word=journal.last_word is not None)
        promises.who_owes_has_a_deadline(conn)
        promises.the_next_deadline_is_the_earliest(conn)
        promises.who_is_idle_only_waits(conn)
        promises.nobody_waits_for_a_peer_that_has_ended(conn, has_ended=journal.has_ended)
        promises.what_waits_is_bounded(conn, self.limits)

    def take(self, events: list[Event]) -> None:
        """Write down what came out, and ask for what waits, as a driver does after each call."""
        is_full = self.conn.output_bytes > self.limits.max_output_bytes
        waiting = self.conn.next_events()
        assert not (is_full and waiting), "responses pile up"
        for some in (events, waiting):
            promises.events_are_few(some, self.limits)
            for event in some:
                self.journal.came(event)
        if self.is_prompt and self.conn.state is State.HANDLING:
            self.answer()

    def attempt(self, call: Callable[[], object]) -> bool:
        """Do what may be refused; then nothing has happened."""
        before = promises.snapshot(self.conn)
        try:
            call()
        except LocalError:
            assert promises.snapshot(self.conn) == before, "refused, and something happened"
            return False
        return True

    # What is done.

    def read(self) -> None:
        conn = self.conn
        if conn.state is not State.SWITCHED and conn.wants_read and self.peer.written:
            data = self.peer.give(min(conn.receive_bytes, self.tape.size()))
            self.journal.received += data
            self.take(conn.receive_data(data))

    def peer_writes(self) -> None:
        self.peer.writes(self.tape)
        self.read()

    def peer_ends(self) -> None:
        if self.tape.byte() % 16 == 15 and self.conn.wants_read:
            self.journal.has_ended = True
            self.take(self.conn.receive_data(b""))
            assert not self.conn.wants_read

    def lose(self) -> None:
        if self.tape.byte() % 64 == 63:
            self.journal.is_cut = True
            self.take(self.conn.connection_lost())
            assert self.conn.disposition in promises.OVER

    def send(self, event: Sendable | None = None) -> None:
        chosen = sendable(self.tape, self.journal.fields()) if event is None else event
        if self.attempt(lambda: self.conn.send(chosen)):
            self.journal.sent(chosen)
            if isinstance(chosen, InformationalResponse) and chosen.status == 100:
                is_asked = self.conn.wants_read or self.is_paused or self.journal.has_ended
                assert is_asked or self.conn.state is State.HANDLING, "told to go on, and not read"
            self.take([])

    def answer(self) -> None:
        self.send(Response(404, self.journal.fields()))

    def resume(self) -> None:
        self.is_paused = False
        self.conn.resume_body()
        assert self.conn.wants_read or self.conn.state not in (State.RECEIVING, State.DUPLEX) or self.journal.has_ended
        self.take([])

    def pause(self) -> None:
        self.is_paused |= self.conn.wants_read
        self.conn.pause_body()

    def switch(self) -> None:
        events: list[Event] = []
        if self.attempt(lambda: events.extend(self.conn.switch_protocols())):
            assert [type(event) for event in events] == [Switched]
            self.journal.switched = True
            self.take(events)

    def drain(self) -> None:
        if self.tape.byte() % 32 == 31:
            is_begun = self.conn.state is State.HEAD and len(self.conn._buffer) > 0
            self.conn.begin_drain()
            assert not is_begun or self.conn.state is State.HEAD, "a request that was begun is turned away"
            self.take([])

    def be_last(self) -> None:
        if self.tape.byte() % 16 == 15:
            self.conn.close_after_response(CloseReason.OVERLOADED)

    def fail(self) -> None:
        if self.conn.state in promises.STREAMING and self.tape.byte() % 16 == 15:
            self.journal.is_cut = True
            self.conn.abort(CloseReason.APPLICATION_FAILED)
            assert self.conn.disposition is Disposition.ABORT

    def write(self, share: float | None = None) -> None:
        conn = self.conn
        out = bytes(conn.data_to_send())
        count = round((self.tape.pick(SHARES) if share is None else share) * len(out))
        due, longest = conn._timers.write, self.now + TIMEOUTS.write_timeout
        assert not self.attempt(lambda: conn.data_sent(conn.output_bytes + 1))
        conn.data_sent(count)
        if count and conn.output_bytes:
            earned_s = count / TIMEOUTS.min_write_rate
            assert conn._timers.write == min(due + earned_s, longest), "progress earns its share"
        self.journal.written += out[:count]
        assert bytes(conn.data_to_send()).startswith(out[count:]), "what was not taken comes again"
        self.take([])

    def write_all(self) -> None:
        while self.conn.output_bytes:
            self.write(1.0)

    def wait(self) -> None:
        seconds, deadline = self.tape.pick(SECONDS), self.conn.next_deadline
        if deadline is not None and self.tape.byte() & 1:
            seconds = max(0.0, min(seconds, deadline - self.now))
        self.now += seconds

    def fire(self) -> None:
        deadline, before = self.conn.next_deadline, promises.snapshot(self.conn)
        events = self.conn.handle_deadline()
        if deadline is None or deadline > self.now:
            assert (promises.snapshot(self.conn), events) == (before, []), "it was early, and did something"
        else:
            assert promises.snapshot(self.conn) != before, "it was due, and did nothing"
            after = self.conn.next_deadline
            assert after is None or after > self.now, "it would be due again at once"
        self.journal.is_cut |= self.conn.disposition is Disposition.ABORT
        self.take(events)

    # The end.

    def settle(self) -> None:
        """Let everyone do what they owe, and time pass, until the connection is over; then look at it as a whole."""
        self.journal.nothing_was_lost(self.conn, self.limits)
        for _ in range(STEPS_TO_SETTLE + len(self.journal.received)):  # every pipelined request has its turn
            if self.conn.state in (State.CLOSED, State.SWITCHED):
                break
            self.look()
            self.write_all()
            if self.conn.state in promises.UNANSWERED:
                self.answer()
            elif self.conn.state in promises.STREAMING:
                self.finish()
            elif self.conn.disposition not in promises.OVER:
                deadline = self.conn.next_deadline
                assert deadline is not None, "nobody will ever end this connection"
                self.now = max(self.now, deadline)
                self.fire()
        assert self.conn.state in (State.CLOSED, State.SWITCHED), "it never ends"
        self.write_all()
        self.journal.compare(self.limits)

    def finish(self) -> None:
        """End a streamed response; one that promised more is cut off, as a driver must."""
        self.send(EndOfMessage())
        if self.conn.state in promises.STREAMING:
            self.journal.is_cut = True
            self.conn.abort(CloseReason.APPLICATION_FAILED)


Operation = Callable[[World], None]
OPERATIONS: list[Operation] = [
    World.peer_writes,
    World.read,
    World.send,
    World.write,
    World.wait,
    World.fire,
    World.resume,
    World.pause,
    World.switch,
    World.drain,
    World.be_last,
    World.fail,
    World.peer_ends,
    World.lose,
    World.peer_writes,
    World.send,
]


def seeds() -> Iterator[bytes]:
    """Tapes that answer early and let the peer go on, and some that stride through the operations."""
    write, send = OPERATIONS.index(World.peer_writes), OPERATIONS.index(World.send)
    for request in range(len(REQUESTS)):
        for odd in range(len(ODD)):
            limits, is_streamed = odd % len(LIMITS), request % 3 == 0
            answer = [send, 0, 2 * is_streamed, 0, *[0] * (not is_streamed)]
            yield bytes([limits, 0, write, request, 0, *answer, write, FIRST_ODD + odd, 0, write, request, 0])
    for stride in range(1, 16):
        yield bytes(stride * step % 256 for step in range(120))
    for number in range(16):
        yield bytes([number % 2, 1, *[0, number, 255, 2, number, 3, 0] * 12])


if __name__ == "__main__":
    engine.main("operations", run, seeds())
