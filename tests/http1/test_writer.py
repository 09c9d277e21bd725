"""Responses as bytes, and everything that a caller may not say. What is queued after a mistake, test_conn.py asks."""

import itertools
from http import HTTPStatus
from typing import Any

import pytest

from h1core import CloseReason, InformationalResponse, LocalError, RefuseReason, Response
from h1core.http1 import writer
from h1core.http1.framing import CHUNKED, FORBIDDEN, NO_BODY, UNTIL_CLOSE, Framing, Kind
from h1core.http1.hop_fields import HOP_FIELDS, LeftOut
from h1core.http1.output import SMALL_BYTES
from h1core.http1.writer import BodyWriter, informational_head, streamed_head, switch_head, whole_head

DATE = b"date: now\r\n"


def whole(
    response: Response,
    *,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    close_reason: CloseReason | None = None,
    date: bytes = b"",
) -> tuple[bytes, CloseReason | None]:
    assert isinstance(response.body, bytes)
    return whole_head(response, len(response.body), method, version, close_reason, date)


def head_of(*headers: tuple[bytes, bytes], status: int = 200) -> bytes:
    return whole(Response(status, headers))[0]


# Heads.


def test_the_shortest_head() -> None:
    assert whole(Response(200)) == (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None)


def test_fields_are_sent_as_given_and_ours_behind_them() -> None:
    head = whole(Response(404, [(b"X-A", b" b\t"), (b"X-A", b"\xe4")], b"hello"), date=DATE)[0]
    lines = b"X-A: b\r\nX-A: \xe4\r\ncontent-length: 5\r\ndate: now\r\n\r\n"
    assert head == b"HTTP/1.1 404 Not Found\r\n" + lines


def test_what_the_caller_says_we_do_not_say_again() -> None:
    headers = [(b"Content-Length", b"2"), (b"Date", b"then"), (b"Connection", b"close")]
    head, reason = whole(Response(200, headers, b"hi"), close_reason=None, date=DATE)
    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: then\r\nconnection: close\r\n\r\n"
    assert reason is CloseReason.APPLICATION_ASKED


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_connection_that_ends_says_so_once(version: bytes) -> None:
    head, reason = whole(Response(200), version=version, close_reason=CloseReason.DRAINING)
    assert head.count(b"connection: close\r\n") == 1
    assert reason is CloseReason.DRAINING
    said = Response(200, [(b"Connection", b"close")])
    head, reason = whole(said, version=version, close_reason=CloseReason.DRAINING)
    assert head.lower().count(b"connection:") == 1
    assert reason is CloseReason.DRAINING


def test_an_http_1_0_peer_is_told_that_the_connection_persists() -> None:
    assert b"\r\nconnection: keep-alive\r\n" in whole(Response(200), version=b"1.0")[0]
    said = whole(Response(200, [(b"Connection", b"Keep-Alive")]), version=b"1.0")[0]
    assert said.lower().count(b"connection:") == 1


def test_several_connection_fields_are_one_list() -> None:
    headers = [(b"Connection", b"upgrade"), (b"Connection", b"close")]
    assert whole(Response(200, headers))[1] is CloseReason.APPLICATION_ASKED


@pytest.mark.parametrize("status", [status.value for status in HTTPStatus if status.value >= 200])
def test_a_registered_status_has_a_phrase(status: int) -> None:
    start, phrase = head_of(status=status).split(b"\r\n")[0].rsplit(b"%d " % status)
    assert (start, bool(phrase)) == (b"HTTP/1.1 ", True)


def test_the_phrases_are_those_of_rfc_9110_whatever_the_standard_library_says() -> None:
    phrases = {413: b"Content Too Large", 414: b"URI Too Long", 416: b"Range Not Satisfiable"}
    for status, phrase in (phrases | {422: b"Unprocessable Content"}).items():
        assert head_of(status=status).startswith(b"HTTP/1.1 %d %b\r\n" % (status, phrase))


@pytest.mark.parametrize("status", [299, 499, 599])
def test_any_other_status_has_an_empty_one(status: int) -> None:
    assert head_of(status=status).startswith(b"HTTP/1.1 %d \r\n" % status)


@pytest.mark.parametrize("status", [100, 101, 199, 600, 0, -200, True, "200", 200.5, None])
def test_a_final_status_is_from_200_to_599(status: Any) -> None:
    with pytest.raises(LocalError, match=r"^a final status is a whole number from 200 to 599, not "):
        head_of(status=status)


@pytest.mark.parametrize("status", [99, 200, 0, "100", 100.0, None, True])
def test_an_interim_status_is_from_100_to_199(status: Any) -> None:
    with pytest.raises(LocalError, match=r"^an interim status is a whole number from 100 to 199, not "):
        informational_head(InformationalResponse(status))


@pytest.mark.parametrize("status", [HTTPStatus.OK, HTTPStatus.NOT_FOUND])
def test_a_status_may_be_one_of_the_standard_library(status: HTTPStatus) -> None:
    assert head_of(status=status) == head_of(status=status.value)


def test_an_interim_status_may_be_one_of_the_standard_library() -> None:
    assert informational_head(InformationalResponse(HTTPStatus.EARLY_HINTS)).startswith(b"HTTP/1.1 103 ")


def test_101_is_not_for_sending() -> None:
    with pytest.raises(LocalError, match=r"call Conn\.switch_protocols"):
        informational_head(InformationalResponse(101))


def test_an_interim_response_is_its_head() -> None:
    head = informational_head(InformationalResponse(103, [(b"Link", b"</a>; rel=preload")]))
    assert head == b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    assert informational_head(InformationalResponse(199)) == b"HTTP/1.1 199 \r\n\r\n"


def test_a_switch_names_the_protocol() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\nA: b\r\n\r\n"
    assert switch_head(b"chat", [(b"A", b"b")], DATE) == head


def test_a_tunnel_is_a_plain_200() -> None:
    assert switch_head(b"connect", (), b"") == b"HTTP/1.1 200 OK\r\n\r\n"
    assert switch_head(b"connect", (), DATE) == b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n"
    assert switch_head(b"connect", [(b"Date", b"then")], DATE) == b"HTTP/1.1 200 OK\r\nDate: then\r\n\r\n"


def test_an_interim_response_says_nothing_of_the_connection() -> None:
    steering = [(b"Connection", b"close"), (b"Upgrade", b"h2c"), (b"Keep-Alive", b"timeout=5")]
    said = informational_head(InformationalResponse(103, [(b"A", b"b"), *steering]))
    assert said == b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"


def test_a_switch_says_what_it_must_once() -> None:
    said = switch_head(b"chat", [(b"Connection", b"Upgrade"), (b"Upgrade", b"chat"), (b"A", b"b")], b"")
    assert said == b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\nA: b\r\n\r\n"


# What may not be said. Each is tried wherever fields are taken.

TAKES_FIELDS: dict[str, Any] = {
    "whole": lambda headers: whole(Response(200, headers)),
    "streamed": lambda headers: streamed_head(Response(200, headers, None), b"GET", b"1.1", None, b""),
    "informational": lambda headers: informational_head(InformationalResponse(103, headers)),
    "switch": lambda headers: switch_head(b"chat", headers, b""),
    "connect": lambda headers: switch_head(b"connect", headers, b""),
    "trailers": lambda headers: BodyWriter(CHUNKED).end(headers),
}
everywhere = pytest.mark.parametrize("take", TAKES_FIELDS.values(), ids=TAKES_FIELDS)

CONTROLS = [bytes([byte]) for byte in (*range(0x09), *range(0x0A, 0x20), 0x7F)]


@everywhere
def test_no_control_byte_gets_into_a_value(take: Any) -> None:
    for control in CONTROLS:
        for value in (control, b"a" + control, control + b"a", b"a" + control + b"b"):
            with pytest.raises(LocalError, match=r"^a header value has no control bytes, CR and LF least of all"):
                take([(b"X-Ok", b"ok"), (b"X", value)])


@everywhere
def test_a_name_is_a_token(take: Any) -> None:
    for name in (b"", b"a b", b"a:", b" a", b"a\t", b"a\r\nb", b"\xe4", b"a(", *CONTROLS):
        with pytest.raises(LocalError, match=r"^a header name is a token without spaces or colons"):
            take([(name, b"value")])


@everywhere
@pytest.mark.parametrize(
    "pair",
    [("a", "b"), (b"a", "b"), ("a", b"b"), (b"a", 1), (b"a", None), (None, b"b"), (bytearray(b"a"), b"b"), b"ab"],
)
def test_names_and_values_are_bytes(take: Any, pair: object) -> None:
    with pytest.raises(LocalError, match=r"^header names and values are bytes, such as "):
        take([pair])


@everywhere
@pytest.mark.parametrize("pair", [(), (b"a",), (b"a", b"b", b"c"), b"abc", 5, None])
def test_a_field_is_a_pair(take: Any, pair: object) -> None:
    with pytest.raises(LocalError, match=r"^headers are pairs "):
        take([pair])


@everywhere
def test_a_pair_may_be_a_list(take: Any) -> None:
    assert take([[b"X-Listed", b"b"]])


@pytest.mark.parametrize("where", list(TAKES_FIELDS))
def test_headers_are_a_sequence(where: str) -> None:
    with pytest.raises(LocalError, match=r"^headers are a sequence of pairs \(name, value\), not 5$"):
        TAKES_FIELDS[where](5)


def test_what_is_equal_to_a_remembered_field_is_taken_for_it() -> None:
    """A view of bytes is equal to bytes, and has their hash."""
    head = head_of((b"Connection", b"close"))
    view: Any = memoryview(b"close")
    assert head_of((b"Connection", view)) == head
    with pytest.raises(LocalError):
        head_of((b"Connection", view[:4]))


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Date"])
def test_a_field_of_framing_or_date_has_one_value(name: bytes) -> None:
    with pytest.raises(LocalError, match=f"^the field {name.decode().lower()} may stand once in a response$"):
        head_of((name, b"1"), (name.lower(), b"2"))


def test_a_value_that_is_given_twice_is_sent_once() -> None:
    twice = [(b"Content-Length", b"2"), (b"date", b"then"), (b"content-length", b" 2"), (b"Date", b"then")]
    assert whole(Response(200, twice, b"hi"))[0] == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ndate: then\r\n\r\n"


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding"])
@pytest.mark.parametrize("where", ["informational", "switch", "connect"])
def test_what_has_no_body_says_nothing_of_one(where: str, name: bytes) -> None:
    with pytest.raises(LocalError, match=r"has no body, so neither Content-Length nor Transfer-Encoding$"):
        TAKES_FIELDS[where]([(name, b"0")])


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Date"])
def test_a_control_field_is_no_trailer(name: bytes) -> None:
    with pytest.raises(LocalError, match="do not stand in a trailer section"):
        BodyWriter(CHUNKED).end([(name, b"0")])


# What is remembered of fields.


def test_an_ordinary_field_is_remembered() -> None:
    head_of((b"X-Ordinary", b"yes"))
    assert (b"X-Ordinary", b"yes") in writer._remembered


@pytest.mark.parametrize("name", sorted(writer.UNCACHED_FIELDS))
def test_a_secret_or_singular_field_is_not(name: bytes) -> None:
    head_of((name.title(), b"4321"), status=304)
    assert (name.title(), b"4321") not in writer._remembered


def test_the_memory_is_bounded_in_lines_and_bytes() -> None:
    long = (b"X", b"x" * writer.MAX_CACHED_FIELD_BYTES)
    head_of(long)
    assert long not in writer._remembered
    for number in range(3 * writer.MAX_CACHED_FIELDS):
        head_of((b"X-Number", b"%d" % number))
        assert len(writer._remembered) <= writer.MAX_CACHED_FIELDS


def test_a_head_comes_out_the_same_when_it_is_remembered() -> None:
    for headers in ([], [(b"X-Head", b"1")], ((b"X-Head", b"1"), (b"X-Other", b"2"))):
        for version, reason in itertools.product((b"1.1", b"1.0"), (None, CloseReason.PEER_ASKED)):
            response = Response(200, headers, b"")
            found = [writer.whole_head(response, 5, b"GET", version, reason, b"date: x\r\n") for _ in range(4)]
            assert found == found[:1] * 4
            lines = [b"%b: %b\r\n" % field for field in headers]
            assert found[0][0].startswith(
                b"".join([b"HTTP/1.1 200 OK\r\n", *lines, b"content-length: 5\r\ndate: x\r\n"])
            )
            assert (200, None, tuple(headers)) in writer._starts


def test_a_remembered_head_has_the_length_and_the_date_of_each_response() -> None:
    response = Response(200, [(b"X-Head", b"1")], b"")
    for _ in range(4):
        for size, date in itertools.product((5, 6, 0), (b"date: x\r\n", b"date: y\r\n", b"")):
            head, _ = writer.whole_head(response, size, b"GET", b"1.1", None, date)
            assert head == b"HTTP/1.1 200 OK\r\nX-Head: 1\r\ncontent-length: %d\r\n%b\r\n" % (size, date)


def test_a_head_with_what_is_not_remembered_is_not_remembered() -> None:
    for name in writer.UNCACHED_FIELDS - {b"content-length"}:
        for _ in range(4):
            writer.whole_head(Response(200, [(name, b"s3cret")], b""), 0, b"GET", b"1.1", None, b"")
    assert b"s3cret" not in repr(writer._starts).encode()


def test_a_remembered_head_is_none_for_another_method_or_status() -> None:
    headers = [(b"X-Head", b"1")]
    for _ in range(4):
        assert b"content-length: 5" in writer.whole_head(Response(200, headers), 5, b"GET", b"1.1", None, b"")[0]
        assert b"content-length" not in writer.whole_head(Response(200, headers), 0, b"HEAD", b"1.1", None, b"")[0]
        assert b"content-length" not in writer.whole_head(Response(204, headers), 0, b"GET", b"1.1", None, b"")[0]


def test_headers_that_can_be_looked_through_once_are_sent() -> None:
    for _ in range(4):
        response = Response(200, iter([(b"X-Once", b"1")]))  # type: ignore[arg-type]  # not what it should be
        assert b"X-Once: 1" in writer.whole_head(response, 0, b"GET", b"1.1", None, b"")[0]


def test_the_memory_of_heads_is_bounded() -> None:
    for number in range(2 * writer.MAX_CACHED_STARTS):
        for _ in range(2):
            writer.whole_head(Response(200, [(b"X-Number", b"%d" % number)]), 0, b"GET", b"1.1", None, b"")
        assert len(writer._starts) <= writer.MAX_CACHED_STARTS
    long = [(b"X", b"x" * 200)] * (writer.MAX_CACHED_START_BYTES // 200 + 1)
    for _ in range(4):
        writer.whole_head(Response(200, long), 0, b"GET", b"1.1", None, b"")
    assert (200, None, tuple(long)) not in writer._starts


# Streamed heads.


@pytest.mark.parametrize(
    ("version", "headers", "line", "framing", "reason"),
    [
        (b"1.1", [], b"\r\ntransfer-encoding: chunked\r\n", CHUNKED, None),
        (b"1.1", [(b"Transfer-Encoding", b"chunked")], b"\r\ntransfer-encoding: chunked\r\n", CHUNKED, None),
        (b"1.0", [(b"Transfer-Encoding", b"chunked")], b"connection: close", UNTIL_CLOSE, CloseReason.CLOSE_DELIMITED),
        (b"1.1", [(b"Content-Length", b"5")], b"\r\nContent-Length: 5\r\n", Framing(Kind.LENGTH, 5), None),
        (b"1.0", [(b"Content-Length", b"5")], b"\r\nconnection: keep-alive\r\n", Framing(Kind.LENGTH, 5), None),
        (b"1.0", [], b"\r\nconnection: close\r\n", UNTIL_CLOSE, CloseReason.CLOSE_DELIMITED),
    ],
)
def test_a_streamed_response_says_how_it_is_framed(
    version: bytes, headers: Any, line: bytes, framing: Framing, reason: CloseReason | None
) -> None:
    head, found, close_reason = streamed_head(Response(200, headers, None), b"GET", version, None, b"")
    assert line in head
    assert head.lower().count(b"transfer-encoding") == (framing is CHUNKED)
    assert (found, close_reason) == (framing, reason)


@pytest.mark.parametrize(("status", "method"), [(200, b"HEAD"), (204, b"GET"), (304, b"GET")])
def test_a_streamed_response_without_a_body_says_nothing_of_one(status: int, method: bytes) -> None:
    head, framing, _ = streamed_head(Response(status, (), None), method, b"1.1", None, b"")
    assert (head.count(b"\r\n"), framing) == (2, NO_BODY if method == b"HEAD" else FORBIDDEN)


@pytest.mark.parametrize(("status", "method"), [(200, b"HEAD"), (204, b"GET"), (304, b"GET")])
def test_a_whole_response_without_a_body_says_nothing_of_one(status: int, method: bytes) -> None:
    assert whole(Response(status), method=method)[0].count(b"\r\n") == 2


def test_the_first_reason_to_end_stays() -> None:
    old = streamed_head(Response(200, (), None), b"GET", b"1.0", CloseReason.PEER_ASKED, b"")
    assert old[2] is CloseReason.PEER_ASKED


def test_a_content_length_that_is_known_is_still_compared_with_the_body() -> None:
    headers = [(b"x-known", b"1"), (b"content-length", b"5")]
    first, second, third = (whole(Response(200, headers, b"hello"))[0] for _ in range(3))
    assert first == second == third
    with pytest.raises(LocalError):
        whole(Response(200, headers, b"hell"))
    assert whole(Response(200, headers, b"hello"))[0] == first


# Bodies.


def test_a_piece_of_a_length_body_is_queued_itself() -> None:
    piece = b"hello"
    assert BodyWriter(Framing(Kind.LENGTH, 10)).data(piece)[0] is piece


def test_more_body_than_was_declared_is_a_mistake_that_changes_nothing() -> None:
    body = BodyWriter(Framing(Kind.LENGTH, 5))
    body.data(b"abc")
    with pytest.raises(LocalError, match=r"^the body is 1 bytes longer than Content-Length said$"):
        body.data(b"def")
    assert (body.data(b"de"), body.end(())) == ([b"de"], [])


def test_less_body_than_was_declared_is_a_mistake_that_changes_nothing() -> None:
    body = BodyWriter(Framing(Kind.LENGTH, 5))
    with pytest.raises(LocalError, match=r"^the body is 5 bytes shorter than Content-Length said; call Conn\.abort$"):
        body.end(())
    assert (body.data(b"hello"), body.end(())) == ([b"hello"], [])


def test_a_length_body_has_no_trailers() -> None:
    with pytest.raises(LocalError, match="no trailers; leave Content-Length out"):
        BodyWriter(Framing(Kind.LENGTH, 0)).end([(b"a", b"b")])


def test_a_small_chunk_is_one_buffer_and_a_large_one_is_not_copied() -> None:
    small, large = bytes(SMALL_BYTES), bytes(SMALL_BYTES + 1)
    assert BodyWriter(CHUNKED).data(small) == [b"4000\r\n" + small + b"\r\n"]
    line, data, end = BodyWriter(CHUNKED).data(large)
    assert (line, data is large, end) == (b"4001\r\n", True, b"\r\n")


@pytest.mark.parametrize(
    "framing", [CHUNKED, UNTIL_CLOSE, NO_BODY, Framing(Kind.LENGTH, 1)], ids=lambda it: it.kind.name
)
def test_an_empty_piece_is_nothing(framing: Framing) -> None:
    assert BodyWriter(framing).data(b"") == []


def test_chunks_end_in_the_last_one_and_its_trailers() -> None:
    assert BodyWriter(CHUNKED).end(()) == [b"0\r\n\r\n"]
    assert BodyWriter(CHUNKED).end([(b"A", b"b"), (b"A", b"c")]) == [b"0\r\nA: b\r\nA: c\r\n\r\n"]


@pytest.mark.parametrize("framing", [UNTIL_CLOSE, NO_BODY], ids=lambda it: it.kind.name)
def test_trailers_that_cannot_be_sent_are_dropped_and_checked_all_the_same(framing: Framing) -> None:
    assert BodyWriter(framing).end([(b"A", b"b")]) == []
    with pytest.raises(LocalError):
        BodyWriter(framing).end([(b"A", b"\n")])


def test_a_body_that_ends_with_the_connection_is_sent_as_it_is() -> None:
    assert BodyWriter(UNTIL_CLOSE).data(b"x") == [b"x"]


def test_data_where_no_body_is_is_a_mistake() -> None:
    with pytest.raises(LocalError, match=r"^a response to HEAD has no body; send EndOfMessage$"):
        BodyWriter(NO_BODY).data(b"x")


# What is left out.


def left_out_of(response: Response, version: bytes = b"1.1") -> tuple[list[bytes], list[LeftOut]]:
    """The lines that are sent, without the status line, and what is not sent."""
    left_out: list[LeftOut] = []
    head, _ = writer.whole_head(response, 0, b"GET", version, None, b"", left_out.append)
    return head.split(b"\r\n")[1:-2], left_out


@pytest.mark.parametrize(("name", "what"), HOP_FIELDS.items())
def test_a_field_of_the_connection_is_not_sent_and_told(name: bytes, what: LeftOut) -> None:
    value = b"chunked" if name == b"transfer-encoding" else b"x"
    for _ in range(2):  # it is remembered
        lines, left_out = left_out_of(Response(200, [(b"A", b"b"), (name.title(), value)]))
        assert (lines, left_out) == ([b"A: b", b"content-length: 0"], [what])


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("value", [b"keep-alive", b"close", b"Close, TE", b"Upgrade", b"", b"x"])
def test_there_is_at_most_one_connection_field_and_it_is_true(version: bytes, value: bytes) -> None:
    lines, left_out = left_out_of(Response(200, [(b"Connection", value), (b"connection", value)]), version)
    closes = b"close" in value.lower()
    own = b"connection: close" if closes else b"connection: keep-alive" if version == b"1.0" else None
    assert lines[1:] == ([own] if own else [])
    is_obeyed = value in (b"", b"close") or (value == b"keep-alive" and version == b"1.0")
    assert left_out == ([] if is_obeyed else [LeftOut.CONNECTION])


def test_an_upgrade_that_is_required_is_named() -> None:
    fields = [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")]
    lines, left_out = left_out_of(Response(426, fields))
    assert lines[1:] == [b"upgrade: websocket", b"connection: upgrade"]
    assert left_out == []


@pytest.mark.parametrize(
    ("status", "length", "sent", "left_out"),
    [
        (204, b"0", [], [LeftOut.LENGTH]),
        (204, b"5", [], [LeftOut.LENGTH]),
        (205, b"0", [b"content-length: 0"], []),
        (205, b"5", [b"content-length: 0"], [LeftOut.LENGTH]),
        (304, b"5", [b"Content-Length: 5"], []),
    ],
)
def test_a_status_without_content_has_no_length_of_one(
    status: int, length: bytes, sent: list[bytes], left_out: list[LeftOut]
) -> None:
    assert left_out_of(Response(status, [(b"Content-Length", length)])) == (sent, left_out)
    assert left_out_of(Response(status))[0] == ([b"content-length: 0"] if status == 205 else [])


def test_the_content_of_a_status_without_content_is_left_out() -> None:
    left_out: list[LeftOut] = []
    assert BodyWriter(FORBIDDEN, left_out.append).data(b"x") == []
    assert left_out == [LeftOut.CONTENT]
    assert BodyWriter(FORBIDDEN).end(()) == []


def test_a_reason_is_sent_as_given() -> None:
    assert whole(Response(299, reason=b"Custom \xe4"))[0].startswith(b"HTTP/1.1 299 Custom \xe4\r\n")
    assert whole(Response(200, reason=b""))[0].startswith(b"HTTP/1.1 200 \r\n")
    assert whole(Response(200))[0].startswith(b"HTTP/1.1 200 OK\r\n")


# Our own answers.


@pytest.mark.parametrize("reason", RefuseReason, ids=lambda reason: reason.name)
def test_a_refusal_is_one_sentence_of_plain_text(reason: RefuseReason) -> None:
    response = writer.refusal_response(reason)
    assert (response.status, response.body) == (reason.status, f"{reason.text} ({reason.source})\n".encode())
    assert list(response.headers) == [(b"content-type", b"text/plain; charset=utf-8")]
    assert whole(response)


def test_an_error_of_ours_may_have_fields() -> None:
    response = writer.error_response(503, "Busy.", [(b"retry-after", b"1")])
    assert list(response.headers)[1:] == [(b"retry-after", b"1")]
