"""Scenarios of what is refused, and of limits."""

from h1core import CloseReason

from .scenario import (
    KEPT,
    THREADS,
    WAITING_KINDS,
    Row,
)
from .scenario_steps import (
    Asked,
    Called,
    Connect,
    Gets,
    HalfClose,
    Release,
    Reset,
    SeesEnd,
    Send,
    Takes,
    Wait,
    Widen,
)
from .scenario_wire import (
    BAD,
    BROKEN,
    CHUNKED_HEAD,
    CLOSE,
    EXPECTING_HEAD,
    GET,
    LARGE_BODY,
    LARGE_FIELDS,
    LAST_GET,
    OVERLOADED,
    POST_HEAD,
    REFUSED,
    TOO_LARGE,
    body,
    closes,
    get,
    large,
    lingers,
    ok,
    own,
    post,
    target,
)


def refusal(name: str, wire: bytes, status: bytes, sentence: str, **limits: int) -> Row:
    """A row for something that is refused, behind a request that is answered, and with one behind it that is not."""
    answer = own(status, sentence)
    return Row(name, (Send(GET), Gets(ok(b"/")), Send(wire + GET), Gets(answer)), REFUSED, target, limits=limits)


REFUSALS = [
    refusal(
        "TLS", b"\x16\x03\x01\x02\x00\x01", BAD, "The connection does not begin with an HTTP/1.x request. (RFC 9112 §3)"
    ),
    refusal(
        "a bare line feed",
        b"GET / HTTP/1.1\nHost: a\n\n",
        BAD,
        "A line ends in a line feed without a carriage return. (RFC 9112 §2.2)",
    ),
    refusal(
        "HTTP/2",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"505 HTTP Version Not Supported",
        "This server speaks HTTP/1.0 and HTTP/1.1. (RFC 9110 §15.6.6)",
    ),
    refusal(
        "a space before the colon",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        BAD,
        "A field name is empty, not a token, or followed by white space. (RFC 9112 §5.1)",
    ),
    refusal(
        "a folded field",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        BAD,
        "A field value is folded over lines. (RFC 9112 §5.2)",
    ),
    refusal(
        "a control byte in a value",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        BAD,
        "A field value holds a control byte. (RFC 9110 §5.5)",
    ),
    refusal("no Host", b"GET / HTTP/1.1\r\n\r\n", BAD, "An HTTP/1.1 request needs a Host field. (RFC 9112 §3.2)"),
    refusal(
        "two Hosts",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        BAD,
        "There is more than one Host field. (RFC 9112 §3.2)",
    ),
    refusal(
        "a Content-Length with a sign",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        BAD,
        "Content-Length is not a plain decimal number. (RFC 9112 §6.3)",
    ),
    refusal(
        "Content-Length and Transfer-Encoding",
        CHUNKED_HEAD[:-2] + b"Content-Length: 1\r\n\r\n",
        BAD,
        "Content-Length and Transfer-Encoding stand together. (RFC 9112 §6.3)",
    ),
    refusal(
        "chunked in HTTP/1.0",
        CHUNKED_HEAD.replace(b"/1.1", b"/1.0"),
        BAD,
        "HTTP/1.0 has no Transfer-Encoding. (RFC 9112 §6.1)",
    ),
    refusal(
        "another coding",
        CHUNKED_HEAD.replace(b"chunked", b"gzip, chunked"),
        b"501 Not Implemented",
        "The only transfer coding this server knows is chunked. (RFC 9112 §6.1)",
    ),
    refusal(
        "CONNECT",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"501 Not Implemented",
        "This server opens no tunnels. (RFC 9110 §9.3.6)",
    ),
    refusal(
        "an unknown expectation",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n",
        b"417 Expectation Failed",
        "The expectation is not one this server can meet. (RFC 9110 §10.1.1)",
    ),
    refusal(
        "a chunk size with a sign",
        CHUNKED_HEAD + b"+1\r\nx\r\n0\r\n\r\n",
        BAD,
        "A chunk size is not a plain hexadecimal number. (RFC 9112 §7.1)",
    ),
    refusal(
        "a chunk longer than its size",
        CHUNKED_HEAD + b"1\r\nxy\r\n0\r\n\r\n",
        BAD,
        "Chunk data is not followed by CR LF. (RFC 9112 §7.1)",
    ),
    refusal(
        "a trailer that frames",
        CHUNKED_HEAD + b"0\r\nContent-Length: 1\r\n\r\n",
        BAD,
        "A field stands in the trailer section that may not. (RFC 9110 §6.5.1)",
    ),
]


REFUSALS += [
    Row(
        "a refusal behind a response that is not read yet",
        (
            Send(GET),
            Takes(500),
            Send(b"\x16\x03\x01" + GET),
            Widen(),
            Gets(
                ok(LARGE_BODY) + own(BAD, "The connection does not begin with an HTTP/1.x request. (RFC 9112 §3)"),
            ),
        ),
        REFUSED,
        large,
        window_bytes=20_000,
    )
]

LIMITS = [
    Row(
        "max_request_line_bytes",
        (
            Send(get(b"/" * 87)),  # and 13 for the rest of the line
            Gets(ok(b"/" * 87)),
            Send(get(b"/" * 88)),
            Gets(own(b"414 URI Too Long", "The request line is too long. (RFC 9112 §3)")),
        ),
        REFUSED,
        target,
        limits={"max_request_line_bytes": 100},
    ),
    Row(
        "max_head_bytes",
        (
            Send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 66 + b"\r\n\r\n"),
            Gets(ok(b"/")),
            Send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 67 + b"\r\n\r\n"),
            Gets(own(LARGE_FIELDS, "The request head is too large. (RFC 6585 §5)")),
        ),
        REFUSED,
        target,
        limits={"max_head_bytes": 98, "max_request_line_bytes": 98},
    ),
    Row(
        "max_fields",
        (
            Send(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n"),
            Gets(ok(b"/")),
            Send(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nX: 3\r\n\r\n"),
            Gets(own(LARGE_FIELDS, "The request head has too many fields. (RFC 6585 §5)")),
        ),
        REFUSED,
        target,
        limits={"max_fields": 3},
    ),
    refusal(
        "max_method_bytes",
        b"LINK / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"501 Not Implemented",
        "The method is longer than any this server knows. (RFC 9112 §3)",
        max_method_bytes=3,
    ),
    refusal(
        "max_chunk_extension_bytes",
        CHUNKED_HEAD + b"1;a=bcd\r\nx\r\n1;a=bcde\r\nx\r\n0\r\n\r\n",
        BAD,
        "Chunk extensions are too large. (RFC 9112 §7.1.1)",
        max_chunk_extension_bytes=6,
    ),
    refusal(
        "max_chunk_extensions_bytes",
        CHUNKED_HEAD + b"1;a=bcd\r\nx\r\n1;a=bc\r\nx\r\n0\r\n\r\n",
        BAD,
        "Chunk extensions are too large. (RFC 9112 §7.1.1)",
        max_chunk_extensions_bytes=10,
    ),
    refusal(
        "max_trailer_bytes",
        CHUNKED_HEAD + b"0\r\nX: 345678\r\n\r\n",
        LARGE_FIELDS,
        "The trailer section is too large. (RFC 6585 §5)",
        max_trailer_bytes=10,
    ),
    refusal(
        "max_trailer_fields",
        CHUNKED_HEAD + b"0\r\nX: 1\r\nX: 2\r\n\r\n",
        LARGE_FIELDS,
        "The trailer section has too many fields. (RFC 6585 §5)",
        max_trailer_fields=1,
    ),
    Row(
        "max_body_bytes: declared: refused at once, and the client may go on sending",
        (
            Send(post(b"ten bytes!")),
            Gets(ok(b"ten bytes!")),
            Send(POST_HEAD.replace(b"10", b"11")),
            Gets(TOO_LARGE),
            SeesEnd(),
            Send(b"x" * 11 + GET),
            Gets(b""),
        ),
        REFUSED,
        body,
        limits={"max_body_bytes": 10},
    ),
    Row(
        "max_body_bytes: for a client that waits for 100 Continue",
        (Send(EXPECTING_HEAD), Gets(TOO_LARGE)),
        REFUSED,
        body,
        limits={"max_body_bytes": 9},
    ),
    Row(
        "max_body_bytes: chunked",
        (Send(CHUNKED_HEAD + b"8\r\nin part \r\n"), Gets(b""), Send(b"3\r\n"), Gets(TOO_LARGE)),
        REFUSED,
        body,
        limits={"max_body_bytes": 10},
    ),
    Row(
        "max_body_bytes: all of it sent before anything is read",
        (Send(post(b"x" * 4_000_000)), Gets(TOO_LARGE)),
        REFUSED,
        body,
        limits={"max_body_bytes": 1_000_000},
    ),
    Row(
        "initial_buffer_bytes: requests are read in bits",
        (Send(post(b"one") + post(b"two")), Gets(ok(b"one") + ok(b"two"))),
        handler=body,
        limits={"initial_buffer_bytes": 1},
    ),
    Row(
        "max_buffer_bytes: pipelined requests wait in the network",
        (Send(get(b"/1")), Called(1), Send(GET * 60), Release(), Gets(ok(b"/1") + ok(b"/") * 60)),
        handler=target,
        limits={
            "max_buffer_bytes": 600,
            "initial_buffer_bytes": 200,
            "max_head_bytes": 200,
            "max_request_line_bytes": 200,
        },
        is_held=True,
        kinds=WAITING_KINDS,
    ),
    Row(
        "max_output_bytes: a client that does not read is answered when it does",
        (Send(GET * 5), Wait(5), Takes(1000), Wait(5), Widen(), Gets(ok(LARGE_BODY) * 5)),
        handler=large,
        limits={"max_output_bytes": 1000},
        window_bytes=2000,
    ),
    Row(
        "max_linger_bytes: a client that goes on sending is let go",
        (Send(LAST_GET), Gets(ok(b"/", CLOSE)), SeesEnd(), Send(b"x" * 1001), Gets(b"")),
        closes(CloseReason.PEER_ASKED),
        target,
        limits={"max_linger_bytes": 1000},
    ),
    Row(
        "max_requests_per_connection",
        (Send(GET * 4), Gets(ok(b"/") * 2 + ok(b"/", CLOSE)), SeesEnd()),
        lingers(CloseReason.MAX_REQUESTS),
        target,
        limits={"max_requests_per_connection": 3},
    ),
    Row(
        "max_connections: a newcomer waits until another client has gone",
        (
            Send(GET),
            Gets(ok(b"/")),
            Connect(),
            Send(get(b"/2"), client=1),
            Gets(b"", client=1),
            Wait(20),
            Send(LAST_GET),
            Gets(ok(b"/", CLOSE)),
            Gets(b"", client=1),
            HalfClose(),
            Gets(ok(b"/2"), client=1),
        ),
        (closes(CloseReason.PEER_ASKED), KEPT),
        target,
        limits={"max_connections": 1},
    ),
    Row(
        "max_connections: whoever waits longest is next",
        (
            Send(GET),
            Gets(ok(b"/")),
            Connect(),
            Send(GET, client=1),
            Gets(ok(b"/"), client=1),
            Connect(),
            Connect(),
            Send(get(b"/3"), client=3),
            Send(get(b"/2"), client=2),
            Gets(b"", client=2),
            Reset(),
            Gets(ok(b"/2"), client=2),
            Gets(b"", client=3),
            Reset(client=1),
            Gets(ok(b"/3"), client=3),
        ),
        (BROKEN, BROKEN, KEPT, KEPT),
        target,
        limits={"max_connections": 2},
    ),
    Row(
        "max_queued_requests: one more is turned away at once",
        (
            Send(get(b"/0")),
            Called(1),
            Connect(),
            Send(get(b"/1"), client=1),
            Asked(2),
            Connect(),
            Send(get(b"/2"), client=2),
            Gets(OVERLOADED, client=2),
            Release(),
            Gets(ok(b"/0")),
            Gets(ok(b"/1"), client=1),
        ),
        (KEPT, KEPT, lingers(CloseReason.OVERLOADED)),
        target,
        limits={"max_queued_requests": 1},
        is_held=True,
        kinds=THREADS,
    ),
]
