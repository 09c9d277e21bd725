"""Where a message ends, step by step of RFC 9112 §6.3."""

import pytest

from h1core import Limits, LocalError, RefuseReason
from h1core.http1.framing import (
    CHUNKED,
    FORBIDDEN,
    NO_BODY,
    UNTIL_CLOSE,
    Framing,
    Kind,
    request_framing,
    response_framing,
)
from h1core.http1.statuses import WITHOUT_CONTENT

LIMITS = Limits(max_body_bytes=1000)


def length(count: int) -> Framing:
    return Framing(Kind.LENGTH, count)


def framing_of(
    content_length: bytes | None = None, coding: bytes | None = None, method: bytes = b"POST", version: bytes = b"1.1"
) -> Framing | RefuseReason:
    given = {b"content-length": content_length, b"transfer-encoding": coding}
    return request_framing(method, version, {name: value for name, value in given.items() if value is not None}, LIMITS)


# Requests.


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT", b"X"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_request_without_framing_fields_has_no_body(method: bytes, version: bytes) -> None:
    assert framing_of(method=method, version=version) is NO_BODY


@pytest.mark.parametrize(
    ("value", "framing"),
    [
        (b"0", NO_BODY),
        (b"000", NO_BODY),
        (b"1", length(1)),
        (b"0010", length(10)),
        (b"999", length(999)),
        (b"1000", length(1000)),
        (b"0" * 5000 + b"5", length(5)),
        (b"1001", RefuseReason.BODY_TOO_LARGE),
        (b"9" * 18, RefuseReason.BODY_TOO_LARGE),
        (b"9" * 19, RefuseReason.BODY_TOO_LARGE),
        (b"9" * 5000, RefuseReason.BODY_TOO_LARGE),  # int() has a limit of its own
        *(
            (value, RefuseReason.BAD_CONTENT_LENGTH)
            for value in (b"", b"+1", b"-1", b"1_0", b"0x1", b"1.0", b"1 0", b"1,1", b"1, 1", b"\xb2", b"a")
        ),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_length_is_one_decimal_number_within_the_limit(method: bytes, value: bytes, framing: object) -> None:
    assert framing_of(value, method=method) == framing
    assert framing_of(value, method=method, version=b"1.0") == framing


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"CHUNKED"])
def test_the_coding_is_chunked(coding: bytes) -> None:
    assert framing_of(coding=coding) is CHUNKED
    assert framing_of(coding=coding, method=b"GET") is CHUNKED


@pytest.mark.parametrize(
    ("coding", "reason"),
    [
        (b"gzip, chunked", RefuseReason.UNKNOWN_TRANSFER_CODING),
        (b"gzip;q=1,CHUNKED", RefuseReason.UNKNOWN_TRANSFER_CODING),
        (b"identity, chunked", RefuseReason.UNKNOWN_TRANSFER_CODING),
        *(
            (coding, RefuseReason.BAD_TRANSFER_ENCODING)
            for coding in (
                b"",
                b"gzip",
                b"identity",
                b"chunked, gzip",
                b"chunked, chunked",
                b"gzip, chunked, chunked",
                b"chunked,",
                b",chunked",
                b"chunked;q=1",
                b"xchunked",
                b"chunked x",
                b"\x0bchunked",
                b'"chunked"',
                b"(), chunked",
            )
        ),
    ],
)
def test_any_other_coding_is_refused(coding: bytes, reason: RefuseReason) -> None:
    assert framing_of(coding=coding) is reason


def test_fields_that_contradict_each_other_are_refused() -> None:
    assert framing_of(b"5", b"chunked") is RefuseReason.LENGTH_AND_CODING
    assert framing_of(b"x", b"gzip") is RefuseReason.LENGTH_AND_CODING
    assert framing_of(coding=b"chunked", version=b"1.0") is RefuseReason.CODING_IN_HTTP_1_0
    assert framing_of(b"5", b"chunked", version=b"1.0") is RefuseReason.CODING_IN_HTTP_1_0


@pytest.mark.parametrize("fields", [(b"0", None), (b"5", None), (b"9999", None), (None, b"chunked")])
def test_a_connect_has_no_body_and_no_word_of_one(fields: tuple[bytes | None, bytes | None]) -> None:
    assert framing_of(*fields, method=b"CONNECT") is RefuseReason.CONNECT_WITH_BODY


# Responses.


def answer(
    body_bytes: int | None,
    content_length: bytes | None = None,
    coding: bytes | None = None,
    *,
    status: int = 200,
    method: bytes = b"GET",
    version: bytes = b"1.1",
) -> Framing:
    given = {b"content-length": content_length, b"transfer-encoding": coding}
    control = {name: value for name, value in given.items() if value is not None}
    return response_framing(status, method, version, control, body_bytes)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_whole_response_has_the_length_of_its_body(version: bytes) -> None:
    assert answer(0, version=version) == length(0)
    assert answer(5, version=version) == answer(5, b"5", version=version) == answer(5, b"05") == length(5)


def test_a_streamed_response_has_the_length_it_says() -> None:
    assert answer(None, b"5") == answer(None, b"5", version=b"1.0") == answer(None, b"5".zfill(18)) == length(5)


def test_a_streamed_response_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    assert answer(None) is answer(None, coding=b"chunked") is answer(None, coding=b"Chunked") is CHUNKED
    assert answer(None, version=b"1.0") is UNTIL_CLOSE


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
@pytest.mark.parametrize("body_bytes", [0, None])
def test_a_response_to_head_may_say_how_long_it_would_be(status: int, body_bytes: int | None) -> None:
    assert answer(body_bytes, status=status, method=b"HEAD") is NO_BODY
    assert answer(body_bytes, b"5", status=status, method=b"HEAD") is NO_BODY
    assert answer(None, coding=b"chunked", status=status, method=b"HEAD") is NO_BODY
    with pytest.raises(LocalError, match=r"^a response to HEAD has no body; send it with body=b''$"):
        answer(1, status=status, method=b"HEAD")


@pytest.mark.parametrize("status", WITHOUT_CONTENT)
@pytest.mark.parametrize("body_bytes", [0, 5, None])
def test_a_status_without_content_has_none(status: int, body_bytes: int | None) -> None:
    assert answer(body_bytes, status=status) is FORBIDDEN
    assert answer(body_bytes, b"9", status=status) is FORBIDDEN
    assert answer(body_bytes, coding=b"chunked", status=status) is FORBIDDEN


@pytest.mark.parametrize("declared", [b"4", b"6", b"0"])
def test_a_length_that_is_not_the_body_s_is_a_mistake(declared: bytes) -> None:
    with pytest.raises(LocalError, match=r"Content-Length says \d and the body has 5 bytes; leave the field out"):
        answer(5, declared)


@pytest.mark.parametrize("declared", [b"", b"+5", b"5, 5", b"5 ", b"0x5", b"\xb2", b"9" * 19])
def test_a_length_that_is_no_number_is_a_mistake(declared: bytes) -> None:
    for body_bytes in (5, None):
        with pytest.raises(LocalError, match="Content-Length must be one decimal number"):
            answer(body_bytes, declared)


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"identity"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_coding_that_changes_nothing_decides_nothing(coding: bytes, version: bytes) -> None:
    assert answer(5, b"5", coding, version=version) == answer(5, coding=coding, version=version) == length(5)
    assert answer(None, b"5", coding, version=version) == length(5)
    assert answer(None, coding=coding, version=version) is (CHUNKED if version == b"1.1" else UNTIL_CLOSE)


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b""])
def test_a_coding_that_we_do_not_do_is_a_mistake(coding: bytes) -> None:
    with pytest.raises(LocalError, match="the only transfer coding is chunked"):
        answer(None, coding=coding)


@pytest.mark.parametrize("status", sorted(set(range(200, 600)) - set(WITHOUT_CONTENT)))
def test_a_status_that_is_not_unusual_is_framed_by_its_length(status: int) -> None:
    assert answer(0, status=status) == length(0)  # what writer.py takes for granted
