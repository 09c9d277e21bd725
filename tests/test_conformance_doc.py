"""docs/conformance.md says what is true: what it names exists, and what no wire file can show is shown here.

The first part holds the document to the tree, the rest holds `Conn` to the document: a test for each rule about what we
send, when, and how a connection ends. Rules about what we take in are in the corpus.
"""

import ast
import re
import runpy
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from h1core import (
    Closed,
    CloseReason,
    Conn,
    Data,
    Disposition,
    EndOfMessage,
    Event,
    Headers,
    InformationalResponse,
    Limits,
    LocalError,
    Refused,
    RefuseReason,
    Request,
    Response,
    Sendable,
    State,
    Switched,
    TimedOut,
    Timer,
)

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "conformance.md"
CHECKLIST = ROOT / "docs" / "checklist.md"
HERE = "tests/test_conformance_doc.py"

LEVELS = frozenset({"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "RECOMMENDED", "–"})
MARKS = frozenset({"✓", "app", "driver", "deviates", "open"})
SHOWN = frozenset({"✓", "deviates", "open"})
FOLDERS = ("h1core", "h1core.http1", "h1core.server", "h1core.app")
"""Where a part is looked for that the document names by its module."""

COLUMNS = ["§", "level", "asked", "h1core", "", "shown by"]


# The document and the tree.


class Row(NamedTuple):
    """A requirement: where it stands, what is asked, what is done, a mark, and the tests."""

    section: str
    level: str
    asked: str
    done: str
    mark: str
    tests: list[str]


@cache
def rows() -> list[Row]:
    """The rows of all tables that have our columns."""
    found = []
    in_table = False
    for line in DOCUMENT.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if in_table and cells and not set(line) <= set("|- "):
            section, level, asked, done, mark, tests = cells
            found.append(Row(section, level, asked, done, mark, re.findall(r"`([^`]*)`", tests)))
        in_table = bool(cells) and (in_table or cells == COLUMNS)
    return found


@cache
def functions(path: str) -> dict[str, ast.FunctionDef]:
    """The test functions of a file, by name; none when the file is not there."""
    file = ROOT / path
    tree = ast.parse(file.read_text("utf-8")) if file.is_file() else ast.Module([], [])
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def exists(test: str) -> bool:
    if "::" in test:
        path, _, name = test.partition("::")
        return name in functions(path or HERE)
    kind, _, name = test.partition("/")
    return kind in {"valid", "invalid"} and (ROOT / "tests" / "corpus" / kind / f"{name}.http").is_file()


def is_xfail(test: str) -> bool:
    path, _, name = test.partition("::")
    return any("xfail" in ast.unparse(decorator) for decorator in functions(path or HERE)[name].decorator_list)


def is_part(name: str) -> bool:
    """Whether a name in the column on h1core is one: `head.parse_head`, or a member of an enumeration."""
    if name.isupper():
        return any(name in kind.__members__ for kind in (RefuseReason, CloseReason, Timer))
    module, *path = name.split(".")
    folder = next((folder for folder in FOLDERS if find_spec(f"{folder}.{module}") is not None), None)
    if folder is None:
        return False
    found: object = import_module(f"{folder}.{module}")
    for attribute in path:
        found = getattr(found, attribute, None)
    return bool(path) and found is not None


def test_the_document_is_in_its_format() -> None:
    assert len(rows()) > 150
    for row in rows():
        assert re.fullmatch(r"[0-9C][0-9.]*", row.section), row
        assert row.level in LEVELS, row
        assert row.mark in MARKS, row
        assert row.asked, row
        assert row.done, row


def test_every_test_that_the_document_names_exists() -> None:
    named = re.findall(r"`((?:valid/|invalid/|tests/\S+::|::)[^`]*)`", DOCUMENT.read_text("utf-8"))
    assert [test for test in [*named, *(test for row in rows() for test in row.tests)] if not exists(test)] == []


def test_every_test_that_the_checklist_names_exists() -> None:
    rows_of_others = re.findall(r"^\| ([LSO]\d+) \|.*\| (?:`(\S+)`|–) \|$", CHECKLIST.read_text("utf-8"), re.MULTILINE)
    assert len(rows_of_others) == 20
    assert [row for row, test in rows_of_others if test and not exists(test)] == []


def test_every_part_that_the_document_names_exists() -> None:
    assert [name for row in rows() for name in re.findall(r"`([^`]*)`", row.done) if not is_part(name)] == []


def test_what_is_done_is_shown_and_what_is_open_fails() -> None:
    assert [row for row in rows() if row.mark in SHOWN and not row.tests] == []
    of_ours = [(row, test) for row in rows() for test in row.tests if "::" in test]
    assert [(row, test) for row, test in of_ours if is_xfail(test) != (row.mark == "open")] == []


def test_every_rule_shown_here_is_in_the_document() -> None:
    about_the_document = {"test_the_list_of_refusals_is_the_table"} | {
        name for name in functions(HERE) if re.search("the_document|the_checklist|^test_what_is_done", name)
    }
    named = {test[2:] for row in rows() for test in row.tests if test.startswith("::")}
    assert {name for name in functions(HERE) if name.startswith("test_")} - named == about_the_document


def test_the_list_of_refusals_is_the_table() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_refusals.py"))
    assert made["PAGE"].read_text("utf-8") == made["page"](), "run .venv/bin/python docs/make_refusals.py"


# A connection to talk over.

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n"
CONNECT = b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n"
WEBSOCKET = GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
EXPECT = b"Expect: 100-continue\r\n"
END = b"\r\n"
CHUNKED = (b"transfer-encoding", b"chunked")
LENGTH_3 = (b"content-length", b"3")
DATE = b"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
CLOSE = b"\r\nconnection: close\r\n"
WALL_TIME = 784111777.0


class Talk:
    """A `Conn` under a clock that stands still, and what it wrote."""

    def __init__(self, upgrades: Sequence[bytes] = (), limits: Limits | None = None) -> None:
        self.now = 0.0
        self.conn = Conn(limits, clock=lambda: self.now, wall_clock=lambda: WALL_TIME, upgrades=upgrades)

    def hear(self, *pieces: bytes) -> list[Event]:
        return [event for piece in pieces for event in self.conn.receive_data(piece)]

    def say(self, *messages: Sendable) -> bytes:
        for message in messages:
            self.conn.send(message)
        return self.written()

    def then(self) -> Disposition:
        return self.conn.disposition

    def late(self) -> list[Event]:
        assert self.conn.next_deadline is not None
        self.now = self.conn.next_deadline
        return self.conn.handle_deadline()

    def written(self) -> bytes:
        written = b""
        while out := bytes(self.conn.data_to_send()):
            self.conn.data_sent(len(out))
            written += out
        return written


def answer(request: bytes, *messages: Sendable, upgrades: Sequence[bytes] = ()) -> bytes:
    talk = Talk(upgrades)
    talk.hear(request)
    return talk.say(*messages)


def answered(request: bytes) -> bytes:
    """What a request is answered by the core itself."""
    talk = Talk()
    talk.hear(request)
    return talk.written()


def names(response: bytes) -> list[bytes]:
    """The names of the fields in the last head that was written."""
    head = response.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")[0]
    return [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]


def content(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


# What a response looks like.


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"1.2", b"1.9"])
def test_a_response_has_our_version_whatever_the_request_had(version: bytes) -> None:
    assert answer(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version, Response(200)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_space_before_an_absent_reason_phrase_is_sent() -> None:
    written = answer(GET + END, InformationalResponse(199), Response(299))
    assert written.startswith(b"HTTP/1.1 199 \r\n\r\nHTTP/1.1 299 \r\n")


@pytest.mark.parametrize(
    "message",
    [Response(0), Response(99), Response(100), Response(600), Response(1000), InformationalResponse(200)],
    ids=lambda message: f"{type(message).__name__} {message.status}",
)
def test_a_status_out_of_its_range_is_not_sent(message: Sendable) -> None:
    with pytest.raises(LocalError):
        answer(GET + END, message)


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\rb"),
        (b"x", b"a\nb"),
        (b"x", b"a\r\n b"),
        (b"x", b"a\x00b"),
        (b"x", b"a\x7fb"),
        (b"", b"a"),
        (b"x y", b"a"),
        (b" x", b"a"),
        (b"x ", b"a"),
        (b"x:", b"a"),
        (b"x\r\ny", b"a"),
    ],
    ids=repr,
)
def test_a_field_that_breaks_the_grammar_is_not_sent(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, [field]))
    with pytest.raises(LocalError):
        answer(GET + END, InformationalResponse(103, [field]))
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, (), None), EndOfMessage([field]))
    talk = Talk([b"websocket"])
    talk.hear(WEBSOCKET + END)
    with pytest.raises(LocalError):
        talk.conn.switch_protocols([field])


def test_every_field_has_one_space_behind_its_colon_and_no_line_is_folded() -> None:
    written = answer(GET + END, Response(200, [(b"x", b"y")], None), EndOfMessage([(b"z", b"y")]))
    lines = written.split(b"\r\n")
    assert [line for line in lines if b":" in line and not re.fullmatch(rb"[a-z-]+: \S.*", line)] == []


@pytest.mark.parametrize("request_line", [GET, GET_1_0], ids=["1.1", "1.0"])
def test_a_response_with_a_clock_has_a_date(request_line: bytes) -> None:
    for status in (200, 206, 301, 304, 404):
        assert DATE in answer(request_line + END, Response(status))
        assert DATE in answer(request_line + END, Response(status, (), None))
    assert DATE in answered(GET + b"X : y\r\n\r\n")
    talk = Talk()
    talk.hear(GET)
    talk.late()
    assert DATE in talk.written()


def test_a_response_without_a_clock_has_no_date() -> None:
    conn = Conn(clock=lambda: 0.0)
    conn.receive_data(GET + END)
    conn.send(Response(200))
    assert b"date" not in names(bytes(conn.data_to_send()))


def test_the_response_that_opens_a_tunnel_has_a_date() -> None:
    talk = Talk([b"connect"])
    talk.hear(CONNECT + END)
    talk.conn.switch_protocols()
    assert DATE in talk.written()


# How the body of a response is framed.


def test_a_length_that_is_known_is_said() -> None:
    assert b"content-length: 3\r\n" in answer(GET + END, Response(200, (), b"abc"))
    assert b"content-length: 0\r\n" in answer(GET + END, Response(200))
    assert names(answer(GET + END, Response(200, (), b"abc"))).count(b"content-length") == 1


def test_a_length_that_is_not_known_is_framed_by_chunks() -> None:
    written = answer(GET + END, Response(200, (), None), Data(b"abc"), Data(b""), Data(b"d"), EndOfMessage())
    assert b"\r\ntransfer-encoding: chunked\r\n" in written
    assert content(written) == b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"


def test_an_http_1_0_peer_is_sent_no_chunks() -> None:
    written = answer(GET_1_0 + END, Response(200, (), None), Data(b"abc"), EndOfMessage([(b"x", b"y")]))
    assert b"transfer-encoding" not in names(written)
    assert CLOSE in written
    assert content(written) == b"abc"
    assert b"transfer-encoding" not in names(answer(GET_1_0 + END, Response(200, [CHUNKED], None)))


@pytest.mark.parametrize(
    "headers",
    [
        [CHUNKED, (b"transfer-encoding", b"gzip")],
        [(b"transfer-encoding", b"chunked, chunked")],
        [(b"transfer-encoding", b"gzip")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"content-length", b"3"), (b"content-length", b"4")],
        [(b"content-length", b"3, 3")],
        [(b"content-length", b"+3")],
        [(b"content-length", b"")],
    ],
)
def test_a_response_has_one_valid_framing(headers: Headers) -> None:
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, headers, None))


@pytest.mark.parametrize("twice", [[CHUNKED, CHUNKED], [CHUNKED, LENGTH_3], [LENGTH_3, LENGTH_3]])
def test_a_framing_that_is_given_twice_is_sent_once(twice: Headers) -> None:
    sent = names(answer(GET + END, Response(200, twice, None)))
    assert [name for name in sent if name in (b"content-length", b"transfer-encoding")] == [twice[-1][0].lower()]


def test_a_response_has_the_length_that_it_says() -> None:
    three = [(b"content-length", b"3")]
    assert content(answer(GET + END, Response(200, three, None), Data(b"abc"), EndOfMessage())) == b"abc"
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, three, b"abcd"))
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, three, None), Data(b"abcd"))
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, three, None), Data(b"ab"), EndOfMessage())


BODILESS = pytest.mark.parametrize(
    ("request_head", "status"), [(HEAD, 200), (HEAD, 404), (GET, 204), (GET, 304)], ids=str
)


@BODILESS
def test_a_response_without_content_ends_with_its_head(request_head: bytes, status: int) -> None:
    assert content(answer(request_head + END, Response(status))) == b""
    assert content(answer(request_head + END, Response(status, (), None), EndOfMessage([(b"x", b"y")]))) == b""
    for parts in ([Response(status, (), b"abc")], [Response(status, (), None), Data(b"abc")]):
        if request_head == HEAD:
            with pytest.raises(LocalError):
                answer(request_head + END, *parts)
        else:
            assert content(answer(request_head + END, *parts)) == b""


@pytest.mark.parametrize(("request_head", "status"), [(HEAD, 200), (GET, 304)], ids=str)
def test_a_length_stands_beside_no_content_when_the_application_says_so(request_head: bytes, status: int) -> None:
    assert b"content-length" not in names(answer(request_head + END, Response(status)))
    assert b"content-length: 3\r\n" in answer(request_head + END, Response(status, [(b"content-length", b"3")]))


@pytest.mark.parametrize("field", [CHUNKED, (b"Content-Length", b"0")], ids=["coding", "length"])
def test_where_no_body_can_be_no_field_frames_one(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(LocalError):
        answer(GET + END, InformationalResponse(103, [field]))
    for message in (Response(204, [field]), Response(204, [field], None)):
        assert names(answer(GET + END, message)) == [b"date"]
    for upgrade, request in ((b"websocket", WEBSOCKET), (b"connect", CONNECT)):
        talk = Talk([upgrade])
        talk.hear(request + END)
        with pytest.raises(LocalError):
            talk.conn.switch_protocols([field])
    assert names(answer(GET + END, Response(204))) == [b"date"]


def test_a_205_has_no_content() -> None:
    assert content(answer(GET + END, Response(205))) == b""
    for parts in ([Response(205, (), b"abc")], [Response(205, (), None), Data(b"abc"), EndOfMessage()]):
        written = answer(GET + END, *parts)
        assert content(written) == b""
        assert b"\r\ncontent-length: 0\r\n" in written


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"connection", b"date"])
def test_no_trailer_frames_or_steers(name: bytes) -> None:
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, (), None), EndOfMessage([(name, b"3")]))


def test_a_response_that_is_cut_looks_cut() -> None:
    talk = Talk()
    talk.hear(b"GET / HTTP/1.0\r\n\r\n")
    talk.say(Response(200, (), None), Data(b"abc"))
    talk.conn.abort(CloseReason.APPLICATION_FAILED)
    assert talk.then() is Disposition.ABORT


# What we say when a request is refused.


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (GET + b"X : y\r\n\r\n", RefuseReason.BAD_FIELD_NAME),
        (GET + b"X: y\r\n z\r\n\r\n", RefuseReason.FOLDED_FIELD),
        (POST + b"Content-Length: 99999999\r\n\r\n", RefuseReason.BODY_TOO_LARGE),
        (GET + b"X: y\r\n" * 101 + END, RefuseReason.TOO_MANY_FIELDS),
        (CONNECT + END, RefuseReason.CONNECT_REFUSED),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", RefuseReason.UNSUPPORTED_VERSION),
    ],
    ids=lambda value: value.name if isinstance(value, RefuseReason) else "",
)
def test_a_refusal_explains_itself(request_bytes: bytes, reason: RefuseReason) -> None:
    written = answered(request_bytes)
    assert written.startswith(b"HTTP/1.1 %d " % reason.status)
    assert reason.text.encode() in content(written)
    assert b"\r\ncontent-type: text/plain; charset=utf-8\r\n" in written
    assert CLOSE in written


def test_a_head_request_with_a_bad_body_is_sent_no_content() -> None:
    written = answered(HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n")
    assert written.startswith(b"HTTP/1.1 400 ")
    assert content(written) == b""


def test_a_refusal_behind_a_head_request_explains_itself() -> None:
    talk = Talk()
    talk.hear(HEAD + END)
    talk.say(Response(200))
    talk.hear(b"GET / HTTP/1.1\nHost: a\n\n")
    assert RefuseReason.BARE_LF.text.encode() in content(talk.written())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        HEAD + b"X : y\r\n\r\n",
        HEAD + b"Expect: x\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Content-Length: 99999999\r\n\r\n",
        HEAD + b"X: y\r\n" * 101 + END,
    ],
)
def test_a_head_request_that_is_refused_is_sent_no_content(request_bytes: bytes) -> None:
    assert content(answered(request_bytes)) == b""


# Whether a connection persists, and how it ends.


def test_an_http_1_0_connection_that_persists_says_so() -> None:
    assert b"\r\nconnection: keep-alive\r\n" in answer(GET_1_0 + END, Response(200))
    assert CLOSE in answer(b"GET / HTTP/1.0\r\n\r\n", Response(200))


def test_the_last_response_of_a_connection_says_close() -> None:
    assert CLOSE in answer(GET + b"Connection: close\r\n\r\n", Response(200))
    one = Talk(limits=Limits(max_requests_per_connection=1))
    one.hear(GET + END)
    assert CLOSE in one.say(Response(200))
    drained = Talk()
    drained.hear(GET + END)
    drained.conn.begin_drain()
    assert CLOSE in drained.say(Response(200, (), None), EndOfMessage())
    assert b"connection" not in names(answer(GET + END, Response(200)))


def test_no_request_is_served_behind_a_response_that_said_close() -> None:
    for body in (b"", None):
        talk = Talk()
        talk.hear(GET + END + GET + END)
        talk.say(Response(200, [(b"Connection", b"x, Close")], body))
        if body is None:
            talk.say(EndOfMessage())
        assert talk.conn.next_events() == []
        assert talk.hear(GET + END) == []
        assert talk.conn.close_reason is CloseReason.APPLICATION_ASKED
        assert talk.then() is Disposition.LINGER


def test_no_interim_response_says_close() -> None:
    talk = Talk()
    talk.hear(GET + END)
    assert b"close" not in talk.say(InformationalResponse(103, [(b"connection", b"close")]))
    talk.say(Response(200))
    assert talk.hear(GET + END) != []


def test_responses_leave_in_the_order_of_their_requests() -> None:
    talk = Talk()
    events = talk.hear(*(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))
    written = b""
    while events:
        [event] = events
        assert isinstance(event, Request)
        assert talk.conn.next_events() == []  # one at a time
        written += talk.say(Response(200, [(b"x", event.target)]))
        events = talk.conn.next_events()
    assert re.findall(rb"x: (/[0-9])", written) == [b"/0", b"/1", b"/2"]


def test_a_body_left_by_the_application_is_read_before_the_next_request() -> None:
    talk = Talk()
    talk.hear(POST + b"Content-Length: 6\r\n\r\nabc")
    assert b"connection" not in names(talk.say(Response(200)))
    assert talk.hear(b"def" + GET + END) == [Request(b"GET", b"/", [(b"host", b"a")])]


def test_a_body_not_worth_reading_ends_the_connection() -> None:
    talk = Talk()
    talk.hear(POST + b"Content-Length: 999999\r\n\r\nabc")
    assert CLOSE in talk.say(Response(200))
    assert talk.conn.close_reason is CloseReason.BODY_UNREAD
    talk = Talk()
    talk.hear(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    talk.say(Response(200))
    assert talk.hear(b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n0\r\n\r\n" + GET + END) == []
    assert talk.conn.close_reason is CloseReason.BODY_UNREAD


def test_an_ended_connection_waits_for_the_peer_to_read_its_answer() -> None:
    talk = Talk()
    talk.hear(GET + b"X : y\r\n\r\n")
    assert talk.then() is Disposition.KEEP  # it is owed its answer
    talk.written()
    assert talk.then() is Disposition.LINGER
    assert talk.conn.wants_read
    assert talk.hear(GET + END) == []
    talk.hear(b"")
    assert talk.then() is Disposition.CLOSE


def test_an_ended_connection_does_not_wait_for_ever() -> None:
    talk = Talk()
    talk.hear(GET + b"X : y\r\n\r\n")
    talk.written()
    talk.late()
    assert talk.then() is Disposition.CLOSE


def test_an_idle_connection_is_closed_in_order() -> None:
    talk = Talk()
    talk.hear(GET + END)
    talk.say(Response(200))
    assert talk.late() == [TimedOut(Timer.KEEPALIVE)]
    assert talk.written() == b""
    assert talk.then() is Disposition.LINGER


def test_a_peer_that_takes_nothing_is_reset() -> None:
    talk = Talk()
    talk.hear(GET + END)
    talk.conn.send(Response(200))
    assert talk.late() == [TimedOut(Timer.WRITE)]
    assert talk.then() is Disposition.ABORT


def test_an_incomplete_request_is_answered_when_time_is_up() -> None:
    for request in (GET, POST + b"Content-Length: 3\r\n\r\nab"):
        talk = Talk()
        talk.hear(request)
        assert isinstance(talk.late()[0], TimedOut)
        written = talk.written()
        assert written.startswith(b"HTTP/1.1 408 ")
        assert CLOSE in written
        assert talk.then() is Disposition.LINGER


def test_a_body_cut_while_the_response_is_under_way_ends_the_connection() -> None:
    for rest in (b"", b"x\r\n"):
        talk = Talk()
        talk.hear(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        talk.say(Response(200, (), None))
        assert isinstance(talk.hear(rest)[0], Refused)
        assert talk.say(Data(b"abc"), EndOfMessage()) == b"3\r\nabc\r\n0\r\n\r\n"
        assert talk.hear(GET + END) == []
        assert talk.conn.close_reason is CloseReason.REFUSED


def test_the_end_of_the_stream_is_seen_at_any_time() -> None:
    idle = Talk()
    assert idle.hear(b"") == [Closed(CloseReason.PEER_CLOSED)]
    assert idle.then() is Disposition.CLOSE
    busy = Talk()
    busy.hear(GET + END)
    assert busy.conn.wants_read
    busy.hear(b"")
    written = busy.say(Response(200))
    assert written.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in written
    assert busy.then() is Disposition.CLOSE


# Requests, as far as no single wire file shows it.


def test_nothing_is_reported_before_the_head_is_whole() -> None:
    talk = Talk()
    wire = POST + b"Authorization: x\r\nContent-Length: 3\r\n\r\n"
    assert talk.hear(*(wire[at : at + 1] for at in range(len(wire) - 1))) == []
    assert isinstance(talk.hear(wire[-1:])[0], Request)


def test_a_request_inherits_nothing_from_the_one_before() -> None:
    talk = Talk([b"websocket"])
    talk.hear(WEBSOCKET + b"Authorization: x\r\nCookie: a=b\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\ny")
    talk.say(Response(200))
    assert talk.hear(GET + END) == [Request(b"GET", b"/", [(b"host", b"a")])]
    with pytest.raises(LocalError):
        talk.conn.switch_protocols()


@pytest.mark.parametrize("value", [b"100-continue,", b", 100-continue", b"100-continue,, 100-continue", b""])
def test_an_expectation_may_stand_among_empty_elements(value: bytes) -> None:
    talk = Talk()
    assert isinstance(talk.hear(POST + b"Content-Length: 3\r\nExpect: %b\r\n\r\n" % value)[0], Request)


def test_a_host_field_with_a_port_names_a_host() -> None:
    assert isinstance(Talk().hear(b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n")[0], Refused)


# Interim responses.


def test_100_is_sent_as_soon_as_the_body_is_asked_for() -> None:
    talk = Talk()
    talk.hear(POST + EXPECT + b"Content-Length: 3\r\n\r\n")
    assert talk.written() == b""
    talk.conn.resume_body()
    talk.conn.resume_body()
    assert talk.written() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert talk.hear(b"abc") == [Data(b"abc"), EndOfMessage()]


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: 3\r\n\r\n",
        POST + EXPECT + b"Content-Length: 3\r\n\r\na",
        b"POST / HTTP/1.0\r\nHost: a\r\n" + EXPECT + b"Content-Length: 3\r\n\r\n",
        GET + EXPECT + END,
    ],
    ids=["not expected", "content has come", "HTTP/1.0", "no content"],
)
def test_100_is_not_sent_where_it_is_not_due(request_bytes: bytes) -> None:
    talk = Talk()
    assert isinstance(talk.hear(request_bytes)[0], Request)
    talk.conn.resume_body()
    assert talk.written() == b""


def test_a_final_status_in_place_of_100_says_whether_the_body_is_read() -> None:
    talk = Talk()
    talk.hear(POST + EXPECT + b"Content-Length: 3\r\n\r\n")
    assert CLOSE in talk.say(Response(403))
    assert talk.hear(b"abc" + GET + END) == []
    assert talk.conn.close_reason is CloseReason.CONTINUE_OWED


def test_an_http_1_0_peer_is_sent_no_interim_response() -> None:
    talk = Talk()
    talk.hear(GET_1_0 + END)
    assert talk.say(InformationalResponse(103), InformationalResponse(100)) == b""
    assert talk.say(Response(200)).startswith(b"HTTP/1.1 200 ")


def test_no_interim_response_follows_the_final_one() -> None:
    with pytest.raises(LocalError):
        answer(GET + END, Response(200, (), None), InformationalResponse(103))
    with pytest.raises(LocalError):
        answer(GET + END, Response(200), InformationalResponse(103))


# Other protocols.


@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        (b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, , WebSocket,\r\n", b"websocket"),
        (b"Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: upgrade\r\nUpgrade: h2c\r\n", None),
        (b"Upgrade: websocket\r\n", None),
        (b"Connection: upgrade\r\n", None),
        (b"", None),
    ],
)
def test_a_protocol_is_taken_only_when_it_was_offered(offer: bytes, taken: bytes | None) -> None:
    talk = Talk([b"websocket"])
    [request] = talk.hear(GET + offer + END)
    assert isinstance(request, Request)
    assert request.upgrade == taken
    if taken is None:
        with pytest.raises(LocalError):
            talk.conn.switch_protocols()
    else:
        assert talk.conn.switch_protocols() == [Switched(taken, b"")]


def test_an_offer_in_http_1_0_is_ignored() -> None:
    talk = Talk([b"websocket"])
    [request] = talk.hear(b"GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n")
    assert isinstance(request, Request)
    assert request.upgrade is None


def test_a_101_names_the_protocol() -> None:
    talk = Talk([b"websocket"])
    talk.hear(WEBSOCKET + END + b"\x81\x00")
    assert talk.conn.switch_protocols() == [Switched(b"websocket", b"\x81\x00")]
    head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert talk.written() == head
    assert talk.conn.state is State.SWITCHED
    with pytest.raises(LocalError):
        answer(WEBSOCKET + END, InformationalResponse(101), upgrades=[b"websocket"])


def test_a_protocol_is_taken_only_behind_the_whole_request() -> None:
    talk = Talk([b"websocket"])
    talk.hear(WEBSOCKET + b"Content-Length: 3\r\n\r\nab")
    with pytest.raises(LocalError):
        talk.conn.switch_protocols()


@pytest.mark.parametrize("body", [b"", b"abc"], ids=["no content", "content has come"])
def test_a_100_that_is_expected_comes_before_a_101(body: bytes) -> None:
    talk = Talk([b"websocket"])
    request = talk.hear(WEBSOCKET + EXPECT + b"Content-Length: %d\r\n\r\n" % len(body) + body)[0]
    assert isinstance(request, Request)
    if request.upgrade is not None:  # an offer may be ignored
        talk.conn.switch_protocols()
        assert talk.written().startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 ")


@pytest.mark.parametrize("target", [b"a:", b"a", b"a:x", b"a:65536", b":443", b"[::1:443", b"u@a:443"])
def test_a_tunnel_needs_a_host_and_a_port(target: bytes) -> None:
    talk = Talk([b"connect"])
    assert talk.hear(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % target) == [Refused(400, RefuseReason.BAD_TARGET)]
    assert isinstance(Talk([b"connect"]).hear(CONNECT + END)[0], Request)


def test_a_2xx_to_connect_is_the_one_that_opens_the_tunnel() -> None:
    talk = Talk([b"connect"])
    talk.hear(CONNECT + END)
    with pytest.raises(LocalError):
        talk.say(Response(204))
    assert talk.conn.switch_protocols() == [Switched(b"connect", b"")]
    written = talk.written()
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert content(written) == b""


def test_nothing_behind_a_declined_tunnel_is_a_request() -> None:
    talk = Talk([b"connect"])
    talk.hear(CONNECT + END + GET + END)
    assert CLOSE in talk.say(Response(403))
    assert talk.conn.next_events() == []
    assert talk.conn.close_reason is CloseReason.TUNNEL_DECLINED
