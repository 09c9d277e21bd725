"""What happened on one connection, to be looked at as a whole when it is over."""

from dataclasses import dataclass, field

from h1core.config import Limits
from h1core.events import (
    Data,
    EndOfMessage,
    Event,
    Headers,
    InformationalResponse,
    Refused,
    Request,
    Response,
    Sendable,
    Switched,
    TimedOut,
)
from h1core.http1.conn import Conn
from h1core.http1.state import State

from .corpus_files import Message
from .promises import LAST_WORDS
from .reference import Answer, End, Reading, read_requests, read_responses


@dataclass(slots=True)
class Exchange:
    """A request that came out, and what the application said to it."""

    request: Request
    body: bytes = b""
    trailers: Headers = ()
    is_whole: bool = False
    interim: list[int] = field(default_factory=list)
    response: Response | None = None
    answer: bytes = b""
    is_answered: bool = False

    def message(self) -> Message:
        request = self.request
        fields, trailers = tuple(request.headers), tuple(self.trailers)
        return Message(request.method, request.target, request.version, fields, self.body, trailers)


@dataclass(slots=True)
class Journal:
    """Bytes in, events, what was sent, bytes out; `is_cut` when bytes that were owed may never have been written."""

    received: bytes = b""
    written: bytes = b""
    exchanges: list[Exchange] = field(default_factory=list)
    last_word: Event | None = None
    has_ended: bool = False
    is_cut: bool = False
    switched: bool = False

    def fields(self) -> list[tuple[bytes, bytes]]:
        """What the response to the request in hand has to bear, so that it is known again."""
        return [(b"X-N", b"%d" % (len(self.exchanges) - 1))]

    def came(self, event: Event) -> None:
        """Hold an event to the grammar of events: Request, Data…, EndOfMessage, and nothing after a last word."""
        assert self.last_word is None, f"{event} after {self.last_word}"
        if isinstance(event, LAST_WORDS):
            self.last_word = event
            return
        if isinstance(event, Request):
            assert not self.exchanges or self.exchanges[-1].is_answered, f"{event}, and the one before has no answer"
            self.exchanges.append(Exchange(event, is_whole=event.end_stream))
            return
        assert self.exchanges, f"{event} without a request"
        exchange = self.exchanges[-1]
        match event:
            case Data():
                assert event.data
                assert not exchange.is_whole
                assert not exchange.is_answered, "a body that nobody wants"
                exchange.body += bytes(event.data)
            case EndOfMessage():
                assert not exchange.is_whole
                exchange.is_whole, exchange.trailers = True, event.trailers
            case _:
                assert isinstance(event, Switched)
                assert self.received.endswith(bytes(event.data)), "bytes behind the switch were lost"

    def sent(self, event: Sendable) -> None:
        """Write down what `Conn.send` accepted."""
        exchange = self.exchanges[-1]
        match event:
            case InformationalResponse():
                exchange.interim.append(event.status)
            case Response():
                assert exchange.response is None, "two responses to one request"
                exchange.response = event
                exchange.is_answered = event.body is not None
                if event.body is not None:
                    assert isinstance(event.body, bytes | bytearray | memoryview)
                    exchange.answer = bytes(event.body)
            case Data():
                exchange.answer += bytes(event.data)
            case EndOfMessage():
                exchange.is_answered = True

    # When it is over.

    def compare(self, limits: Limits) -> None:
        """Hold all of it to the naive reader: what came out of what went in, and what was written."""
        self.compare_requests(read_requests(self.received, limits, tunnels=True))
        self.compare_answers()

    def compare_requests(self, reading: Reading) -> None:
        expected = [*reading.messages, *([reading.partial] if reading.partial else [])]
        assert len(self.exchanges) <= len(expected), "a request that nobody sent"
        for number, (exchange, message) in enumerate(zip(self.exchanges, expected, strict=False)):
            came = exchange.message()
            if exchange.is_whole:
                assert came == message
                assert number < len(reading.messages), "whole before it was"
            else:
                assert message.body.startswith(came.body)
                assert (came.method, came.target, came.headers) == (message.method, message.target, message.headers)
        if isinstance(self.last_word, Refused):
            assert reading.end is End.REFUSED or (self.has_ended and reading.end is End.INSIDE), self.last_word

    def nothing_was_lost(self, conn: Conn, limits: Limits) -> None:
        """A connection that waits for a request has given out all that were sent."""
        if conn.state is State.HEAD and conn.close_reason is None and conn.output_bytes <= limits.max_output_bytes:
            reading = read_requests(self.received, limits, tunnels=True)
            assert [exchange.request.target for exchange in self.exchanges] == [one.target for one in reading.messages]
            assert reading.end in (End.BETWEEN, End.INSIDE)

    def compare_answers(self) -> None:
        """One answer to each request that the application answered, in order; then perhaps one of h1core's own."""
        methods = [exchange.request.method for exchange in self.exchanges]
        answers, behind = read_responses(self.written, [*methods, b"GET"], has_ended=True)
        assert not behind or self.is_cut or self.switched, f"written behind the last answer: {behind!r}"
        finals = [answer for answer in answers if answer.status >= 200 or answer.status == 101]
        given = [answer for answer in finals if answer.get(b"x-n") is not None]
        own = finals[len(given) :]
        assert finals[: len(given)] == given, "h1core's own answer before one of the application's"
        assert len(own) <= 1, "two answers of h1core's own"
        for answer in own:
            assert self.switched or answer.get(b"connection") == b"close"
            assert self.switched or isinstance(self.last_word, Refused | TimedOut)
        answered = [exchange for exchange in self.exchanges if exchange.response is not None]
        assert len(given) == len(answered) or (self.is_cut and len(given) < len(answered))
        for exchange, answer in zip(answered, given, strict=False):
            self.compare_answer(exchange, answer)

    def compare_answer(self, exchange: Exchange, answer: Answer) -> None:
        response = exchange.response
        assert response is not None
        assert answer.get(b"x-n") == b"%d" % self.exchanges.index(exchange), "answers in the wrong order"
        assert answer.status == response.status
        assert answer.is_whole or self.is_cut or not exchange.is_answered
        if answer.is_whole and exchange.is_answered and not answer.until_close:
            has_body = exchange.request.method != b"HEAD" and response.status not in (204, 304)
            assert answer.body == (exchange.answer if has_body else b"")
        else:
            assert exchange.answer.startswith(answer.body)
