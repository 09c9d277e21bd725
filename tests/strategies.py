"""Request streams, whole and broken, and responses, as hypothesis strategies.

A stream comes with the messages that it must be read as. They are made of what the generator chose, with no parser
between: the bytes and the verdict are two renderings of one choice.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from h1core.config import Limits
from h1core.events import Data, EndOfMessage, Headers, InformationalResponse, Response, Sendable
from h1core.http1.body import FORBIDDEN_TRAILERS

from .corpus_files import Fields, Message, load
from .feed import TINY

DIGITS = "0123456789"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TCHARS = "!#$%&'*+-.^_`|~" + DIGITS + LETTERS
PATH_CHARS = "!$%&'()*+,-./:;=?@[\\]^_`{|}~" + DIGITS + LETTERS
VALUE_CHARS = "\t" + "".join(map(chr, [*range(0x20, 0x7F), *range(0x80, 0x100)]))
QUOTED_CHARS = VALUE_CHARS.replace('"', "").replace("\\", "")

STEERING = frozenset(b"host content-length transfer-encoding connection expect upgrade".split())
"""Fields that decide something; they are generated one by one."""
SINGLE = frozenset(b"authorization content-range content-type if-range max-forwards proxy-authorization range".split())


def chars(alphabet: str, least: int = 0, most: int = 12) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, min_size=least, max_size=most).map(lambda text: text.encode("latin-1"))


def in_any_case(text: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text, text.lower(), text.upper(), text.swapcase()])


tokens = chars(TCHARS, 1)
values = st.one_of(chars(VALUE_CHARS, 0, 20), st.just(b"x"))
blanks = st.sampled_from([b" ", b"", b"\t", b" \t "])
hosts = st.sampled_from([b"a", b"Example.org:8080", b"[::1]:80", b"127.0.0.1", b"a%41", b"a:"])
names = st.one_of(tokens, st.sampled_from([b"Cookie", b"User-Agent", b"X-A", b"x-a"]))
dots = st.integers(1, 300).map(lambda count: b"." * count)
contents = st.one_of(st.binary(max_size=30), dots, st.just(b"GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n"))


# Requests.


@dataclass(frozen=True, slots=True)
class Sent:
    """The bytes of a request, what must come of them, and whether another request may follow."""

    wire: bytes
    message: Message
    persists: bool


@dataclass(frozen=True, slots=True)
class SentBody:
    wire: bytes = b""
    content: bytes = b""
    trailers: Fields = ()


@st.composite
def field_lines(draw: st.DrawFn, fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b:%b%b%b\r\n" % (name, draw(blanks), value, draw(blanks)) for name, value in fields]
    return b"".join(lines)


def as_received(fields: Headers) -> Fields:
    return tuple((name.lower(), value.strip(b" \t")) for name, value in fields)


@st.composite
def plain_fields(draw: st.DrawFn, most: int, forbidden: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Fields that steer nothing, each of those that may stand once not more than once."""
    fields = draw(st.lists(st.tuples(names, values), max_size=most))
    seen = [name.lower() for name, _ in fields]
    return [
        field
        for at, field in enumerate(fields)
        if seen[at] not in forbidden and not (seen[at] in SINGLE and seen[at] in seen[:at])
    ]


@st.composite
def extensions(draw: st.DrawFn) -> bytes:
    quoted = chars(QUOTED_CHARS, 0, 5).map(lambda text: b'"%b\\""' % text)
    worth = st.one_of(st.just(b""), st.builds(b"%b=%b%b".__mod__, st.tuples(blanks, blanks, st.one_of(tokens, quoted))))
    one = st.builds(b"%b;%b%b%b".__mod__, st.tuples(blanks, blanks, tokens, worth))
    return b"".join(draw(st.lists(one, max_size=2)))


@st.composite
def chunked_bodies(draw: st.DrawFn) -> SentBody:
    chunks = draw(st.lists(contents.filter(len), max_size=3))
    wire = b""
    for chunk in chunks:
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(chunk)
        wire += b"%b%b\r\n%b\r\n" % (size, draw(extensions()), chunk)
    trailers = draw(plain_fields(2, FORBIDDEN_TRAILERS))
    wire += b"%b%b\r\n%b\r\n" % (draw(st.sampled_from([b"0", b"00"])), draw(extensions()), draw(field_lines(trailers)))
    return SentBody(wire, b"".join(chunks), as_received(trailers))


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A valid request; CONNECT is left out, for it needs a `Conn` that was told to take it."""
    minor = draw(st.sampled_from(b"1111017"))
    method = draw(
        st.one_of(st.sampled_from([b"GET", b"POST", b"HEAD"]), tokens.filter(lambda name: name != b"CONNECT"))
    )
    target = draw(chars(PATH_CHARS).map(b"/".__add__))
    host = authority = draw(hosts)
    form = draw(st.sampled_from("oooas"))
    if form == "a":
        authority = draw(hosts)
        target = draw(in_any_case(b"http")) + b"://" + authority + draw(st.sampled_from([b"", target, b"?a"]))
    elif form == "s":
        method, target = b"OPTIONS", b"*"

    fields = draw(plain_fields(4, STEERING))
    options = draw(st.lists(st.sampled_from([b"keep-alive", b"Close", b"upgrade", b"TE"]), max_size=2))
    fields += [(b"Connection", option) for option in options]
    body = SentBody()
    framing = draw(st.sampled_from("nnlc" if minor != ord("0") else "nnl"))
    if framing == "l":
        content = draw(contents)
        body = SentBody(content, content)
        fields.append((b"Content-Length", draw(st.sampled_from([b"%d", b"00%d"])) % len(content)))
    elif framing == "c":
        body = draw(chunked_bodies())
        fields.append((b"Transfer-Encoding", draw(in_any_case(b"chunked"))))
    if draw(st.integers(0, 5)) == 0:
        fields.append((b"Expect", draw(in_any_case(b"100-continue"))))
    has_host = minor != ord("0") or draw(st.booleans())
    if has_host:
        fields.append((draw(in_any_case(b"Host")), host))
    fields = draw(st.permutations(fields))

    line = b"%b %b HTTP/1.%c\r\n" % (method, target, minor)
    wire = line + draw(field_lines(fields)) + b"\r\n" + body.wire
    # RFC 9112 §3.2.2: what an absolute-form names takes the place of Host.
    headers = [(name, authority if name.lower() == b"host" else value) for name, value in fields]
    if form == "a" and not has_host:
        headers.append((b"host", authority))
    version = b"1.0" if minor == ord("0") else b"1.1"
    persists = b"Close" not in options and (version == b"1.1" or b"keep-alive" in options)
    message = Message(method, target, version, as_received(headers), body.content, body.trailers)
    return Sent(wire, message, persists)


@st.composite
def streams(draw: st.DrawFn, most: int = 4) -> tuple[bytes, list[Message]]:
    """Pipelined requests, and those of them that must surface."""
    sent = draw(st.lists(requests(), min_size=1, max_size=most))
    wire = b"".join(draw(st.sampled_from([b"", b"", b"\r\n"])) + request.wire for request in sent)
    first_last = next((at for at, request in enumerate(sent) if not request.persists), len(sent))
    return wire, [request.message for request in sent[: first_last + 1]]


CORPUS = [case.wire for case in load("valid") + load("invalid") if len(case.wire) <= 1024]
ODD = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"\0", b"\x80", b"0\r\n\r\n", b"1", b"f"]
ODD += [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Host: b\r\n"]


@st.composite
def broken_streams(draw: st.DrawFn) -> bytes:
    """Case files and valid streams in a row, with bytes changed, put in, taken out or repeated."""
    wires = st.one_of(st.sampled_from(CORPUS), streams(2).map(lambda stream: stream[0]))
    wire = b"".join(draw(st.lists(wires, min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(wire)))
        end = start + draw(st.integers(0, 8))
        match draw(st.sampled_from("change insert delete repeat".split())):
            case "change":
                wire = wire[:start] + draw(st.binary(min_size=1, max_size=1)) + wire[start + 1 :]
            case "insert":
                wire = wire[:start] + draw(st.sampled_from(ODD)) + wire[start:]
            case "delete":
                wire = wire[:start] + wire[end:]
            case "repeat":
                wire = wire[:end] + wire[start:]
    return wire or b"G"


def limits_near(wire: bytes) -> st.SearchStrategy[Limits]:
    """The default ones; those that any short stream reaches; those that this one's first head just keeps or breaks."""
    line_bytes = max(8, wire.find(b"\r\n"))  # with less, a HEAD is refused before it can be told from another
    head_bytes = max(8, wire.find(b"\r\n\r\n") + 4)
    near = [Limits(max_request_line_bytes=line_bytes + more) for more in (-1, 0, 1)]
    near += [Limits(max_request_line_bytes=head_bytes - 1, max_head_bytes=head_bytes + more) for more in (-1, 0, 1)]
    return st.sampled_from([Limits(), TINY, *near])


def pieces_of(wire: bytes) -> st.SearchStrategy[list[bytes]]:
    """The bytes, cut anywhere; no piece is empty, for that would be the end of the stream."""
    if len(wire) == 1:
        return st.just([wire])
    cuts = st.lists(st.integers(1, len(wire) - 1), max_size=6, unique=True).map(sorted)
    return cuts.map(lambda at: [wire[start:end] for start, end in zip([0, *at], [*at, len(wire)], strict=True)])


# Responses.

as_given: list[Callable[[bytes], bytes | bytearray | memoryview]] = [bytes, bytearray, memoryview]
buffers = st.builds(
    lambda make, data: make(data),
    st.sampled_from(as_given),
    st.one_of(st.binary(max_size=12), st.sampled_from([b"", b"hello", b"x" * 2_000, b"x" * 20_000])),
)
statuses = st.one_of(st.sampled_from([200, 204, 304, 404, 200, 200]), st.integers(200, 599))
control_fields = st.sampled_from(
    [
        (b"Connection", b"close"),
        (b"connection", b"keep-alive"),
        (b"Connection", b"x-a"),
        (b"Date", b"Sun, 09 Sep 2001 01:46:40 GMT"),
        (b"Content-Length", b"5"),
        (b"content-length", b"0"),
        (b"Transfer-Encoding", b"chunked"),
    ]
)
bad_fields = st.sampled_from(
    [(b"x", b"a\r\nb: c"), (b"x", b"\0"), (b"x y", b""), (b"", b""), (b"x:", b""), (b"Transfer-Encoding", b"gzip")]
    + [(b"Content-Length", length) for length in (b"+5", b"", b"5, 5", b"9" * 30)]
)
fields = st.tuples(names.filter(lambda name: name.lower() not in STEERING), values)
headers: st.SearchStrategy[Headers] = st.lists(st.one_of(fields, fields, fields, control_fields), max_size=3)
bad_headers = st.tuples(headers, bad_fields).map(lambda both: [*both[0], both[1]])

interim = st.builds(InformationalResponse, st.sampled_from([100, 102, 103, 199]), st.lists(fields, max_size=2))
whole = st.builds(Response, statuses, headers, buffers)
begun = st.builds(Response, statuses, headers, st.none())
data = st.builds(Data, buffers)
ends = st.builds(EndOfMessage, st.one_of(st.just(()), st.lists(fields, min_size=1, max_size=2)))
bad: st.SearchStrategy[Sendable] = st.one_of(
    st.builds(Response, st.sampled_from([0, 100, 199, 600, -1]), headers, buffers),
    st.builds(Response, statuses, bad_headers, st.one_of(st.none(), buffers)),
    st.builds(InformationalResponse, st.sampled_from([99, 101, 200]), st.just(())),
    st.builds(InformationalResponse, st.just(103), st.one_of(bad_headers, st.lists(control_fields, min_size=1))),
    st.builds(EndOfMessage, bad_headers),
)
sendables: st.SearchStrategy[Sendable] = st.one_of(whole, begun, data, ends, interim, bad)


@st.composite
def streamed(draw: st.DrawFn) -> list[Sendable]:
    """A streamed response; when it has a Content-Length, that is right."""
    head, pieces, end = draw(begun), draw(st.lists(data, max_size=3)), draw(ends)
    size = b"%d" % sum(len(piece.data) for piece in pieces)
    if draw(st.booleans()):
        head.headers = [*head.headers, (b"Content-Length", b"")]
    head.headers = [(name, size if name.lower() == b"content-length" else value) for name, value in head.headers]
    return [head, *pieces, end]


@dataclass(frozen=True, slots=True)
class Scripted:
    """A request, and what an application sends."""

    method: bytes
    version: bytes
    wire: bytes
    sendables: list[Sendable]


@st.composite
def exchanges(draw: st.DrawFn) -> Scripted:
    """A request and what an application sends: an answer, and between its parts what mostly is refused."""
    answer = draw(st.one_of(whole.map(lambda event: [event]), streamed(), streamed(), st.lists(sendables, max_size=6)))
    too_much = st.just(Data(b"x" * 20_000))
    between = st.lists(st.one_of(interim, bad, too_much), max_size=1)
    plan = [event for part in answer for event in [*draw(between), part]]
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST"]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    connection = draw(st.sampled_from(["keep-alive", "keep-alive", "keep-alive", "close", ""]))
    body = draw(st.sampled_from(["", "", "", "Content-Length: 3", "Content-Length: 3\r\nExpect: 100-continue"]))
    head = f"{method} / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n"
    wire = head + (f"{body}\r\n\r\nabc" if body else "\r\n")
    return Scripted(method.encode(), version.encode(), wire.encode(), plan)
