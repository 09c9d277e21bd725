"""What holds for every stream of bytes and every response, looked for by hypothesis; profiles are in conftest.py."""

from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h1core.config import Limits
from h1core.errors import LocalError
from h1core.events import Data, EndOfMessage, Headers, InformationalResponse, Response, Sendable
from h1core.http1.hop_fields import HOP_FIELDS
from h1core.http1.state import State
from h1core.http1.statuses import NO_LENGTH, WITHOUT_CONTENT

from .agreement import agree
from .corpus_files import Case, Fields, Message, load
from .feed import Outcome, byte_by_byte, drain, messages, new_conn, read
from .promises import snapshot
from .reference import End, read_requests
from .strategies import Scripted, as_received, broken_streams, exchanges, limits_near, pieces_of, streams

ADDED = frozenset(b"content-length transfer-encoding connection date".split())


# What a peer sends.


@given(streams(), st.data())
def test_a_valid_stream_is_read_as_what_was_sent(stream: tuple[bytes, list[Message]], data: st.DataObject) -> None:
    wire, sent = stream
    events, after = read(Limits(), [wire])
    assert messages(events) == (sent, None)
    assert read(Limits(), data.draw(pieces_of(wire))) == (events, after)
    assert read(Limits(), byte_by_byte(wire)) == (events, after)


@given(broken_streams(), st.sampled_from([[], [b""]]), st.data())
def test_how_a_broken_stream_is_cut_means_nothing(wire: bytes, end: list[bytes], data: st.DataObject) -> None:
    limits = data.draw(limits_near(wire))
    expected = read(limits, [wire, *end])
    assert read(limits, [*data.draw(pieces_of(wire)), *end]) == expected
    assert read(limits, [*byte_by_byte(wire), *end]) == expected


@given(broken_streams(), st.data())
def test_what_comes_of_a_stream_is_what_a_naive_reader_says(wire: bytes, data: st.DataObject) -> None:
    agree(wire, data.draw(limits_near(wire)))


@given(streams(), st.data())
def test_a_naive_reader_reads_a_valid_stream_as_what_was_sent(
    stream: tuple[bytes, list[Message]], data: st.DataObject
) -> None:
    wire, sent = stream
    assert read_requests(wire, Limits()).messages == sent
    agree(wire, data.draw(limits_near(wire)))
    agree(wire[: data.draw(st.integers(1, len(wire)))], Limits())


@pytest.mark.parametrize("case", load("valid") + load("invalid"), ids=lambda case: case.name)
def test_a_naive_reader_says_of_the_corpus_what_its_verdicts_say(case: Case) -> None:
    reading = read_requests(case.wire, Limits())
    assert (reading.messages, reading.partial) == (list(case.requests), case.partial)
    expected = End.CLOSED if case.closes else End.REFUSED if case.reason else End.BETWEEN
    assert reading.end is (End.INSIDE if case.eof else expected)


# What the application sends.


@dataclass(slots=True)
class Heard:
    """A response, as it was given to h1core or as h11 understood it."""

    interim: list[tuple[int, Fields]] = field(default_factory=list)
    status: int = 0
    headers: Fields = ()
    body: bytes = b""
    trailers: Fields = ()


def hear(client: h11.Connection, output: bytes, ended: bool) -> Heard:
    """Let h11 read everything up to the end of a response."""
    heard = Heard()
    client.receive_data(output)
    if ended:
        client.receive_data(b"")
    while type(event := client.next_event()) is not h11.EndOfMessage:
        match event:
            case h11.InformationalResponse():
                heard.interim.append((event.status_code, tuple(event.headers)))
            case h11.Response():
                heard.status, heard.headers = event.status_code, tuple(event.headers)
            case h11.Data():
                heard.body += bytes(event.data)
            case _:
                pytest.fail(f"h11 says {event!r} inside of {output!r}")
    heard.trailers = tuple(event.headers)
    return heard


def as_sent(headers: Headers, status: int) -> tuple[tuple[bytes, bytes], ...]:
    """What is sent of the fields that are given."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in as_received(headers):
        is_left_out = name == b"connection" or name in HOP_FIELDS or (name == b"content-length" and status in NO_LENGTH)
        is_said = name in (b"content-length", b"date") and (name, value) in kept
        if not (is_left_out or is_said):
            kept.append((name, value))
    return tuple(kept)


def note(event: Sendable, said: Heard, version: bytes) -> None:
    """Write down what an accepted event adds to a response."""
    match event:
        case InformationalResponse() if version == b"1.1":
            said.interim.append((event.status, as_sent(event.headers, event.status)))
        case Response():
            said.status, said.headers = event.status, as_sent(event.headers, event.status)
            if event.body is not None and event.status not in WITHOUT_CONTENT:
                assert isinstance(event.body, bytes | bytearray | memoryview)
                said.body = bytes(event.body)
        case Data() if said.status not in WITHOUT_CONTENT:
            said.body += bytes(event.data)
        case EndOfMessage():
            said.trailers = as_received(event.trailers)


def assert_heard_as_said(heard: Heard, said: Heard, method: bytes, version: bytes) -> None:
    assert (heard.interim, heard.status, heard.body) == (said.interim, said.status, said.body)
    assert heard.headers[: len(said.headers)] == said.headers
    added = [name for name, _ in heard.headers[len(said.headers) :]]
    given_names = {name for name, _ in said.headers} - {b"connection"}
    assert len(added) == len(set(added))
    assert ADDED - given_names >= set(added)
    is_chunked = (b"transfer-encoding", b"chunked") in heard.headers and method != b"HEAD" and said.status != 304
    assert heard.trailers == (said.trailers if is_chunked else ())


@given(st.lists(exchanges(), min_size=1, max_size=3))
def test_what_is_sent_is_read_back_the_same(script: list[Scripted]) -> None:
    conn = new_conn()
    client = h11.Connection(h11.CLIENT)
    for exchange in script:
        method, version = exchange.method, exchange.version
        conn.receive_data(exchange.wire)
        # Whatever the version: h11 speaks 1.1 only, and h1core answers in 1.1.
        client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
        client.send(h11.EndOfMessage())
        said, outcome = Heard(), Outcome()
        for event in exchange.sendables:
            before = snapshot(conn)
            try:
                conn.send(event)
            except LocalError:
                assert snapshot(conn) == before
            else:
                note(event, said, version)
        if conn.state in (State.HANDLING, State.RESPONDING):
            return  # the application never finished; the machine in test_machine.py goes on from here
        drain(conn, outcome)
        closes = conn.close_reason is not None
        heard = hear(client, b"".join(outcome.outputs), closes)
        assert_heard_as_said(heard, said, method, version)
        assert client.trailing_data == (b"", closes)
        assert (client.our_state is h11.MUST_CLOSE) == closes
        if closes:
            return
        client.start_next_cycle()
