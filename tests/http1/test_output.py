"""The output queue: what is joined, what is never copied, and what a write may have taken."""

import itertools
from array import array

import pytest

from h1core import FileSlice, LocalError
from h1core.http1.output import JOINED_BYTES, SMALL_BYTES, Buffer, OutputQueue, as_buffer, as_bytes

LARGE = bytes(SMALL_BYTES + 1)


def queue_of(*buffers: Buffer) -> OutputQueue:
    queue = OutputQueue()
    for buffer in buffers:
        queue.add(buffer)
    return queue


def written(queue: OutputQueue, at_most: int) -> list[int]:
    """The sizes of the buffers that came out, when a write takes `at_most` bytes."""
    sizes = []
    while front := queue.front():
        sizes.append(len(front))
        queue.sent(min(at_most, len(front)))
    return sizes


def test_nothing_waits_at_first() -> None:
    assert (bytes(OutputQueue().front()), OutputQueue().size) == (b"", 0)


def test_small_buffers_are_one_write() -> None:
    queue = queue_of(b"a", bytearray(b"b"), memoryview(b"c"), b"d")
    assert (bytes(queue.front()), queue.size) == (b"abcd", 4)


def test_no_more_is_joined_than_a_socket_takes_at_once() -> None:
    queue = queue_of(*[bytes(SMALL_BYTES)] * 5)
    assert written(queue, JOINED_BYTES) == [JOINED_BYTES, SMALL_BYTES]


@pytest.mark.parametrize("body", [LARGE, bytearray(LARGE), memoryview(LARGE)], ids=lambda body: type(body).__name__)
def test_a_large_buffer_is_handed_on_as_it_came(body: Buffer) -> None:
    queue = queue_of(b"a", b"b", body, b"c")
    assert bytes(queue.front()) == b"ab"
    queue.sent(2)
    assert queue.front() is body


def test_the_same_bytes_come_first_until_they_are_sent() -> None:
    queue = queue_of(b"ab", b"cd")
    assert bytes(queue.front()) == bytes(queue.front()) == b"abcd"
    queue.add(b"ef")
    assert bytes(queue.front()) == b"abcdef"
    queue.sent(1)
    assert bytes(queue.front())[:3] == b"bcd"


@pytest.mark.parametrize("at_most", [1, 2, 3, 100])
def test_every_byte_is_written_once_and_in_order_however_little_a_write_takes(at_most: int) -> None:
    queue = queue_of(b"ab", b"c", LARGE[:20], bytearray(b"de"), memoryview(b"fgh"))
    came_out = b""
    for left in itertools.count():
        assert left < 100
        front = bytes(queue.front())[:at_most]
        if not front:
            break
        came_out += front
        queue.sent(len(front))
    assert came_out == b"abc" + LARGE[:20] + b"defgh"
    assert queue.size == 0


def test_a_write_may_end_in_any_buffer() -> None:
    queue = queue_of(b"ab", b"cd", b"ef")
    queue.sent(5)
    assert (bytes(queue.front()), queue.size) == (b"f", 1)


def test_the_rest_of_a_large_buffer_is_not_copied() -> None:
    queue = queue_of(LARGE, b"x")
    queue.sent(1)
    rest = queue.front()
    assert isinstance(rest, memoryview)
    assert rest.obj is LARGE
    queue.sent(1)
    rest = queue.front()
    assert isinstance(rest, memoryview)
    assert (rest.obj, len(rest)) == (LARGE, SMALL_BYTES - 1)


def test_all_can_be_dropped() -> None:
    queue = queue_of(b"a", LARGE)
    queue.clear()
    assert (bytes(queue.front()), queue.size) == (b"", 0)


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"a-b-")[::2]], ids=repr)
def test_received_bytes_may_be_anything_like_bytes(data: object) -> None:
    assert as_bytes(data) == b"ab"


@pytest.mark.parametrize("data", ["ab", 2, None, [97], array("B", b"ab")], ids=repr)
def test_received_text_is_a_mistake(data: object) -> None:
    with pytest.raises(LocalError, match=f"^receive_data takes bytes .* not {type(data).__name__}$"):
        as_bytes(data)


@pytest.mark.parametrize("body", [b"ab", bytearray(b"ab")], ids=repr)
def test_a_body_of_bytes_is_queued_itself(body: Buffer) -> None:
    assert as_buffer(body) is body


def test_a_view_of_wider_items_has_its_length_in_bytes() -> None:
    assert len(as_buffer(memoryview(array("H", [1, 2, 3])))) == 6
    assert len(as_buffer(memoryview(bytes(6)).cast("B", (2, 3)))) == 6
    assert len(as_buffer(memoryview(array("H")))) == 0


@pytest.mark.parametrize(
    "body", ["ab", 2, None, [b"ab"], iter([b"ab"]), memoryview(b"abcd")[::2]], ids=lambda _: type(_).__name__
)
def test_any_other_body_is_told_how_to_stream(body: object) -> None:
    with pytest.raises(LocalError, match=f"not {type(body).__name__}; to stream, send"):
        as_buffer(body)


# Parts of files.


def test_a_part_of_a_file_keeps_its_place() -> None:
    queue = OutputQueue()
    for piece in (b"a", b"b", FileSlice(3, 100, 5), b"c", b"d", FileSlice(4, 0, 1 << 40)):
        queue.add(piece)
    assert (bytes(queue.front()), queue.front_file(), queue.size) == (b"ab", None, 9 + (1 << 40))
    queue.sent(2)
    assert (bytes(queue.front()), queue.front_file()) == (b"", FileSlice(3, 100, 5))
    queue.sent(2)
    assert (bytes(queue.front()), queue.front_file()) == (b"", FileSlice(3, 102, 3))
    queue.sent(3)
    assert (bytes(queue.front()), queue.front_file()) == (b"cd", None)
    queue.sent(2)
    assert (bytes(queue.front()), queue.front_file()) == (b"", FileSlice(4, 0, 1 << 40))
    queue.clear()
    assert (bytes(queue.front()), queue.front_file(), queue.size) == (b"", None, 0)


def test_one_write_may_take_a_buffer_and_some_of_a_file() -> None:
    queue = OutputQueue()
    queue.add(b"abc")
    queue.add(FileSlice(3, 0, 10))
    queue.sent(7)
    assert queue.front_file() == FileSlice(3, 4, 6)
