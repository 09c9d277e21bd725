"""The application's half of a connection: responses, 100, upgrades, Date, and what may not be sent."""

from http import HTTPStatus
from typing import Any

import pytest

from h1core import (
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    InformationalResponse,
    Refused,
    RefuseReason,
    Request,
    Response,
    State,
    Switched,
)
from h1core.http1.date import DateField
from h1core.testing import FakeClock
from tests.feed import byte_by_byte
from tests.kit import (
    BODY,
    CONNECT,
    EXPECTING,
    GET,
    OK,
    OLD_GET,
    POST,
    STREAMED,
    UPGRADE,
    a_conn,
    conn_at,
    end_of,
    flush,
    local_error,
    play,
    receive,
    request,
    sent_by,
    wants_read,
    where,
)

HOST = [(b"host", b"x")]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OLD_KEPT_GET = request("GET / HTTP/1.0", "Connection: keep-alive")


# Responses and their framing on the wire.


def test_a_whole_response_is_one_buffer() -> None:
    conn = a_conn()
    play(conn, GET, Response(200, [(b"A", b"b")], b"hello"))
    assert bytes(conn.data_to_send()) == b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize("body", [b"hello", bytearray(b"hello"), memoryview(b"hello")])
def test_a_body_may_be_anything_like_bytes(body: Any) -> None:
    for actions in ((Response(200, (), body),), (STREAMED, Data(body), EndOfMessage())):
        assert sent_by(GET, *actions).partition(b"\r\n\r\n")[2] in {b"hello", b"5\r\nhello\r\n0\r\n\r\n"}


def test_a_streamed_response_is_chunked_with_trailers() -> None:
    written = sent_by(GET, STREAMED, Data(b"hello"), Data(b""), Data(b"!"), EndOfMessage([(b"A", b"b")]))
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert written == head + b"5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"


def test_a_streamed_response_that_knows_its_length_is_not_chunked() -> None:
    streamed = Response(200, [(b"Content-Length", b"6")], None)
    written = sent_by(GET, streamed, Data(b"hello"), Data(b"!"), EndOfMessage())
    assert written == b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"


def test_to_an_old_peer_the_end_of_the_connection_ends_a_stream() -> None:
    conn = a_conn()
    play(conn, OLD_KEPT_GET, STREAMED, Data(b"hello"), EndOfMessage([(b"A", b"b")]))
    assert flush(conn) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert end_of(conn) == (CloseReason.CLOSE_DELIMITED, Disposition.LINGER)


HEAD = request("HEAD / HTTP/1.1")


@pytest.mark.parametrize(
    ("asked", "response", "written"),
    [
        (HEAD, Response(200, [(b"Content-Length", b"5")]), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (HEAD, Response(200), b"HTTP/1.1 200 OK\r\n\r\n"),
        (GET, Response(204), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, Response(304, [(b"ETag", b'"x"')]), b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'),
        (GET, Response(205), b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"),
    ],
)
def test_a_response_without_a_body_is_its_head_and_the_next_one_follows(
    asked: bytes, response: Response, written: bytes
) -> None:
    next_one = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert sent_by(asked, response, GET, OK) == written + next_one
    if response.status != 205:
        streamed = Response(response.status, response.headers, None)
        assert sent_by(asked, streamed, EndOfMessage(), GET, OK) == written + next_one


def test_a_status_may_be_one_of_the_standard_library() -> None:
    assert sent_by(GET, Response(HTTPStatus.NOT_FOUND)).startswith(b"HTTP/1.1 404 Not Found\r\n")


# What the application may not do: nothing is queued, nothing has changed.

CRLF = [(b"X", b"a\r\nSet-Cookie: b")]
LENGTH = (b"Content-Length", b"5")
CODING = (b"Transfer-Encoding", b"chunked")


@pytest.mark.parametrize(
    ("asked", "mistake", "sentence"),
    [
        # O1, O2: splitting
        (GET, Response(200, CRLF), "a header value has no control bytes"),
        (GET, Response(200, [(b"X\r\nY", b"a")]), "a header name is a token"),
        (GET, Response(200, [(b"X", b"\x00")]), "a header value has no control bytes"),
        (GET, Response(200, CRLF, None), "a header value has no control bytes"),
        (GET, InformationalResponse(103, CRLF), "a header value has no control bytes"),
        # O3: a reason has no control byte; a status is a number
        (GET, Response(200, reason=b"OK\r\nX: y"), "a reason phrase is bytes without control bytes"),
        (GET, Response(200, (), None, b"OK\x00"), "a reason phrase is bytes without control bytes"),
        (GET, Response(200, reason="OK"), "a reason phrase is bytes"),  # type: ignore[arg-type]  # no bytes
        (GET, Response("200 OK\r\nX: y"), "a final status is a whole number"),  # type: ignore[arg-type]  # no number
        (GET, Response(100), "a final status is a whole number"),
        (GET, InformationalResponse(200), "an interim status is a whole number"),
        (GET, InformationalResponse(101), r"call Conn\.switch_protocols"),
        # wrong types
        (GET, Response(200, [("X", "a")]), "header names and values are bytes"),  # type: ignore[list-item]  # no bytes
        (GET, Response(200, {b"X": b"a"}), "headers are pairs"),  # type: ignore[arg-type]  # no pairs
        (GET, Response(200, (), "text"), "to stream, send"),  # type: ignore[arg-type]  # no bytes
        (GET, Response(200, (), [b"a"]), "to stream, send"),
        (GET, "text", "Conn.send takes Response"),
        (GET, Request(b"GET", b"/", ()), "Conn.send takes Response"),
        # O5: bodies where none may be
        (HEAD, Response(200, (), b"x"), "a response to HEAD has no body; send it with body=b''"),
        (GET, InformationalResponse(103, [LENGTH]), "an interim response has no body"),
        # O6: lengths that are not the body's, and both framings
        (GET, Response(200, [LENGTH], b"four"), "Content-Length says 5 and the body has 4 bytes; leave the field out"),
        (GET, Response(200, [LENGTH, (b"content-length", b"4")], None), "the field content-length may stand once"),
        (GET, Response(200, [CODING, (CODING[0], b"gzip")], None), "the field transfer-encoding may stand once"),
        (GET, Response(200, [(CODING[0], b"gzip")], None), "the only transfer coding is chunked"),
        (GET, Response(200, [(b"Content-Length", b"+5")], None), "Content-Length must be one decimal number"),
        (POST, Response(200, CRLF), "a header value has no control bytes"),
        (POST, Response(200, CRLF, None), "a header value has no control bytes"),
        (CONNECT, Response(200), r"call Conn\.switch_protocols"),
        (CONNECT, Response(204, (), None), r"call Conn\.switch_protocols"),
    ],
)
def test_what_may_not_be_sent_is_said_and_a_right_answer_goes_out_after_all(
    asked: bytes, mistake: Any, sentence: str
) -> None:
    conn = a_conn(upgrades={b"connect"})
    play(conn, asked)
    with local_error(conn, sentence):
        conn.send(mistake)
    play(conn, Response(404))
    assert flush(conn).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("head", "mistake", "sentence"),
    [
        (Response(200, [LENGTH], None), Data(b"sixsix"), "1 bytes longer than Content-Length said"),
        (Response(200, [LENGTH], None), EndOfMessage(), "5 bytes shorter than Content-Length said; call Conn.abort"),
        (STREAMED, Data("text"), "a body is bytes"),  # type: ignore[arg-type]  # no bytes
        (STREAMED, EndOfMessage(CRLF), "a header value has no control bytes"),
        (STREAMED, EndOfMessage([LENGTH]), "do not stand in a trailer section"),
        (STREAMED, Response(200), "RESPONSE is out of turn: .* the application's turn is: RESPONSE_DATA, RESPONSE_END"),
        (STREAMED, InformationalResponse(103), "INFORMATIONAL is out of turn"),
    ],
)
@pytest.mark.parametrize("asked", [GET, POST])
def test_what_may_not_be_streamed_is_said(asked: bytes, head: Response, mistake: Any, sentence: str) -> None:
    conn = a_conn()
    play(conn, asked, head)
    flush(conn)
    with local_error(conn, sentence):
        conn.send(mistake)


def test_who_is_out_of_turn_is_told_whose_turn_it_is_and_why() -> None:
    conn = conn_at(State.HEAD)
    with local_error(conn, "the application's turn is: none, until the next Request$"):
        conn.send(OK)
    conn = conn_at(State.HANDLING)
    with local_error(conn, "the application's turn is: INFORMATIONAL, RESPONSE, RESPONSE_HEAD, SWITCH$"):
        conn.send(EndOfMessage())
    conn = conn_at(State.ENDING)
    with local_error(conn, "the connection is ENDING because the client asked for the connection to close"):
        conn.send(OK)


# 100-continue and other interim responses.


def test_100_is_sent_once_when_the_application_first_asks_for_the_body() -> None:
    conn = a_conn()
    play(conn, EXPECTING)
    assert (flush(conn), wants_read(conn)) == (b"", False)
    play(conn, Conn.resume_body, Conn.resume_body, Conn.pause_body, Conn.resume_body)
    assert (flush(conn), wants_read(conn)) == (CONTINUE, True)
    assert play(conn, BODY, Conn.resume_body) == [Data(BODY), EndOfMessage()]
    play(conn, OK, Conn.resume_body)
    assert flush(conn) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("asked", [GET, POST, request("POST / HTTP/1.0", "Content-Length: 10", "Expect: 100-continue")])
def test_100_is_not_sent_to_who_does_not_wait(asked: bytes) -> None:
    assert sent_by(asked, Conn.resume_body, Conn.pause_body, Conn.resume_body) == b""


@pytest.mark.parametrize("pieces", [[EXPECTING + BODY[:1]], [EXPECTING, BODY[:1]]])
def test_100_is_not_sent_when_the_body_came_unasked(pieces: list[bytes]) -> None:
    assert sent_by(*pieces, Conn.resume_body) == b""


def test_100_may_be_said_by_the_application_itself() -> None:
    conn = a_conn()
    play(conn, EXPECTING, InformationalResponse(100), Conn.resume_body)
    assert (flush(conn), wants_read(conn)) == (CONTINUE, True)


def test_another_interim_response_asks_for_no_body() -> None:
    conn = a_conn()
    play(conn, EXPECTING, InformationalResponse(103))
    assert not wants_read(conn)
    flush(conn)
    play(conn, Conn.resume_body)
    assert flush(conn) == CONTINUE


@pytest.mark.parametrize("response", [(Response(403),), (Response(403, (), None), EndOfMessage())])
def test_a_final_response_in_place_of_100_ends_the_connection(response: Any) -> None:
    conn = a_conn()
    play(conn, EXPECTING, *response)
    assert end_of(conn)[0] is CloseReason.CONTINUE_OWED
    assert play(conn, Conn.resume_body, BODY, GET) == []
    written = flush(conn)
    assert (CONTINUE in written, b"\r\nconnection: close\r\n" in written) == (False, True)
    assert end_of(conn) == (CloseReason.CONTINUE_OWED, Disposition.LINGER)


def test_what_comes_during_a_response_in_place_of_100_is_thrown_away() -> None:
    conn = a_conn()
    play(conn, EXPECTING, Response(200, (), None))
    assert (where(conn), wants_read(conn)) == (State.RESPONDING, True)
    assert play(conn, BODY, Conn.resume_body, Data(b"x"), GET, EndOfMessage(), GET) == []
    assert CONTINUE not in flush(conn)


def test_interim_responses_come_before_the_final_one_and_as_often_as_one_likes() -> None:
    for asked in (GET, POST):
        written = sent_by(asked, InformationalResponse(103, [(b"Link", b"</a>")]), InformationalResponse(102), OK)
        statuses = [line.split()[1] for line in written.split(b"\r\n") if line.startswith(b"HTTP/")]
        assert statuses == [b"103", b"102", b"200"]
        assert b"\r\nLink: </a>\r\n\r\n" in written


def test_an_http_1_0_peer_sees_no_interim_response() -> None:
    assert sent_by(OLD_GET, InformationalResponse(103)) == b""
    conn = a_conn()
    play(conn, OLD_GET)
    with local_error(conn, "a header value has no control bytes"):
        conn.send(InformationalResponse(103, CRLF))


# Upgrades and tunnels.


def upgradable(*actions: Any) -> Conn:
    conn = a_conn(upgrades={b"chat", b"connect"})
    play(conn, *actions)
    return conn


@pytest.mark.parametrize(
    ("asked", "protocol", "head"),
    [
        (UPGRADE, b"chat", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\nA: b\r\n\r\n"),
        (CONNECT, b"connect", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
    ],
)
def test_a_protocol_is_taken_with_the_bytes_behind_the_request(asked: bytes, protocol: bytes, head: bytes) -> None:
    for pieces in ([asked + b"hello"], [asked, b"he", b"llo"], byte_by_byte(asked + b"hello")):
        conn = upgradable()
        [event] = receive(conn, pieces)
        assert isinstance(event, Request)
        assert event.upgrade == protocol
        assert conn.switch_protocols([(b"A", b"b")]) == [Switched(protocol, b"hello")]
        assert flush(conn) == head
        assert (where(conn), conn.next_deadline, wants_read(conn)) == (State.SWITCHED, None, False)


@pytest.mark.parametrize(
    "asked",
    [
        request("CONNECT x:443 HTTP/1.0"),
        request("GET / HTTP/1.1", "Connection: upgrade, close", "Upgrade: chat"),
        request("CONNECT x:443 HTTP/1.1", "Connection: close"),
    ],
)
@pytest.mark.parametrize("behind", ["in the same read", "in a later read"])
def test_bytes_for_the_protocol_are_not_lost_when_the_peer_asks_to_close(asked: bytes, behind: str) -> None:
    conn = upgradable(*([asked + b"hello"] if behind == "in the same read" else [asked, b"hello"]))
    assert conn.switch_protocols() == [Switched(b"chat" if b"chat" in asked else b"connect", b"hello")]


def test_a_protocol_may_be_taken_after_the_body_of_the_request() -> None:
    asked = request("POST / HTTP/1.1", "Connection: upgrade", "Upgrade: chat", "Content-Length: 10")
    conn = upgradable(asked)
    with local_error(conn, "^SWITCH is out of turn: the connection is RECEIVING"):
        conn.switch_protocols()
    play(conn, BODY + b"hello")
    assert conn.switch_protocols() == [Switched(b"chat", b"hello")]


def test_a_protocol_that_is_not_wanted_is_ignored() -> None:
    conn = a_conn()
    assert play(conn, UPGRADE) == [Request(b"GET", b"/", [*HOST, (b"connection", b"upgrade"), (b"upgrade", b"chat")])]
    with local_error(conn, "offers no protocol that this Conn was told to take"):
        conn.switch_protocols()
    play(conn, OK, GET)
    assert (where(conn), end_of(conn)[0]) == (State.HANDLING, None)


def test_an_upgrade_may_be_declined() -> None:
    conn = upgradable(UPGRADE + GET, OK)
    assert (end_of(conn)[0], len(conn.next_events())) == (None, 1)
    with local_error(conn, "offers no protocol"):
        conn.switch_protocols()


def test_a_tunnel_that_nobody_opens_is_refused() -> None:
    assert a_conn().receive_data(CONNECT) == [Refused(501, RefuseReason.CONNECT_REFUSED)]


@pytest.mark.parametrize("response", [(Response(403),), (Response(403, (), None), Data(b"no"), EndOfMessage())])
def test_a_declined_tunnel_ends_the_connection(response: Any) -> None:
    conn = upgradable(CONNECT + GET, *response)
    assert (conn.next_events(), end_of(conn)[0]) == ([], CloseReason.TUNNEL_DECLINED)
    assert b"\r\nconnection: close\r\n" in flush(conn)
    assert (play(conn, GET), conn.disposition) == ([], Disposition.LINGER)


@pytest.mark.parametrize("state", [State.RESPONDING, State.HEAD, State.SWITCHED])
def test_a_protocol_is_taken_once_and_in_time(state: State) -> None:
    steps: dict[State, list[Any]] = {
        State.RESPONDING: [STREAMED],
        State.HEAD: [OK],
        State.SWITCHED: [Conn.switch_protocols],
    }
    conn = upgradable(UPGRADE, *steps[state])
    with local_error(conn, f"^SWITCH is out of turn: the connection is {state.name}"):
        conn.switch_protocols()


@pytest.mark.parametrize("headers", [CRLF, [LENGTH], [("A", "b")]])
def test_a_mistake_in_the_answer_takes_no_protocol(headers: Any) -> None:
    for asked in (UPGRADE, CONNECT):
        conn = upgradable(asked + b"hello")
        with local_error(conn, "."):
            conn.switch_protocols(headers)
        assert conn.switch_protocols()[0] == Switched(b"chat" if asked is UPGRADE else b"connect", b"hello")


def test_after_the_switch_bytes_are_not_for_us() -> None:
    conn = conn_at(State.SWITCHED)
    with local_error(conn, "its bytes are not for h1core"):
        conn.receive_data(b"hello")
    with local_error(conn, "RESPONSE is out of turn: the connection is SWITCHED"):
        conn.send(OK)


# Date.


def dates_of(written: bytes) -> list[bytes]:
    return [line for line in written.split(b"\r\n") if line.startswith(b"date: ")]


def test_each_final_response_has_a_date_from_the_wall_clock() -> None:
    clock, wall = FakeClock(), FakeClock(784111777.0)
    conn = a_conn(clock, wall_clock=wall)
    play(conn, GET, InformationalResponse(103), OK, GET, STREAMED, EndOfMessage())
    assert dates_of(flush(conn)) == [b"date: Sun, 06 Nov 1994 08:49:37 GMT"] * 2
    clock.advance(1.0)
    wall.now -= 3600  # it was set back
    play(conn, b"\x16")
    assert dates_of(flush(conn)) == [b"date: Sun, 06 Nov 1994 07:49:37 GMT"]


def test_a_date_field_may_be_shared() -> None:
    date = DateField(FakeClock(784111777.0))
    for conn in (a_conn(wall_clock=date), a_conn(wall_clock=date)):
        play(conn, GET, OK)
        assert dates_of(flush(conn)) == [b"date: Sun, 06 Nov 1994 08:49:37 GMT"]


def test_without_a_wall_clock_there_is_no_date() -> None:
    assert dates_of(sent_by(GET, OK, b"\x16")) == []


def test_names_are_given_as_sent_to_who_asks() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-UPPER:  1 \r\nx-lower:2\r\nX-UPPER:3\r\nX-Empty:\r\n\r\n"
    for _ in range(4):  # it is remembered
        [request] = a_conn().receive_data(head)
        assert isinstance(request, Request)
        assert request.raw_head == head
        assert request.raw_headers == [
            (b"Host", b"a"),
            (b"X-UPPER", b"1"),
            (b"x-lower", b"2"),
            (b"X-UPPER", b"3"),
            (b"X-Empty", b""),
        ]
        assert [(name.lower(), value) for name, value in request.raw_headers] == request.headers
    assert Request(b"GET", b"/", [(b"a", b"b")]).raw_headers == [(b"a", b"b")]
