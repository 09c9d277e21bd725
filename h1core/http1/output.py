"""The output queue: bytes to send to the peer, as buffers in their order.

Small buffers are joined when they are asked for, so that a batch of pipelined answers is one write; a large body is
never copied. Parts of files keep their place among the buffers.
"""

from typing import Final, TypeAlias

from h1core.errors import LocalError
from h1core.events import FileSlice

Buffer: TypeAlias = bytes | bytearray | memoryview

SMALL_BYTES: Final = 16 * 1024
"""Below this, copying a buffer costs less than a write of its own."""

JOINED_BYTES: Final = 64 * 1024
"""How much is joined at most: about what a socket takes at once."""


class OutputQueue:
    """Bytes to write, taken from the front. Never raises."""

    __slots__ = ("buffers", "size")

    def __init__(self) -> None:
        self.buffers: list[Buffer | FileSlice] = []
        self.size = 0
        """How many bytes are waiting."""

    def add(self, buffer: Buffer | FileSlice) -> None:
        """Queue a buffer that is not empty; it must not change until it is written."""
        self.buffers.append(buffer)
        self.size += len(buffer)

    def front(self) -> Buffer:
        """The next buffer to write, empty when there is none. The same bytes come first until they are written.

        Also empty when a part of a file comes first.
        """
        buffers = self.buffers
        if not buffers:
            return b""
        first = buffers[0]
        if type(first) is FileSlice:
            return b""
        # A memoryview is what a partial write left: joining it again at each write would be quadratic.
        if len(buffers) == 1 or len(first) > SMALL_BYTES or type(first) is memoryview:
            return first
        return self._join_small()

    def front_file(self) -> FileSlice | None:
        """The part of a file to write next, if one comes first."""
        first = self.buffers[0] if self.buffers else None
        return first if isinstance(first, FileSlice) else None

    def _join_small(self) -> Buffer:
        """Make one buffer of the small ones in front."""
        buffers = self.buffers
        small: list[Buffer] = []
        size = 0
        for buffer in buffers:
            if isinstance(buffer, FileSlice) or len(buffer) > SMALL_BYTES or size + len(buffer) > JOINED_BYTES:
                break
            small.append(buffer)
            size += len(buffer)
        joined = b"".join(small)
        buffers[: len(small)] = [joined]
        return joined

    def sent(self, count: int) -> None:
        """Remove `count` bytes, not more than `size`, from the front."""
        self.size -= count
        buffers = self.buffers
        whole = 0
        while whole < len(buffers) and count >= len(buffers[whole]):
            count -= len(buffers[whole])
            whole += 1
        del buffers[:whole]
        if count:
            first = buffers[0]
            buffers[0] = first.after(count) if isinstance(first, FileSlice) else memoryview(first)[count:]

    def clear(self) -> None:
        """Drop everything."""
        self.buffers.clear()
        self.size = 0


def as_bytes(data: object) -> bytes:
    """Convert another bytes-like object to bytes. Raises LocalError for anything else."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise LocalError(f"receive_data takes bytes as they came from the transport, not {type(data).__name__}")
    return bytes(data)


def own_copy(data: object) -> bytes:
    """A caller's body as bytes that the caller cannot change any more. Raises LocalError like `as_buffer`."""
    return data if type(data) is bytes else bytes(as_buffer(data))


def as_buffer(data: object) -> Buffer:
    """A caller's body as a buffer whose `len` is in bytes. Raises LocalError for anything else."""
    if isinstance(data, (bytes, bytearray)):
        return data
    if isinstance(data, memoryview) and data.c_contiguous:
        return data.cast("B")
    raise LocalError(
        f"a body is bytes, a bytearray or a contiguous memoryview, not {type(data).__name__}; "
        "to stream, send Response(body=None), then Data, then EndOfMessage"
    )
