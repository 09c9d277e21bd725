"""The output queue: what is owed to the peer, as buffers in their order.

Small buffers are joined when they are asked for, so that a batch of pipelined answers is one write; a large body is
handed on as it came, never copied.
"""

from typing import Final, TypeAlias

from h1core.errors import LocalError

Buffer: TypeAlias = bytes | bytearray | memoryview

SMALL_BYTES: Final = 16 * 1024
"""Below this, copying a buffer costs less than a write of its own."""

JOINED_BYTES: Final = 64 * 1024
"""How much is joined at most: about what a socket takes at once."""


class OutputQueue:
    """Bytes to write, taken from the front. Never raises."""

    __slots__ = ("buffers", "size")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.size = 0
        """How many bytes are waiting."""

    def add(self, buffer: Buffer) -> None:
        """Queue a buffer that is not empty; it must not change until it is written."""
        self.buffers.append(buffer)
        self.size += len(buffer)

    def front(self) -> Buffer:
        """The next buffer to write, empty when there is none. The same bytes come first until they are written."""
        buffers = self.buffers
        if not buffers:
            return b""
        first = buffers[0]
        # A memoryview is what a partial write left: joining it again at each write would be quadratic.
        if len(buffers) == 1 or len(first) > SMALL_BYTES or type(first) is memoryview:
            return first
        return self._join_small()

    def _join_small(self) -> Buffer:
        """Make one buffer of the small ones in front."""
        buffers = self.buffers
        count, size = 0, 0
        for buffer in buffers:
            if len(buffer) > SMALL_BYTES or size + len(buffer) > JOINED_BYTES:
                break
            count += 1
            size += len(buffer)
        joined = b"".join(buffers[:count])
        buffers[:count] = [joined]
        return joined

    def sent(self, count: int) -> None:
        """Take `count` bytes, not more than `size`, from the front."""
        self.size -= count
        buffers = self.buffers
        whole = 0
        while whole < len(buffers) and count >= len(buffers[whole]):
            count -= len(buffers[whole])
            whole += 1
        del buffers[:whole]
        if count:
            buffers[0] = memoryview(buffers[0])[count:]

    def clear(self) -> None:
        """Drop everything."""
        self.buffers.clear()
        self.size = 0


def as_bytes(data: object) -> bytes:
    """Bytes of a caller who has another bytes-like object. Raises LocalError."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise LocalError(f"receive_data takes bytes as they came from the transport, not {type(data).__name__}")
    return bytes(data)


def as_buffer(data: object) -> Buffer:
    """A caller's body as something whose length is in bytes. Raises LocalError."""
    if isinstance(data, (bytes, bytearray)):
        return data
    if isinstance(data, memoryview) and data.c_contiguous:
        return data.cast("B")
    raise LocalError(
        f"a body is bytes, a bytearray or a contiguous memoryview, not {type(data).__name__}; "
        "to stream, send Response(body=None), then Data, then EndOfMessage"
    )
