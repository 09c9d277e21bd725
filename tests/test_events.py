"""What goes in and out of a connection: values."""

from dataclasses import fields
from typing import get_args

import pytest

from h1core import (
    Closed,
    CloseReason,
    Data,
    EndOfMessage,
    Event,
    FileSlice,
    InformationalResponse,
    LocalError,
    Refused,
    RefuseReason,
    Request,
    Response,
    Sendable,
    Switched,
    TimedOut,
    Timer,
)

VALUES: list[Event | Sendable] = [
    Request(b"GET", b"/", ()),
    Data(b"x"),
    EndOfMessage(),
    Refused(400, RefuseReason.NOT_HTTP),
    TimedOut(Timer.HEAD),
    Closed(CloseReason.PEER_CLOSED),
    Switched(b"chat", b""),
    Response(200),
    InformationalResponse(103),
    FileSlice(3, 0, 10),
]
each_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


def test_these_are_all_events() -> None:
    assert {type(value) for value in VALUES} == set(get_args(Event)) | set(get_args(Sendable))


@each_value
def test_an_event_is_equal_by_value_and_takes_no_other_attribute(value: Event | Sendable) -> None:
    twin = type(value)(*(getattr(value, field.name) for field in fields(value)))
    assert twin == value
    with pytest.raises(AttributeError):
        twin.unheard_of = 1  # type: ignore[union-attr]  # that there is no such slot is the test


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (0, -1)])
def test_a_part_of_a_file_lies_in_it(offset: int, size: int) -> None:
    with pytest.raises(LocalError, match=rf"^a file has no part at {offset} of {size} bytes$"):
        FileSlice(3, offset, size)


def test_the_shortest_request_is_a_bodiless_one() -> None:
    request = Request(b"GET", b"/", ())
    assert (request.body, request.version, request.end_stream, request.upgrade) == (b"", b"1.1", True, None)


def test_the_shortest_response_is_a_complete_one() -> None:
    response = Response(204)
    assert (response.headers, response.body) == ((), b"")
