"""What else a head decides: whether the connection persists, who waits for 100, which protocol is offered; and which
heads are remembered, and that it changes nothing."""

from collections.abc import Container, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h1core import Limits, RefuseReason, Request, fields
from h1core import request as heads
from h1core.fields import MARK_BYTES
from h1core.framing import CHUNKED, NO_BODY, Framing, Kind
from h1core.request import MAX_REMEMBERED_HEAD_BYTES, MAX_REMEMBERED_HEADS, SHORT_HEAD_BYTES, Intake, recall, take_in

from .kit import request

TAKEN = frozenset({b"chat", b"websocket"})


def intake(line: str, *fields: str, upgrades: Container[bytes] = ()) -> Intake | RefuseReason | None:
    return take_in(request(line, *fields), Limits(), upgrades)


def accepted(line: str, *fields: str, upgrades: Container[bytes] = ()) -> Intake:
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


# What is remembered.

LIMITS = Limits()
SIGHTS = 6
"""How often a head comes until it is remembered."""
SECRETS = ("Cookie", "cookie", "Authorization", "X-Api-Key")
GOOD_LINES = [
    *("Host: a", "Connection: close", "Connection: keep-alive", "Content-Length: 5", "A: ookie: x", "B:\tc ", "C:"),
    *("Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: chat", "Connection: upgrade"),
    *(f"{name}: s3cret" for name in SECRETS),
]
LINES = [
    "GET / HTTP/1.1",
    "GET /?a=b HTTP/1.0",
    "POST / HTTP/1.1",
    "GET http://b/ HTTP/1.1",
    "CONNECT a:1 HTTP/1.1",
    "GET",
]


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for table in (heads._heads, fields._sections, fields._shapes, fields.seen):
        table.clear()


def judge(head: bytes) -> Intake | RefuseReason | None:
    return recall(head, LIMITS) or take_in(head, LIMITS, TAKEN)


def see(head: bytes) -> None:
    for _ in range(SIGHTS):
        judge(head)


any_head = st.tuples(st.sampled_from(LINES), st.lists(st.sampled_from(GOOD_LINES), max_size=6)).map(
    lambda parts: request(parts[0], *parts[1])
)


@given(st.lists(any_head, min_size=1, max_size=3))
def test_a_head_comes_out_the_same_each_time(texts: list[bytes]) -> None:
    forget()
    first = [take_in(text, LIMITS, TAKEN) for text in texts]
    for _ in range(SIGHTS):
        assert [judge(text) for text in texts] == first
    assert b"s3cret" not in repr(heads._heads).encode()


@given(any_head, st.integers(0, 200), st.integers(0, 255))
def test_one_byte_beside_what_is_remembered_is_judged_anew(text: bytes, at: int, byte: int) -> None:
    forget()
    see(text)
    at %= len(text)
    other = [
        text[:at] + bytes([byte]) + text[at + 1 :],
        text + b"\r\n",
        text[:at],
        text[at:],
        text[:at] + text[at + 1 :],
    ]
    found = [(changed, recall(changed, LIMITS)) for changed in other]
    forget()
    for changed, intake_or_none in found:
        assert intake_or_none is None or intake_or_none == take_in(changed, LIMITS, TAKEN)


@pytest.mark.parametrize(
    "fields", [["A: b"], ["Cookie: x", "A: b"], ["Content-Length: 5"], ["A:".ljust(SHORT_HEAD_BYTES)]]
)
def test_a_head_is_remembered_when_it_comes_again(fields: list[str]) -> None:
    text = request("POST / HTTP/1.1", *fields)
    for _ in range(2):
        assert recall(text, LIMITS) is None
        judge(text)
    see(text)
    assert recall(text, LIMITS) is not None


def test_the_secret_of_a_remembered_head_is_that_of_each_request() -> None:
    lines = "GET / HTTP/1.1", "A:".ljust(MARK_BYTES)
    see(request(*lines, "Cookie: one", "B: c"))
    found = recall(request(*lines, "Cookie: two", "B: c"), LIMITS)
    assert found is not None
    assert found[0].headers == [(b"host", b"x"), (b"a", b""), (b"cookie", b"two"), (b"b", b"c")]
    assert recall(request(*lines, "Cookie: t\0", "B: c"), LIMITS) is None


def test_what_was_judged_by_other_limits_is_judged_anew() -> None:
    text = request("POST / HTTP/1.1", "Content-Length: 5")
    see(text)
    assert recall(text, LIMITS) is not None
    assert recall(text, Limits()) is None


@pytest.mark.parametrize("head", ["GET / HTTP/1.1", "CONNECT a:1 HTTP/1.1"])
@pytest.mark.parametrize("field", ["Upgrade: chat", "Expect: 100-continue", "Connection: upgrade, chat"])
def test_what_depends_on_more_than_the_limits_is_not_remembered(head: str, field: str) -> None:
    text = request(head, field)
    see(text)
    assert (recall(text, LIMITS) is not None) is (head.startswith("GET") and field.startswith("Connection"))


@pytest.mark.parametrize("fields", [[], ["Cookie: x"]])
def test_a_request_that_the_caller_changes_changes_no_other(fields: list[str]) -> None:
    text = request("GET / HTTP/1.1", *fields)
    for _ in range(SIGHTS):
        found = judge(text)
        assert isinstance(found, tuple)
        assert len(found[0].headers) == 1 + len(fields)
        assert isinstance(found[0].headers, list)
        found[0].headers.clear()
        found[0].body = b"x"


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_head_is_not_remembered(more: int) -> None:
    length = len(request("GET / HTTP/1.1", "A:"))
    text = request("GET / HTTP/1.1", "A:".ljust(2 + MAX_REMEMBERED_HEAD_BYTES - length + more, "x"))
    see(text)
    assert (recall(text, LIMITS) is None) is bool(more)


def test_the_table_is_bounded_and_what_never_comes_again_drives_out_nothing() -> None:
    text = request("GET /kept HTTP/1.1")
    see(text)
    for number in range(3 * MAX_REMEMBERED_HEADS):
        judge(request(f"GET /{number} HTTP/1.1"))
    assert list(heads._heads) == [text]
    for number in range(2 * MAX_REMEMBERED_HEADS):
        see(request(f"GET /{number} HTTP/1.1"))
        assert len(heads._heads) <= MAX_REMEMBERED_HEADS
