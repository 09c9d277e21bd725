"""The receive buffer: order, growth, and how much of it is looked at."""

import pytest

from h1core.http1.buffer import ReceiveBuffer


def full_of(data: bytes, initial_bytes: int = 4, max_bytes: int = 64) -> ReceiveBuffer:
    buffer = ReceiveBuffer(initial_bytes, max_bytes)
    buffer.append(data)
    return buffer


def test_bytes_are_taken_in_the_order_of_their_arrival() -> None:
    buffer = full_of(b"abc")
    buffer.append(b"def")
    assert len(buffer) == 6
    assert buffer.take(2) == b"ab"
    buffer.discard(1)
    assert buffer.take_all() == b"def"
    assert len(buffer) == 0


def test_taking_nothing_from_nothing_is_nothing() -> None:
    assert ReceiveBuffer(4, 64).take_all() == b""


@pytest.mark.parametrize(("arrived", "room"), [(0, 4), (3, 1), (4, 4), (7, 1), (8, 8), (63, 1), (64, 0), (65, 0)])
def test_the_room_doubles_when_it_is_full_up_to_the_cap(arrived: int, room: int) -> None:
    assert full_of(b"x" * arrived).room == room
    one_by_one = ReceiveBuffer(4, 64)
    for _ in range(arrived):
        one_by_one.append(b"x")
    assert one_by_one.room == room


def test_a_cap_that_is_no_power_of_two_is_reached_exactly() -> None:
    assert full_of(b"x" * 8, 4, 11).capacity == 11


def test_what_was_read_beyond_the_cap_is_kept() -> None:
    assert full_of(b"x" * 100).take_all() == b"x" * 100


@pytest.mark.parametrize(("declared", "capacity"), [(1, 8), (8, 8), (9, 9), (63, 63), (64, 64), (10**9, 64)])
def test_a_declared_length_is_made_room_for_in_one_step_by_the_first_full_read(declared: int, capacity: int) -> None:
    buffer = ReceiveBuffer(4, 64)
    buffer.expect(declared)
    assert buffer.capacity == 4
    buffer.grow_after(4)
    assert buffer.capacity == capacity


@pytest.mark.parametrize(("read", "capacity"), [(1, 4), (3, 4), (4, 64), (63, 64)])
def test_a_peer_that_sends_little_is_read_little_at_a_time(read: int, capacity: int) -> None:
    """A read of one byte that is asked for a megabyte costs 48 microseconds instead of 12."""
    buffer = ReceiveBuffer(4, 64)
    buffer.expect(64)
    buffer.grow_after(4)
    buffer.grow_after(read)
    assert buffer.capacity == capacity
    buffer.grow_after(4)
    assert buffer.capacity == 64


@pytest.mark.parametrize(("waiting", "capacity"), [(0, 4), (3, 4), (4, 8), (9, 16), (64, 64)])
def test_it_shrinks_as_far_as_what_waits_allows(waiting: int, capacity: int) -> None:
    buffer = ReceiveBuffer(4, 64)
    buffer.expect(64)
    buffer.append(b"x" * waiting)
    buffer.shrink()
    assert buffer.capacity == capacity


def test_it_can_be_cleared_for_another_connection() -> None:
    buffer = full_of(b"x" * 30)
    buffer.find(b"y", 64)
    buffer.clear()
    assert (len(buffer), buffer.room) == (0, 4)
    buffer.append(b"y")
    assert buffer.find(b"y", 64) == 0


@pytest.mark.parametrize(("within", "found"), [(6, -1), (7, 3), (8, 3)])
def test_a_terminator_is_found_when_all_of_it_lies_within_the_bound(within: int, found: int) -> None:
    assert full_of(b"abc\r\n\r\nd").find(b"\r\n\r\n", within) == found


def test_a_terminator_is_found_however_it_was_cut() -> None:
    for cuts in range(1, 5):
        buffer = full_of(b"ab" + b"\r\n\r\n"[:cuts])
        assert (buffer.find(b"\r\n\r\n", 64) >= 0) is (cuts == 4)
        buffer.append(b"\r\n\r\n"[cuts:])
        assert buffer.find(b"\r\n\r\n", 64) == 2


def test_what_is_behind_a_taken_piece_is_searched_from_its_start() -> None:
    buffer = full_of(b"aaaa")
    assert buffer.find(b"\r\n", 64) == -1
    buffer.take(3)
    buffer.append(b"\r\n")
    assert buffer.find(b"\r\n", 64) == 1


class Watched(bytearray):
    """Counts the bytes that `find` looks at."""

    looked_at = 0

    def find(self, sub: object, start: object = 0, end: object = None, /) -> int:
        assert isinstance(sub, bytes)
        assert isinstance(start, int)
        self.looked_at += len(self) - start
        return super().find(sub, start)


def test_bytes_that_were_looked_at_are_not_looked_at_again() -> None:
    buffer = ReceiveBuffer(4, 10**6)
    buffer.data = watched = Watched()
    for _ in range(1000):
        watched += b"x"
        assert buffer.find(b"\r\n\r\n", 10**6) == -1
    assert watched.looked_at <= 4 * 1000
