"""The patterns against the RFC's words: what each takes, what it does not, and that none can be made slow."""

import ipaddress
import itertools
import re
from time import process_time

import pytest

from h1core.http1 import grammar

PATTERNS = {name: value for name, value in vars(grammar).items() if isinstance(value, re.Pattern)}

TAKES: list[tuple[re.Pattern[bytes], str]] = [
    (grammar.TOKEN, "GET m-search !#$%&'*+-.^_`|~09azAZ"),
    (grammar.VERSION, "HTTP/1.1 HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/9.9"),
    (
        grammar.HOST,
        "a a.b A-1.example x_y ~ a%20b !$&'()*+;= 1.2.3.4 1.2.3.400 a: a:0 a:80 a:065535 a:00000000080 a:99999",
    ),
    (
        grammar.HOST,
        "[::] [::1] [1::] [1:2:3:4:5:6:7:8] [1:2:3:4:5:6:1.2.3.4] [::ffff:1.2.3.4] [v1.x:y] [VF.~] [::1]:443",
    ),
    (grammar.ORIGIN_FORM, "/ // /a/b;c=d?e=f /? /%41 /% /%zz /[] /{} /|\\^`~ /a?b?c /@:!$&'()*+,;= /*"),
    (grammar.ABSOLUTE_FORM, "http://a HTTP://a/ https://a?b http://a:80/c?d http:// http:///a http://a@b/"),
    (grammar.AUTHORITY_FORM, "a:1 a.b:443 [::1]:443 1.2.3.4:5 :80"),
    (grammar.DIGITS, "0 00 1 123456789012345678901234567890"),
    (grammar.CHUNK_SIZE, "0 00000000 a F 123abcDEF ffffffffffffffff"),
    (grammar.CHUNK_EXTENSIONS, ';a ;a=b ;a;b ;a="" ;a="b;c" ;a="\\"" ;a="\\\\";b'),
]
REFUSES: list[tuple[re.Pattern[bytes], str]] = [
    (grammar.TOKEN, "a: a( a) a, a/ a; a< a= a> a? a@ a[ a\\ a] a{ a} \x7f é \x00"),
    (grammar.VERSION, "HTTP/1 HTTP/1. HTTP/11 HTTP/1.10 HTTP/01.1 http/1.1 HTTP/1,1 HTTPS/1.1 /1.1 HTTP/1.x XHTTP/1.1"),
    (
        grammar.HOST,
        "a,b a/b a@b a? a# a\\b [] [:] [::1 ::1 [1.2.3.4] [::1%25eth0] [v.x] [v1.] [vg.x] a:b a:-1 a:+1 a:1:2 a%2",
    ),
    (grammar.HOST, "a:100000 [::1]a é a\x00 a\t <a> a|b a^b {a} \x7f"),
    (grammar.ORIGIN_FORM, "a * /# /a#b /<> /\x22 /\x00 /\x7f /é http://a ?a"),
    (grammar.ABSOLUTE_FORM, "ftp://a http:/a http:a //a http://a#b http://a/<> urn:a https"),
    (grammar.AUTHORITY_FORM, "a a: a:b a:123456 a@b:1 a/b:1 ::1:80 [::1]:"),
    (grammar.DIGITS, "+1 -1 1_0 0x1 1.0 1, \u0661 ² ³"),
    (grammar.CHUNK_SIZE, "0x1 +1 -1 1_0 g 1. 00000000000000000 ²"),
    (grammar.CHUNK_EXTENSIONS, '; ;= ;a= ;a=" ;a="b"c ;a="\\" ;=b a ;a=b=c ;a, ;a="\x7f" ;a="\x00" ;a="\\\x01" ;; ;a;'),
]


def words(rows: list[tuple[re.Pattern[bytes], str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("pattern", "word"), [(pattern, word) for pattern, line in rows for word in line.split(" ")]
    )


@words(TAKES)
def test_a_word_of_the_grammar_is_taken(pattern: re.Pattern[bytes], word: str) -> None:
    assert pattern.fullmatch(word.encode("latin-1"))


@words(REFUSES)
def test_any_other_word_is_not(pattern: re.Pattern[bytes], word: str) -> None:
    assert not pattern.fullmatch(word.encode("utf-8" if ord(max(word)) > 255 else "latin-1"))


@pytest.mark.parametrize("name", PATTERNS.keys() - {"EMPTY_LINES", "HOST"})
def test_nothing_is_no_word(name: str) -> None:
    assert not PATTERNS[name].fullmatch(b"")


def test_a_host_may_be_empty_by_the_grammar() -> None:
    assert grammar.HOST.fullmatch(b"")
    assert grammar.HOST.fullmatch(b":80")


def test_a_token_is_made_of_the_fifteen_signs_and_letters_and_digits() -> None:
    letters_and_digits = set(range(0x30, 0x3A)) | set(range(0x41, 0x5B)) | set(range(0x61, 0x7B))
    assert set(grammar.TOKEN_BYTES) == set(b"!#$%&'*+-.^_`|~") | letters_and_digits
    assert {byte for byte in range(256) if grammar.TOKEN.fullmatch(bytes([byte]))} == set(grammar.TOKEN_BYTES)


def test_a_value_has_no_control_byte_but_the_tab() -> None:
    assert set(range(256)) - set(grammar.FIELD_VALUE_BYTES) == (set(range(0x20)) - {0x09}) | {0x7F}


def test_blanks_may_stand_around_the_signs_of_an_extension_and_nowhere_else() -> None:
    takes = grammar.CHUNK_EXTENSIONS.fullmatch
    assert takes(b" \t; a \t=\t b ;c") is not None
    assert takes(b';a=" \t"') is not None
    assert [text for text in (b";a ", b";a b", b";a= ", b";a=b c", b"; ;a") if takes(text)] == []


def test_a_port_comes_out_without_leading_zeros() -> None:
    ports = [
        match[2] for text in (b"a", b"a:", b"a:0", b"a:080", b"a:65536") if (match := grammar.HOST.fullmatch(text))
    ]
    assert ports == [None, b"", b"", b"80", b"65536"]


def test_a_version_is_two_digits() -> None:
    match = grammar.VERSION.fullmatch(b"HTTP/1.0")
    assert match
    assert match.groups() == (b"1", b"0")


def test_an_absolute_form_comes_out_as_authority_and_path() -> None:
    match = grammar.ABSOLUTE_FORM.fullmatch(b"http://a:80/b?c")
    assert match
    assert match.groups() == (b"a:80", b"/b?c")


def test_a_literal_is_an_address_when_the_standard_library_says_so() -> None:
    groups = ["", "0", "1:", ":", "::", "ffff", "1.2.3.4", "1:2", "1:2:3:4:5", "12345"]
    for parts in itertools.product(groups, repeat=3):
        address = "".join(parts)
        assert bool(grammar.HOST.fullmatch(b"[%b]" % address.encode())) is is_ipv6(address), address


def is_ipv6(address: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(address))
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", None),
        (b"a\r\nb\r\n", None),
        (b"a\r", None),  # its line feed may come
        (b"a\n", 1),
        (b"\n", 0),
        (b"a\rb", 1),
        (b"\r\r\n", 0),
        (b"\r\n\n", 2),
        (b"a\r\n\r", None),
    ],
)
def test_a_line_end_is_bare_when_it_lacks_its_other_half(text: bytes, found: int | None) -> None:
    match = grammar.BARE_LINE_END.search(text)
    assert (match and match.start()) == found


def test_a_head_begins_with_a_token_or_an_empty_line() -> None:
    assert {byte for byte in range(256) if grammar.HEAD_START.match(bytes([byte]))} == {*grammar.TOKEN_BYTES, 0x0D}
    for text, length in [(b"", 0), (b"\r\n\r\nGET", 4), (b"\r", 0), (b"\r\n\r", 2), (b"\n", 0), (b"G\r\n", 0)]:
        match = grammar.EMPTY_LINES.match(text)
        assert match
        assert match.end() == length


EVIL = [
    b"a",
    b"0",
    b":",
    b"::",
    b"0:",
    b".",
    b"1.",
    b"%41",
    b"%",
    b"[",
    b" ",
    b"\t",
    b";",
    b";a",
    b";a=",
    b' ; a = "',
    b"\\",
    b'\\"',
]
EVIL += [b"\r\n", b"\r", b"/", b"?", b"@", b",", b"HTTP/", b"http://", b"\xff"]
PREFIXES = [b"", b"[", b"/", b"http://", b';a="', b";", b"a:", b"[v1.", b"[1"]


@pytest.mark.parametrize("name", PATTERNS)
def test_no_input_makes_a_match_slow(name: str) -> None:
    """Four times the length is four times the work, where one that backtracks needs sixteen."""
    pattern = PATTERNS[name]

    def seconds(length: int) -> float:
        inputs = [prefix + (evil * length)[:length] + b"\x00" for prefix in PREFIXES for evil in EVIL]
        start = process_time()
        for text in inputs:
            pattern.match(text)
            pattern.fullmatch(text)
        return process_time() - start

    small, large = min(seconds(2000) for _ in range(3)), min(seconds(8000) for _ in range(3))
    assert large < 10 * small + 0.01
