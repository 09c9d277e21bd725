"""Files as response bodies: which can be sent by reference, and how one is sent."""

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
"""Bytes in one `sendfile`: other connections wait while the disk is read."""

READ_BYTES: Final = 64 * 1024
"""Bytes read at once where `sendfile` cannot be used: about what a socket takes."""

NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What `sendfile` raises for a kind of file, or of socket, that it does not support."""


class FileFailed(Exception):
    """A file cannot be read, or is shorter than it was."""


def open_path(path: str) -> FileBody:
    """Open a file as a body. Raises OSError, also for what is no regular file."""
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - the body owns it
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no regular file", path)
    return FileBody(file, 0, status.st_size)


def as_file(file: object) -> FileBody | None:
    """The rest of an open file as a body, or None if it is no regular file, or reading changes its content.

    `file` may be closed afterwards. Never raises. A GzipFile has a descriptor too, but of other content.
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
            return None  # a file of size 0 may have content, in /proc
        return FileBody(os.fdopen(os.dup(file.fileno()), "rb", buffering=0), offset, size)
    except (OSError, ValueError):  # closed, or no descriptor is free: reading it fails, or works
        return None


def send_file(transport: Transport, part: FileSlice) -> tuple[int, bool]:
    """Send some of a part of a file; return how many bytes, and whether the transport would take more.

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
