"""What else a head decides: whether the connection persists, who waits for 100, which protocol is offered."""

from collections.abc import Container

import pytest

from h1core import Limits, RefuseReason, Request
from h1core.http1.framing import CHUNKED, NO_BODY, Framing, Kind
from h1core.http1.request_head import ParsedHead, parse_request_head
from tests.kit import request

TAKEN = frozenset({b"chat", b"websocket"})


def intake(line: str, *fields: str, upgrades: Container[bytes] = ()) -> ParsedHead | RefuseReason | None:
    return parse_request_head(request(line, *fields), Limits(), upgrades)


def accepted(line: str, *fields: str, upgrades: Container[bytes] = ()) -> ParsedHead:
    found = intake(line, *fields, upgrades=upgrades)
    assert isinstance(found, tuple), found
    return found


@pytest.mark.parametrize(
    ("version", "connection", "persists"),
    [
        ("1.1", [], True),
        ("1.1", ["keep-alive"], True),
        ("1.1", ["close"], False),
        ("1.1", ["Close"], False),
        ("1.1", ["keep-alive, close"], False),
        ("1.1", ["x", "close", "y"], False),
        ("1.1", ["closed"], True),
        ("1.0", [], False),
        ("1.0", ["close"], False),
        ("1.0", ["Keep-Alive"], True),
        ("1.0", ["x, keep-alive"], True),
        ("1.0", ["keep-alive, close"], False),
        ("1.0", ["close", "keep-alive"], False),
    ],
)
def test_a_connection_persists_when_the_version_and_the_peer_say_so(
    version: str, connection: list[str], persists: bool
) -> None:
    assert accepted(f"GET / HTTP/{version}", *(f"Connection: {value}" for value in connection))[2] is persists


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        ([], NO_BODY),
        (["Content-Length: 0"], NO_BODY),
        (["Content-Length: 5"], Framing(Kind.LENGTH, 5)),
        (["Transfer-Encoding: chunked"], CHUNKED),
    ],
)
def test_a_request_without_a_body_says_so(fields: list[str], framing: Framing) -> None:
    event, found, _, _ = accepted("POST / HTTP/1.1", *fields)
    assert (found, event.end_stream) == (framing, framing is NO_BODY)


def test_a_request_comes_out_with_all_it_said() -> None:
    event = accepted("POST /a?b HTTP/1.0", "Content-Length: 5", "X: y")[0]
    headers = [(b"host", b"x"), (b"content-length", b"5"), (b"x", b"y")]
    assert event == Request(b"POST", b"/a?b", headers, b"", b"1.0", False)


@pytest.mark.parametrize(
    ("line", "fields", "waits"),
    [
        ("POST / HTTP/1.1", ["Content-Length: 5", "Expect: 100-continue"], True),
        ("POST / HTTP/1.1", ["Transfer-Encoding: chunked", "Expect: 100-Continue"], True),
        ("POST / HTTP/1.1", ["Content-Length: 5", "Expect: , 100-continue", "Expect: 100-continue"], True),
        ("POST / HTTP/1.1", ["Content-Length: 5", "Expect: ,"], False),
        ("POST / HTTP/1.1", ["Content-Length: 5"], False),
        ("POST / HTTP/1.1", ["Content-Length: 0", "Expect: 100-continue"], False),
        ("GET / HTTP/1.1", ["Expect: 100-continue"], False),
        ("POST / HTTP/1.0", ["Content-Length: 5", "Expect: 100-continue"], False),
        ("POST / HTTP/1.0", ["Content-Length: 5", "Expect: the unexpected"], False),
    ],
)
def test_who_has_a_body_and_speaks_1_1_may_wait_for_100(line: str, fields: list[str], waits: bool) -> None:
    assert accepted(line, *fields)[3] is waits


@pytest.mark.parametrize("fields", [["Expect: x"], ["Expect: 100-continue;q=1"], ["Expect: 100-continue", "Expect: x"]])
def test_any_other_expectation_is_refused(fields: list[str]) -> None:
    assert intake("POST / HTTP/1.1", "Content-Length: 5", *fields) is RefuseReason.UNKNOWN_EXPECTATION


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        (["Connection: upgrade", "Upgrade: chat"], b"chat"),
        (["Connection: Keep-Alive, Upgrade", "Upgrade: Chat"], b"chat"),
        (["Connection: upgrade", "Upgrade: h2c, websocket, chat"], b"websocket"),
        (["Connection: upgrade", "Upgrade: h2c", "Upgrade: chat"], b"chat"),
        (["Connection: upgrade", "Upgrade: chat/2"], None),
        (["Connection: upgrade", "Upgrade: h2c"], None),
        (["Connection: upgrade"], None),
        (["Upgrade: chat"], None),
        (["Connection: close", "Upgrade: chat"], None),
    ],
)
def test_the_first_protocol_that_we_take_is_the_one_offered(fields: list[str], offered: bytes | None) -> None:
    assert accepted("GET / HTTP/1.1", *fields, upgrades=TAKEN)[0].upgrade == offered
    assert accepted("GET / HTTP/1.1", *fields)[0].upgrade is None


def test_an_offer_is_passed_over_when_the_peer_waits_for_100() -> None:
    fields = ("Connection: upgrade", "Upgrade: chat", "Expect: 100-continue", "Content-Length: 5")
    assert accepted("POST / HTTP/1.1", *fields, upgrades=TAKEN)[0].upgrade is None


def test_an_http_1_0_peer_offers_nothing() -> None:
    fields = ("Connection: upgrade", "Upgrade: chat")
    assert accepted("GET / HTTP/1.0", *fields, upgrades=TAKEN)[0].upgrade is None


def test_a_tunnel_is_for_those_who_asked_for_connect_requests() -> None:
    assert intake("CONNECT a:1 HTTP/1.1") is RefuseReason.CONNECT_REFUSED
    assert intake("CONNECT a:1 HTTP/1.1", upgrades=TAKEN) is RefuseReason.CONNECT_REFUSED
    assert accepted("CONNECT a:1 HTTP/1.1", upgrades={b"connect"})[0].upgrade == b"connect"


def test_a_tunnel_cannot_be_had_by_an_upgrade() -> None:
    fields = ("Connection: upgrade", "Upgrade: connect")
    assert accepted("GET / HTTP/1.1", *fields, upgrades={b"connect"})[0].upgrade is None


@pytest.mark.parametrize(
    ("line", "fields", "reason"),
    [
        ("GET /", (), None),
        ("POST / HTTP/1.1", ("Content-Length: x", "Expect: x"), RefuseReason.BAD_CONTENT_LENGTH),
        ("CONNECT a:1 HTTP/1.1", ("Content-Length: 1",), RefuseReason.CONNECT_WITH_BODY),
    ],
)
def test_a_refusal_of_the_parts_is_passed_on(line: str, fields: tuple[str, ...], reason: RefuseReason | None) -> None:
    assert intake(line, *fields) is reason
