"""Heads that came before: what is remembered of them, and that it changes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h1core import Limits, RefuseReason
from h1core.http1 import head_cache
from h1core.http1.head_cache import (
    BEGIN_BYTES,
    MAX_CACHED_HEAD_BYTES,
    MAX_CACHED_HEADS,
    MAX_CACHED_SECTION_BYTES,
    MAX_CACHED_SECTIONS,
    MAX_SEEN,
    SECRET_FIELDS,
    parse_cached,
)
from h1core.http1.request_head import ParsedHead, parse_request_head
from tests.kit import request

LIMITS = Limits()
TAKEN = frozenset({b"chat", b"connect"})
SIGHTS = 4
"""How often a head comes until it is recalled by its field lines; a short one is known whole then, or a time later."""


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for table in (head_cache._sections, head_cache._heads, head_cache._seen):
        table.clear()


def see(head: bytes, times: int = SIGHTS) -> ParsedHead:
    """Let a head come until it is remembered, if it ever is."""
    for _ in range(times - 1):
        parse_cached(head, LIMITS, TAKEN)
    parsed = parse_cached(head, LIMITS, TAKEN)
    assert isinstance(parsed, tuple), parsed
    return parsed


def get(*lines: str) -> bytes:
    return request("GET / HTTP/1.1", *lines)


def is_recalled(head: bytes, monkeypatch: pytest.MonkeyPatch, limits: Limits = LIMITS) -> bool:
    """Whether a head is known without being parsed."""
    judged: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(head_cache, "parse_request_head", lambda head, *_: judged.append(head))
        parse_cached(head, limits, TAKEN)
    return not judged


# What comes out does not depend on what came before.

LINES = [
    *("GET / HTTP/1.1", "GET /?a=b HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/1.2", "POST / HTTP/1.1", "HEAD / HTTP/1.1"),
    *("GET http://b/ HTTP/1.1", "CONNECT a:1 HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /" + 9000 * "a" + " HTTP/1.1"),
    *("M" * 33 + " / HTTP/1.1", "GET", "GET /  HTTP/1.1", "GET /# HTTP/1.1"),
    *("CONNECT / HTTP/1.1", "GET / HTTP/1.10", "GET / HTTP/1.1 ", "GET / HTTP/1.1\rA: b"),
]
NAMES = [
    *("Cookie", "cookie", "COOKIE", "Authorization", "authorization", "X-Cookie", "Proxy-Authorization", "X-Api-Key"),
    *("ookie", "uthorization", "Aookie", "Cuthorization", "A", "b"),
]
VALUES = ["a", "", "a b", "ookie: x", "a\tb", "\xff", "k=v; ookie: z", "Cookie: a", "\x00"]
FIELDS = [
    *(
        "Host: b",
        "Connection: close",
        "Connection: keep-alive",
        "Content-Length: 5",
        "Content-Length: 0",
        "C",
        "",
        "A : b",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: chat",
        "Connection: upgrade",
        "A: b\rC: d",
        " A: b",
    ),
]
any_line = st.one_of(
    st.sampled_from(FIELDS),
    st.tuples(*map(st.sampled_from, (NAMES, [": ", ": ", ":", ":\t"], VALUES, ["", "", " "]))).map("".join),
)
any_head = st.tuples(st.sampled_from(LINES), st.lists(any_line, max_size=6), st.booleans()).map(
    lambda parts: (
        request(parts[0], *parts[1]) if parts[2] else request(parts[0], *parts[1]).replace(b"\r\nHost: x", b"")
    )
)


@given(st.lists(any_head, min_size=1, max_size=3), st.integers(1, 6))
def test_a_head_comes_out_the_same_each_time(heads: list[bytes], most: int) -> None:
    forget()
    few = replace(LIMITS, max_fields=most)
    for _ in range(SIGHTS + 1):
        for head in heads:
            assert parse_cached(head, LIMITS, TAKEN) == parse_request_head(head, LIMITS, TAKEN)
            assert parse_cached(head, few, ()) == parse_request_head(head, few, ())


@given(any_head, st.integers(0, 300), st.integers(0, 255), st.sampled_from(LINES))
def test_one_byte_beside_what_is_remembered_is_judged_anew(head: bytes, at: int, byte: int, line: str) -> None:
    forget()
    for _ in range(SIGHTS + 1):
        parse_cached(head, LIMITS, TAKEN)
    at %= len(head)
    shorter = head[:at] + head[at + 1 :]
    other = head[:at] + bytes([byte]) + head[at + 1 :]
    behind_another = line.encode() + head[head.find(b"\r\n") :]
    for changed in (other, shorter, head[:at] + b"\r\n\r\n", head[at:], behind_another, head + head):
        if changed.endswith(b"\r\n\r\n"):
            assert parse_cached(changed, LIMITS, TAKEN) == parse_request_head(changed, LIMITS, TAKEN)


def test_lines_that_end_like_those_with_a_cookie_cut_out_are_not_taken_for_them() -> None:
    see(get("Cookie: b"))
    assert head_cache._sections
    assert parse_cached(get("C"), LIMITS, TAKEN) is None


@pytest.mark.parametrize(("ours", "other"), [("Authorization", "Aookie"), ("Cookie", "Cuthorization")])
def test_a_name_that_ends_like_that_of_a_secret_is_not_taken_for_it(ours: str, other: str) -> None:
    see(get(ours + ": b"))
    assert see(get(other + ": b"))[0].headers[1] == (other.lower().encode(), b"b")
    assert see(get("X-" + ours + ": b"))[0].headers[1] == (b"x-" + ours.lower().encode(), b"b")


@pytest.mark.parametrize("lines", [[], ["A: 1"], ["A: 1", "Cookie: x"]])
def test_a_request_that_the_caller_changes_changes_no_other(lines: list[str]) -> None:
    for _ in range(SIGHTS + 2):
        request, *_ = see(get(*lines), 1)
        assert len(request.headers) == 1 + len(lines)
        assert isinstance(request.headers, list)
        request.headers.clear()
        request.body = b"x"


# What is remembered.


@pytest.mark.parametrize(
    "lines", [[], ["A: b"], ["Cookie: x", "A: b"], ["Content-Length: 5"], ["A:".ljust(BEGIN_BYTES)], ["A:".ljust(999)]]
)
def test_field_lines_are_remembered_when_they_come_again(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    see(request("POST / HTTP/1.1", *lines), 1)
    assert not head_cache._sections
    see(request("POST / HTTP/1.1", *lines))
    assert len(head_cache._sections) == 1
    assert is_recalled(request("GET /other?target HTTP/1.1", *lines), monkeypatch)


def test_a_short_head_is_remembered_whole_when_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    head = get("A: b")
    see(head, SIGHTS - 1)
    assert not head_cache._heads
    see(head, 2)
    assert list(head_cache._heads) == [head]
    head_cache._sections.clear()
    assert is_recalled(head, monkeypatch)


def test_the_secret_of_a_remembered_head_is_that_of_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = "A:".ljust(BEGIN_BYTES)
    see(get(begin, "Cookie: one", "B: c"))
    for value in ("two", " t w o ", "\tt\xff"):
        head = get(begin, "Cookie: " + value, "B: c")
        assert is_recalled(head, monkeypatch)
        assert see(head, 1)[0].headers[2:] == [(b"cookie", value.strip().encode("latin-1")), (b"b", b"c")]
    for value in ("", "t\0", "t\rA: b"):
        assert not is_recalled(get(begin, "Cookie: " + value, "B: c"), monkeypatch)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("fields", [[], ["Cookie: x"], ["Connection: keep-alive"], ["Content-Length: 5"]])
def test_remembered_field_lines_are_judged_by_the_line_before_them(line: str, fields: list[str]) -> None:
    see(get(*fields))
    head = request(line, *fields)
    assert parse_cached(head, LIMITS, TAKEN) == parse_request_head(head, LIMITS, TAKEN)


@pytest.mark.parametrize("value", ["x ookie: y", "ookie: x", "Cookie: x", "\tuthorization: x"])
def test_what_looks_like_a_secret_within_a_value_is_part_of_it(value: str) -> None:
    begin = "A:".ljust(BEGIN_BYTES)
    for _ in range(SIGHTS):
        for more in ("", "z"):
            assert see(get(begin, f"B:{value}{more}"), 1)[0].headers[2] == (b"b", (value + more).strip().encode())


def test_what_was_judged_by_other_limits_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for times in (SIGHTS, SIGHTS + 1):
        see(get("A: b"), times)
        assert is_recalled(get("A: b"), monkeypatch)
        assert not is_recalled(get("A: b"), monkeypatch, Limits())


def test_what_was_judged_for_another_version_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    see(get("A: b"))
    assert not is_recalled(request("GET / HTTP/1.0", "A: b"), monkeypatch)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("GET / HTTP/1.1", "Upgrade: chat"),
        ("GET / HTTP/1.1", "Expect: 100-continue"),
        ("CONNECT a:1 HTTP/1.1", "A: b"),
        ("GET http://b/ HTTP/1.1", "A: b"),
        ("OPTIONS * HTTP/1.1", "A: b"),
    ],
)
def test_what_depends_on_more_than_the_field_lines_is_not_remembered(line: str, field: str) -> None:
    see(request(line, field), SIGHTS + 1)
    assert not head_cache._sections
    assert not head_cache._heads


def test_what_is_refused_is_not_remembered() -> None:
    for _ in range(SIGHTS + 1):
        assert parse_cached(get("bad : line"), LIMITS, TAKEN) is None
        assert parse_cached(get("Host: a"), LIMITS, TAKEN) is RefuseReason.DUPLICATE_HOST
    assert not head_cache._sections


@pytest.mark.parametrize("spell", [str.title, str.lower, str.upper])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_secret_is_never_remembered(name: bytes, place: int, spell: Callable[[str], str]) -> None:
    for space in (" ", "\t", ""):
        lines = ["A: a", "B: c"]
        lines.insert(place, f"{spell(name.decode())}:{space}s3cret")
        for head in (get(*lines), get("Cookie: s3cret", *lines), get(*lines, "cookie: s3cret", "D: e")):
            for _ in range(SIGHTS + 1):
                parse_cached(head, LIMITS, TAKEN)
        see(get("Cookie: s3cret", "X-Csrf-Token: s3cret"), SIGHTS + 1)
    assert b"s3cret" not in repr((head_cache._sections, head_cache._heads)).encode()


def test_what_lies_around_a_cookie_is_remembered_without_it() -> None:
    see(get("Cookie: s3cret", "B: c"))
    ((key, (_, _, first, name, rest, _, _)),) = head_cache._sections.items()
    assert key == (b"\r\nHost: x\r\nC", b"ookie: ", b"B: c\r\n\r\n")
    assert (first, name, rest) == ([(b"host", b"x")], b"cookie", [(b"b", b"c")])


@pytest.mark.parametrize("more", [0, 1])
def test_long_field_lines_are_not_remembered(more: int) -> None:
    rest = len(get("A:")) - len("GET / HTTP/1.1")
    see(get("A:".ljust(2 + MAX_CACHED_SECTION_BYTES - rest + more, "x")))
    assert len(head_cache._sections) == 1 - more


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_head_is_not_remembered_whole(more: int) -> None:
    see(get("A:".ljust(2 + MAX_CACHED_HEAD_BYTES - len(get("A:")) + more, "x")), SIGHTS + 1)
    assert len(head_cache._heads) == 1 - more


def test_the_tables_are_bounded() -> None:
    for number in range(max(MAX_SEEN // 2, 3 * MAX_CACHED_SECTIONS, 3 * MAX_CACHED_HEADS)):
        see(get(f"X-Number-{number}: x"), SIGHTS + 1)
        assert len(head_cache._sections) <= MAX_CACHED_SECTIONS
        assert len(head_cache._heads) <= MAX_CACHED_HEADS
        assert len(head_cache._seen) <= MAX_SEEN


def test_what_never_comes_again_drives_out_nothing() -> None:
    kept = get("X-Seen: yes")
    see(kept, SIGHTS + 1)
    for number in range(3 * MAX_CACHED_SECTIONS):
        parse_cached(get(f"X-Number: {number}"), LIMITS, TAKEN)
        parse_cached(request(f"GET /{number} HTTP/1.1", "X-Seen: yes"), LIMITS, TAKEN)
    assert list(head_cache._heads) == [kept]
    assert len(head_cache._sections) == 1
