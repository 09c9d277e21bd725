"""The receive buffer: received bytes that cannot be parsed yet.

It holds an incomplete head, or the pipelined bytes after the current request; a body is not stored in it as it arrives.
A larger capacity is no allocation, but only tells the driver how much to read next (`room`): memory is allocated for
received bytes, so an idle connection uses none.
"""


class ReceiveBuffer:
    """Bytes in the order of their arrival, taken from the front. Never raises.

    `capacity` begins small. A read that fills it doubles it, up to a cap, or raises it to a declared length in one
    step. One that would have fitted into the first capacity resets it, because a system call for a megabyte costs
    several times as much as one for 16 KiB, whatever it returns. A search goes on where the last one ended, so that a
    head which arrives a byte at a time costs linear time.
    """

    __slots__ = ("_expected", "_initial", "_searched", "capacity", "data", "max_bytes")

    def __init__(self, initial_bytes: int, max_bytes: int) -> None:
        self.data = bytearray()
        """The bytes, for reading only: `take` and `discard` remove them."""
        self._initial = initial_bytes
        self._expected = 0
        self.capacity = initial_bytes
        self.max_bytes = max_bytes
        self._searched = 0

    def __len__(self) -> int:
        return len(self.data)

    @property
    def room(self) -> int:
        """How many bytes a driver should read next; 0 when the cap is reached."""
        return max(0, self.capacity - len(self.data))

    def append(self, data: bytes) -> None:
        """Add received bytes. All are kept, also beyond the cap: what was read must not be lost. The cap holds because
        a driver does not read while `room` is 0.
        """
        self.data += data
        self.grow_after(len(self.data))

    def grow_after(self, read_bytes: int) -> None:
        """Raise the capacity when `read_bytes` filled it, and reset it to the first when they were few."""
        if read_bytes < self._initial:
            self.capacity = self._initial
        while self.capacity <= read_bytes and self.capacity < self.max_bytes:
            self.capacity = min(max(2 * self.capacity, self._expected), self.max_bytes)

    def expect(self, declared_bytes: int) -> None:
        """Set how many bytes are declared to follow, so that the capacity grows to them in one step; 0 for unknown."""
        self._expected = declared_bytes

    def shrink(self) -> None:
        """Reset the declared length, and the capacity as far as the buffered bytes allow."""
        self._expected = 0
        self.capacity = self._initial
        self.grow_after(len(self.data))

    def find(self, terminator: bytes, within_bytes: int) -> int:
        """Where `terminator` begins, or -1 when it does not lie whole in the first `within_bytes`.

        Bytes that were searched are not searched again.
        """
        found = self.data.find(terminator, max(0, self._searched - len(terminator) + 1), within_bytes)
        if found < 0:
            self._searched = len(self.data)
        return found

    def take(self, count: int) -> bytes:
        """Remove and return the first `count` bytes."""
        taken = bytes(self.data[:count])
        self.discard(count)
        return taken

    def discard(self, count: int) -> None:
        """Remove the first `count` bytes."""
        del self.data[:count]
        self._searched = 0

    def take_all(self) -> bytes:
        """Remove and return everything."""
        return self.take(len(self.data))

    def clear(self) -> None:
        """Empty the buffer and reset its capacity, for the next request or the next connection."""
        self.data.clear()
        self._searched = 0
        self._expected = 0
        self.capacity = self._initial
