"""What a connection's two streams must have to do with each other, once it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h11

from h1core.config import Timeouts
from h1core.errors import RefuseReason
from h1core.events import EndOfMessage, Refused, Request, Response
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, State

from .apps import Plan
from .invariants import Invariant, violated
from .peers import Peer
from .reader import Heard, Unreadable
from .watched import Received, WatchedConn
from .wire import Sent

if TYPE_CHECKING:
    from .world import World

CUT_SHORT: Final = (
    CloseReason.CONNECTION_LOST,
    CloseReason.WRITE_TIMEOUT,
    CloseReason.DRAIN_TIMEOUT,
    CloseReason.APPLICATION_FAILED,
    CloseReason.STREAM_ENDED,
    CloseReason.HELD_WORKER,
)
"""Ends in the middle of something."""

SAID: Final = (
    CloseReason.PEER_ASKED,
    CloseReason.APPLICATION_ASKED,
    CloseReason.MAX_REQUESTS,
    CloseReason.REFUSED,
    CloseReason.OVERLOADED,
)
"""Ends that the last response must have announced."""

GIVEN_UP: Final = (CloseReason.PEER_CLOSED, CloseReason.BODY_TIMEOUT, CloseReason.REFUSED)
"""Why an application may be told in the middle of its response that its client has left, and so not end it."""

TRUNCATED: Final = (CloseReason.APPLICATION_FAILED, CloseReason.STREAM_ENDED, CloseReason.HELD_WORKER)
"""Why a response may end in its middle, where everybody sees that it does."""

LONG: Final = Timeouts(head_timeout=1e9, body_timeout=1e9)
H11_READS: Final = 4
H11_END: Final = h11.EndOfMessage()
H11_REQUESTS: Final = {
    method: h11.Request(method=method, target=b"/", headers=[(b"host", b"a")])
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE")
}


class Judge:
    """Looks at one connection."""

    def __init__(self, world: World, peer: Peer) -> None:
        self.world = world
        self.peer = peer
        self.stream = peer.stream
        self.conn: WatchedConn | None = peer.stream.conn
        self.lane = peer.lane

    def judge(self) -> None:
        peer, stream, conn = self.peer, self.stream, self.conn
        if stream.is_reset and not peer.is_gone:
            violated(Invariant.ISOLATION, "a connection broke that nobody has broken", self.lane)
        peer.take()
        received = peer.reader
        ended_in_order = stream.has_fin and not stream.is_reset and not stream.resets_on_close
        if ended_in_order:
            try:
                received.end()
            except Unreadable as error:
                ended_in_order = False
                if conn is None or conn.close_reason not in TRUNCATED:
                    violated(Invariant.READABLE, f"{error}; {self._why()}", self.lane)
        if conn is None:
            if peer.client.received:
                violated(Invariant.IN_ORDER, "somebody who was never let in got bytes", self.lane)
            return
        self._ask_h11(ended_in_order)
        self._see_requests(conn)
        self._see_responses(conn)
        self._see_replay(conn)
        self._see_end(conn)

    def _why(self) -> str:
        conn = self.conn
        return (
            "never accepted" if conn is None else f"{conn.close_reason and conn.close_reason.name}, {conn.state.name}"
        )

    # Requests

    def _see_requests(self, conn: WatchedConn) -> None:
        """What came out is what was sent."""
        for number, received in enumerate(conn.received):
            if number >= len(self.peer.sent):
                violated(Invariant.REFERENCE, f"request {received.parts} was never sent", self.lane)
            sent = self.peer.sent[number]
            if not sent.begins:
                violated(Invariant.REFERENCE, f"an invalid head was let pass: {sent.wire[:200]!r}", self.lane)
            if received.is_whole and not sent.is_valid:
                violated(Invariant.REFERENCE, f"an invalid body was let pass: {sent.wire[-200:]!r}", self.lane)
            if not sent.is_valid:
                continue
            target = b"/%d" % sent.number
            request = received.request
            head = (sent.method, target, sent.version, sent.fields)
            if (request.method, request.target, request.version, tuple(request.headers)) != head:
                violated(Invariant.REFERENCE, f"{head} was sent, and {received.parts[:4]} came out", self.lane)
            if not sent.body.startswith(received.body):
                violated(Invariant.REFERENCE, "the body is not what was sent", self.lane)
            if received.is_whole and (received.body != sent.body or received.trailers != sent.trailers):
                violated(Invariant.REFERENCE, "the body or its trailers are not what was sent", self.lane)

    def _see_replay(self, conn: WatchedConn) -> None:
        """The same bytes in one piece give the same requests, and the same refusal if it came to that."""
        if self.stream.reads < 2 or not (conn.received or isinstance(conn.last_word, Refused)):
            return
        others, refusal = replay(bytes(self.stream.consumed), self.stream.end_seen, conn)
        for mine, other in zip(conn.received, others, strict=False):
            if mine.is_whole and other.is_whole and mine.parts[1:] != other.parts[1:]:
                violated(Invariant.SEGMENTATION, f"{mine.parts} became {other.parts} in one piece", self.lane)
        if len(others) < len(conn.received):
            violated(Invariant.SEGMENTATION, f"{len(conn.received)} requests, {len(others)} in one piece", self.lane)
        if isinstance(conn.last_word, Refused) and refusal is not conn.last_word.reason:
            violated(Invariant.SEGMENTATION, f"{conn.last_word} became {refusal} in one piece", self.lane)

    # Responses

    def _ask_h11(self, ended: bool) -> None:
        """The second parser: it must find the same responses. Of a long stream it reads both ends, for it is slow."""
        heard = self.peer.reader.responses
        wire = bytes(self.peer.client.received)
        if len(heard) > 2 * H11_READS:
            self._read_by_h11(heard[:H11_READS], wire[: heard[H11_READS - 1].ends_at], ended=False)
            wire = wire[heard[-H11_READS - 1].ends_at :]
            heard = heard[-H11_READS:]
        if wire:
            self._read_by_h11(heard, wire, ended)

    def _read_by_h11(self, heard: list[Heard], wire: bytes, ended: bool) -> None:
        client = h11.Connection(h11.CLIENT)
        try:
            for number, response in enumerate(heard):
                client.send(H11_REQUESTS[response.method])
                client.send(H11_END)
                if number == 0:
                    client.receive_data(wire)
                    if ended:
                        client.receive_data(b"")
                self._compare(client, response)
                if response.is_complete and number + 1 < len(heard):
                    client.start_next_cycle()
        except h11.ProtocolError as error:
            violated(Invariant.READABLE, f"h11 says {error!r}", self.lane)

    def _compare(self, client: h11.Connection, response: Heard) -> None:
        body = bytearray()
        status = 0
        while True:
            event = client.next_event()
            if type(event) is h11.Data:
                body += event.data
            elif type(event) is h11.Response:
                status = event.status_code
            elif type(event) is not h11.InformationalResponse:
                break
        if (status, body) != (response.status, response.body):
            violated(Invariant.READABLE, f"h11 read {status} and {len(body)} bytes, not {response.status}", self.lane)
        if (type(event) is h11.EndOfMessage) is not response.is_complete:
            violated(Invariant.READABLE, f"h11 and the other reader differ about the end of a {status}", self.lane)

    def _see_responses(self, conn: WatchedConn) -> None:
        """Each response is the one that its request must get."""
        responses = self.peer.reader.responses
        for number, response in enumerate(responses):
            if number and responses[number - 1].says_close:
                violated(Invariant.IN_ORDER, "a response comes behind one that says Connection: close", self.lane)
            sent = self.peer.sent[number]
            received = conn.received[number] if number < len(conn.received) else None
            self._see_interim(response, sent)
            if b"x-id" in response.fields:
                self._see_answer(response, sent, received)
            else:
                self._see_own_answer(response, sent, received, conn)
        answered = len(responses)
        for number, received in enumerate(conn.received[answered:], answered):
            plan = self.world.apps.plans.get(self.peer.sent[number].number)
            if plan is not None and plan.has_left:
                continue
            if received.is_whole and conn.close_reason not in CUT_SHORT and not self._was_cut():
                violated(Invariant.IN_ORDER, f"{received.parts[1]!r} was never answered: {self._why()}", self.lane)

    def _was_cut(self) -> bool:
        return self.stream.is_reset or self.world.was_stopped or self.stream.resets_on_close

    def _see_interim(self, response: Heard, sent: Sent) -> None:
        if response.interim and (response.interim != [100] or not sent.expects):
            violated(Invariant.CONTINUE, f"{response.interim} before {response.status} to {sent.number}", self.lane)

    def _see_answer(self, response: Heard, sent: Sent, received: Received | None) -> None:
        """The application's."""
        if response.fields[b"x-id"] != b"%d" % sent.number:
            violated(Invariant.IN_ORDER, f"{response.fields[b'x-id']!r} answers {sent.number}", self.lane)
        plan = self.world.apps.plans[sent.number]
        if plan.calls != 1 or received is None or not (received.is_whole or not self.world.apps.gets_whole):
            violated(Invariant.APPLICATION, f"{sent.number} is answered, and never reached anybody", self.lane)
        if plan.fails and not plan.may_fail:
            violated(Invariant.APPLICATION, f"{sent.number} was to fail ({plan.kind})", self.lane)
        if response.status != plan.status:
            violated(Invariant.APPLICATION, f"{response.status} answers {sent.number}, not {plan.status}", self.lane)
        self._see_body(response, plan)

    def _see_body(self, response: Heard, plan: Plan) -> None:
        body = bytes(response.body)
        if plan.body is None:
            unit = plan.unit
            agrees = (unit * (len(body) // len(unit) + 1)).startswith(body)
        elif response.is_complete and not plan.cuts and not (response.until_close and not self.stream.has_fin):
            agrees = body == plan.body
        else:
            agrees = plan.body.startswith(body)
        if not agrees:
            violated(
                Invariant.ISOLATION, f"the body of {plan.number} ({plan.kind}) is another: {body[:80]!r}", self.lane
            )
        if response.is_complete and plan.cuts and plan.length != len(body) and response.method != b"HEAD":
            violated(Invariant.READABLE, f"the response to {plan.number} was cut, and looks complete", self.lane)
        is_truncated = self.conn is not None and self.conn.close_reason in TRUNCATED
        if not response.is_complete and self.stream.has_fin and not self._was_cut() and not is_truncated:
            violated(Invariant.READABLE, f"the response to {plan.number} ends in its middle", self.lane)

    def _see_own_answer(self, response: Heard, sent: Sent, received: Received | None, conn: WatchedConn) -> None:
        """The server's: a 500 for a failure, a 503 for too much, or a refusal."""
        status = response.status
        plan = self.world.apps.plans.get(sent.number)
        calls = plan.calls if plan is not None else 0
        if status == 500:
            if plan is None or not (plan.fails or plan.may_fail) or not calls:
                violated(Invariant.APPLICATION, f"500 answers {sent.number}, which did not fail", self.lane)
            return
        if status == 503 and plan is not None and plan.has_left and conn.asked_to_drain:
            return  # it was told that the server ends, and has not answered
        if calls and (self.world.apps.gets_whole or received is None or received.is_whole):
            violated(Invariant.APPLICATION, f"{status} answers {sent.number}, which the application has", self.lane)
        if not response.says_close:
            violated(Invariant.CAUSE, f"{status} does not say that the connection ends", self.lane)
        if status == 503:
            if received is None or not received.is_whole or not self.world.swarm.threads:
                violated(Invariant.APPLICATION, f"503 answers {sent.number}, for no cause", self.lane)
            return
        consumed, end_seen = conn.decided_by or (0, False)
        allowed = set(sent.statuses)
        if consumed < sent.start + len(sent.wire):
            allowed.add(408)
            if end_seen:
                allowed.add(400)
        if status not in allowed:
            violated(
                Invariant.REFERENCE,
                f"{status} answers {sent.number}; {sorted(allowed)} could: {sent.wire[:120]!r}",
                self.lane,
            )

    # The end

    def _see_end(self, conn: WatchedConn) -> None:
        responses = self.peer.reader.responses
        cut = self._was_cut()
        reason = conn.close_reason
        last = responses[-1] if responses else None
        # A body may turn out to be invalid when its request is answered; then there is nothing left to say that in.
        is_told = last is not None and last.says_close
        is_late_refusal = reason is CloseReason.REFUSED and bool(conn.received) and not conn.received[-1].is_whole
        is_late_refusal = is_late_refusal and not self.world.apps.gets_whole
        if self.stream.has_fin and not cut and reason in SAID and not is_told and not is_late_refusal:
            violated(Invariant.CAUSE, f"the connection ended by {reason.name}, which no response says", self.lane)
        is_late = self.world.ended_at >= self.world.drain_at + self.world.swarm.timeouts.drain_timeout
        is_cut_off = reason in GIVEN_UP and (self._is_left(conn) or self.stream.has_left(conn.whole_at))
        is_allowed = reason in CUT_SHORT or self.world.was_stopped or is_late or is_cut_off
        if self.stream.resets_on_close and not is_allowed and not self.peer.is_gone:
            violated(Invariant.GENTLE_END, f"a reset for {reason and reason.name}", self.lane)
        is_framed = last is not None and not last.is_complete and not last.until_close
        if self.stream.resets_on_close and reason in TRUNCATED and is_framed:
            violated(Invariant.GENTLE_END, "a reset for a response that everybody sees to be cut", self.lane)
        if last is not None and last.says_close and conn.state is State.HEAD:
            violated(Invariant.CAUSE, "a connection goes on that said that it would not", self.lane)
        if reason is CloseReason.APPLICATION_FAILED and not self._is_somebody_to_blame(conn):
            violated(Invariant.ISOLATION, "a connection was cut, and its application had not failed", self.lane)

    def _is_left(self, conn: WatchedConn) -> bool:
        """Whether the last application has given up, because it was told that its client has left."""
        plan = self.world.apps.plans.get(self.peer.sent[len(conn.received) - 1].number) if conn.received else None
        return plan is not None and plan.has_left

    def _is_somebody_to_blame(self, conn: WatchedConn) -> bool:
        plans = [self.world.apps.plans.get(sent.number) for sent in self.peer.sent]
        return any(plan is not None and plan.calls and (plan.cuts or plan.has_left) for plan in plans)


def replay(wire: bytes, ended: bool, conn: WatchedConn) -> tuple[list[Received], RefuseReason | None]:
    """Give the bytes in one piece to a fresh `Conn` in a world where no time passes; each request is answered."""
    other = Conn(conn._limits, LONG, clock=lambda: 0.0, wall_clock=lambda: 0.0)
    received: list[Received] = []
    for data in (wire, b"") if ended else (wire,):
        if not data and data is wire:
            continue
        if not other.wants_read:
            break
        events = other.receive_data(data)
        while events:
            for event in events:
                if type(event) is Request:
                    received.append(Received(event))
                    other.resume_body()
                elif isinstance(event, Refused):
                    return received, event.reason
                elif type(event) is EndOfMessage:
                    received[-1].trailers = tuple(event.trailers)
                    received[-1].is_whole = True
                elif received and hasattr(event, "data"):
                    received[-1].body += event.data
            if other.state is State.HANDLING:
                other.send(Response(200))
            if other.output_bytes:
                other.data_sent(other.output_bytes)
            events = other.next_events()
    return received, None
