"""Files on their way out: which may be sent by reference, and how one is."""

import errno
import io
import os
import socket
import stat
import tempfile
from typing import Final, NoReturn

from h1core.app.handler import FileBody
from h1core.events import FileSlice

from ..net.transport import Transport

MAX_FILE_BYTES_AT_ONCE: Final = 1024 * 1024
"""Others wait while the disk is read."""

READ_BYTES: Final = 64 * 1024
"""How much is read where the system does not send files by itself: about what a socket takes."""

NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What the system says of a kind of file, or of socket, that it sends nothing of by itself."""


class FileFailed(Exception):
    """A file cannot be read, or is shorter than it was."""


def as_file(file: object) -> FileBody | None:
    """The rest of an open file as a body of its own, or None when it is not one that lies on a disk as it is read.

    `file` may be closed afterwards. Never raises. A GzipFile is an example of what has a descriptor, and other content.
    """
    if isinstance(file, tempfile._TemporaryFileWrapper):
        file = file.file
    raw = file.raw if isinstance(file, io.BufferedReader | io.BufferedRandom) else file
    if type(raw) is not io.FileIO or not isinstance(file, io.BufferedReader | io.BufferedRandom | io.FileIO):
        return None
    try:
        if not file.readable():
            return None
        file.flush()
        offset = file.tell()
        status = os.fstat(file.fileno())
        size = status.st_size - offset
        if not stat.S_ISREG(status.st_mode) or size <= 0:
            return None  # what has no size may have content all the same, in /proc
        return FileBody(os.fdopen(os.dup(file.fileno()), "rb", buffering=0), offset, size)
    except (OSError, ValueError):  # closed, or no descriptor is left: reading it says so, or works
        return None


def send_file(transport: Transport, part: FileSlice) -> tuple[int, bool]:
    """Send some of a part of a file; how much, and whether the transport would take more.

    Raises BlockingIOError and OSError as `Transport.send` does, FileFailed when the file is why nothing was sent.
    """
    if type(transport) is socket.socket and hasattr(os, "sendfile"):  # a subclass may encrypt
        count = min(part.size, MAX_FILE_BYTES_AT_ONCE)
        try:
            sent = os.sendfile(transport.fileno(), part.descriptor, part.offset, count) or _raise_too_short(part)
            return sent, sent == count
        except OSError as error:
            if error.errno not in NO_SENDFILE:
                raise
    try:
        block = os.pread(part.descriptor, min(part.size, READ_BYTES), part.offset)
    except OSError as error:
        raise FileFailed(str(error)) from error
    sent = transport.send(block or _raise_too_short(part))
    return sent, sent == len(block)


def _raise_too_short(part: FileSlice) -> NoReturn:
    raise FileFailed(f"{part.size} bytes are not there any more")
