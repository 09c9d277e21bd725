"""The receive buffer: what has arrived and cannot be used yet.

It holds a head that is still incomplete, or the pipelined bytes behind a request in hand; a body passes it by. Growth
is a promise to the driver (`room`: how much to read next), not an allocation: storage follows the bytes, so an idle
connection costs none.
"""


class ReceiveBuffer:
    """Bytes in the order of their arrival, taken from the front. Never raises.

    `capacity` begins small. A read that fills it doubles it, up to a cap, or takes it to a declared length in one step;
    one that would have fitted into the first capacity takes it back there, because a system call that is asked for a
    megabyte costs several times as much as one that is asked for 16 KiB, whatever comes. How far a terminator was
    looked for is remembered, so that a head which arrives a byte at a time costs linear time.
    """

    __slots__ = ("_expected", "_initial", "_searched", "capacity", "data", "max_bytes")

    def __init__(self, initial_bytes: int, max_bytes: int) -> None:
        self.data = bytearray()
        """The bytes, to look at: what takes them away is `take`."""
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
        """Add what arrived. All of it is kept, also beyond the cap: it was read, and the peer's bytes are not ours to
        lose. The cap holds because nobody reads while `room` is 0.
        """
        self.data += data
        self.grow_after(len(self.data))

    def grow_after(self, read_bytes: int) -> None:
        """Grow when `read_bytes` filled the capacity, and go back to the first when they were few."""
        if read_bytes < self._initial:
            self.capacity = self._initial
        while self.capacity <= read_bytes and self.capacity < self.max_bytes:
            self.capacity = min(max(2 * self.capacity, self._expected), self.max_bytes)

    def expect(self, declared_bytes: int) -> None:
        """Say how much is to come, so that growing towards it takes one step. 0 takes it back."""
        self._expected = declared_bytes

    def shrink(self) -> None:
        """Expect nothing, and go back to the first capacity, or as near as what is waiting allows."""
        self._expected = 0
        self.capacity = self._initial
        self.grow_after(len(self.data))

    def find(self, terminator: bytes, within_bytes: int) -> int:
        """Where `terminator` begins, or -1 when it does not lie whole in the first `within_bytes`.

        Bytes that were looked at are not looked at again.
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
        """Empty the buffer and shrink it to its first size, for the next request or the next connection."""
        self.data.clear()
        self._searched = 0
        self._expected = 0
        self.capacity = self._initial
