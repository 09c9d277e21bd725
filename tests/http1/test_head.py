"""Heads, line by line: what a request comes out as, and which mistake is named. The corpus has the wire side of it."""

import pytest

from h1core import Limits, RefuseReason, Request
from h1core.http1.fields import LISTS, SINGLETONS, is_host, parse_trailer_lines
from h1core.http1.head import HeadScan, find_bare_line_end, parse_head, parse_request_line, why_no_head

LIMITS = Limits()


def parse(*lines: bytes) -> tuple[Request, dict[bytes, bytes]]:
    found = parse_head(b"\r\n".join(lines) + b"\r\n\r\n", LIMITS)
    assert isinstance(found, tuple), found
    return found[:2]


def parse_with(*lines: bytes) -> tuple[Request, dict[bytes, bytes]]:
    return parse(b"GET / HTTP/1.1", b"Host: x", *lines)


def refusal(*lines: bytes) -> RefuseReason:
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    found = parse_head(head, LIMITS) or why_no_head(head, LIMITS)
    assert isinstance(found, RefuseReason), found
    return found


# The request line.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", b"1.1", None)),
        (b"get /a?b HTTP/1.0", (b"get", b"/a?b", b"1.0", None)),
        (b"GET / HTTP/1.9", (b"GET", b"/", b"1.1", None)),
        (b"OPTIONS * HTTP/1.1", (b"OPTIONS", b"*", b"1.1", None)),
        (b"GET http://a:80/b HTTP/1.1", (b"GET", b"http://a:80/b", b"1.1", b"a:80")),
        (b"CONNECT a:80 HTTP/1.1", (b"CONNECT", b"a:80", b"1.1", None)),
        (b"CONNECT [::1]:65535 HTTP/1.1", (b"CONNECT", b"[::1]:65535", b"1.1", None)),
        (b"", RefuseReason.BAD_REQUEST_LINE),
        (b"GET /", RefuseReason.BAD_REQUEST_LINE),
        (b"GET  / HTTP/1.1", RefuseReason.BAD_REQUEST_LINE),
        (b"GET / HTTP/1.1 ", RefuseReason.BAD_REQUEST_LINE),
        (b"GET /\tHTTP/1.1", RefuseReason.BAD_REQUEST_LINE),
        (b"G:T / HTTP/1.1", RefuseReason.BAD_METHOD),
        (b"GET / HTTP/1.10", RefuseReason.BAD_VERSION),
        (b"GET / http/1.1", RefuseReason.BAD_VERSION),
        (b"GET / HTTP/2.0", RefuseReason.UNSUPPORTED_VERSION),
        (b"GET / HTTP/0.9", RefuseReason.UNSUPPORTED_VERSION),
        (b"GET /#a HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET http://:80/ HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET http:// HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET http://a@b/ HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET http://a:65536/ HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET ftp://a/ HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"GET * HTTP/1.1", RefuseReason.TARGET_DOES_NOT_FIT),
        (b"GET a:80 HTTP/1.1", RefuseReason.TARGET_DOES_NOT_FIT),
        (b"CONNECT / HTTP/1.1", RefuseReason.TARGET_DOES_NOT_FIT),
        (b"CONNECT * HTTP/1.1", RefuseReason.TARGET_DOES_NOT_FIT),
        (b"CONNECT http://a/ HTTP/1.1", RefuseReason.TARGET_DOES_NOT_FIT),
        (b"CONNECT a HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"CONNECT :80 HTTP/1.1", RefuseReason.BAD_TARGET),
        (b"CONNECT a:65536 HTTP/1.1", RefuseReason.BAD_TARGET),
    ],
)
def test_a_request_line_is_taken_apart_or_refused(line: bytes, expected: object) -> None:
    assert parse_request_line(line, LIMITS) == expected


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"", True),
        (b"a:", True),
        (b":80", False),
        (b":", False),
        (b"a:65535", True),
        (b"a:65536", False),
        (b"a:0065535", True),
        (b"a b", False),
    ],
)
def test_a_host_has_a_port_of_sixteen_bits(value: bytes, valid: bool) -> None:
    assert is_host(value) is valid


# Field lines.


def test_names_come_out_in_lower_case_and_values_without_white_space_around_them() -> None:
    request, _ = parse_with(b"X-Thing: \t a \t b\t ", b"Empty:", b"Blank: \t")
    assert list(request.headers) == [(b"host", b"x"), (b"x-thing", b"a \t b"), (b"empty", b""), (b"blank", b"")]


def test_only_space_and_tab_are_white_space() -> None:
    request, _ = parse_with(b"a: \xa0b\x85")
    assert request.headers[1] == (b"a", b"\xa0b\x85")


def test_repeated_fields_stand_in_their_order() -> None:
    request, fields = parse_with(b"A: 1", b"B: 2", b"a: 3")
    assert list(request.headers)[1:] == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert fields == {b"host": b"x"}  # what does not steer is not looked up


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_may_stand_in_several_lines(name: bytes) -> None:
    _, fields = parse_with(name + b": a", b"B: 1", name.title() + b": b, c")
    assert fields[name] == b"a, b, c"


@pytest.mark.parametrize("name", sorted(SINGLETONS))
def test_a_singleton_may_not_even_when_both_say_the_same(name: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1", b"Host: x", name + b": 1", name.title() + b": 1") is SINGLETONS[name]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no colon", RefuseReason.BAD_FIELD_LINE),
        (b": value", RefuseReason.BAD_FIELD_NAME),
        (b"name : value", RefuseReason.BAD_FIELD_NAME),
        (b"n\xe4me: value", RefuseReason.BAD_FIELD_NAME),
        (b" folded", RefuseReason.FOLDED_FIELD),
        (b"\tfolded: yes", RefuseReason.FOLDED_FIELD),
        (b"a: \x00", RefuseReason.BAD_FIELD_VALUE),
        (b"a: \x7f", RefuseReason.BAD_FIELD_VALUE),
        (b"a: b\x0b", RefuseReason.BAD_FIELD_VALUE),
        (b"a: b\rc", RefuseReason.BARE_CR),
        (b"a: b\nc: d", RefuseReason.BARE_LF),
        (b"host: a b", RefuseReason.BAD_HOST),
        (b"host: a, b", RefuseReason.BAD_HOST),
    ],
)
def test_a_field_line_that_is_none_is_named(line: bytes, reason: RefuseReason) -> None:
    assert refusal(b"GET / HTTP/1.1", line) is reason
    assert refusal(b"GET / HTTP/1.0", b"A: 1", line, b"B: 2") is reason


def test_the_first_of_two_bad_lines_is_named() -> None:
    assert refusal(b"GET / HTTP/1.1", b": 1", b"no colon") is RefuseReason.BAD_FIELD_NAME
    assert refusal(b"GET / HTTP/2.0", b"no colon") is RefuseReason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", [b"1.1", b"1.7"])
def test_a_host_is_needed_from_1_1_on(version: bytes) -> None:
    assert refusal(b"GET / HTTP/" + version) is RefuseReason.MISSING_HOST
    assert refusal(b"GET http://a/ HTTP/" + version) is RefuseReason.MISSING_HOST
    assert parse(b"GET / HTTP/1.0")[0].headers == []


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_the_authority_of_the_target_takes_the_place_of_the_host(version: bytes) -> None:
    request, fields = parse(b"GET http://a:80/ HTTP/" + version, b"B: 1", b"Host: b", b"C: 2")
    assert list(request.headers) == [(b"b", b"1"), (b"host", b"a:80"), (b"c", b"2")]
    assert fields[b"host"] == b"a:80"


def test_the_authority_of_the_target_is_a_host_where_there_was_none() -> None:
    request, fields = parse(b"GET http://a HTTP/1.0", b"B: 1")
    assert list(request.headers) == [(b"b", b"1"), (b"host", b"a")]
    assert fields[b"host"] == b"a"


# What an incomplete head proves.


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (b"\x16", RefuseReason.NOT_HTTP),
        (b" ", RefuseReason.NOT_HTTP),
        (b"\n", RefuseReason.NOT_HTTP),
        (b"GET / HTTP/1.1\n", RefuseReason.BARE_LF),
        (b"GET / HTTP/1.1\rX", RefuseReason.BARE_CR),
        (b"GET / HTTP/1.1\r\r", RefuseReason.BARE_CR),
        (b"GET / HTTP/2.0\r\n", RefuseReason.UNSUPPORTED_VERSION),
        (b"GET / HTTP/1.1\r\nA: b\n", RefuseReason.BARE_LF),
        (b"GET / HTTP/1.1\r\n\r\r", RefuseReason.BARE_CR),
        (b"G" * 22, RefuseReason.REQUEST_LINE_TOO_LONG),
        (b"GET / HTTP/1.1\r\n".ljust(60, b"x"), RefuseReason.HEAD_TOO_LARGE),
    ],
)
def test_a_mistake_is_named_by_its_last_byte_and_not_before(proof: bytes, reason: RefuseReason) -> None:
    limits = Limits(max_request_line_bytes=20, max_head_bytes=60)
    scan = HeadScan()
    found = [scan.check(proof[:end], limits) for end in range(1, len(proof) + 1)]
    assert found == [None] * (len(proof) - 1) + [reason]
    assert HeadScan().check(proof, limits) is reason
    assert HeadScan().check(proof + b" \n\r\x00", limits) is reason


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r", b"G", b"GET / HTTP/1.1\r"])
def test_what_may_still_become_a_head_is_waited_for(text: bytes) -> None:
    scan = HeadScan()
    assert [scan.check(text[:end], LIMITS) for end in range(1, len(text) + 1)] == [None] * len(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"a\r\n", None),
        (b"a\r", None),
        (b"a\nb", (2, RefuseReason.BARE_LF)),
        (b"a\rb", (3, RefuseReason.BARE_CR)),
        (b"a\r\r\n", (3, RefuseReason.BARE_CR)),
    ],
)
def test_a_bare_line_end_is_found_with_the_bytes_that_prove_it(text: bytes, found: object) -> None:
    assert find_bare_line_end(text) == found


# Trailers have the same lines.


def test_trailer_lines_are_field_lines() -> None:
    assert parse_trailer_lines(b"A: 1\r\nb:2") == [(b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize("section", [b"", b"no colon", b" a: b", b"a : b", b"a: \x00", b"a: b\r\n\r\nc: d"])
def test_bad_trailer_lines_are_none(section: bytes) -> None:
    assert parse_trailer_lines(section) is None
