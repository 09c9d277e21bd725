"""Which files are sent by reference, and how."""

import contextlib
import errno
import gzip
import io
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from h1core.drivers.engine.files import MAX_FILE_BYTES_AT_ONCE, FileFailed, as_file, send_file

from h1core import FileSlice
from h1core.app.handler import FileBody
from h1core.testing import FakeClock, MemoryNetwork

CONTENT = b"0123456789" * 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


def content_of(body: FileBody | None) -> bytes:
    assert body is not None
    with_blocks = b"".join(body)
    assert (body.part.offset, body.part.size) == (len(CONTENT) - len(with_blocks), len(with_blocks))
    body.close()
    body.close()
    return with_blocks


def test_a_file_is_taken_from_where_it_was_read_to(path: Path) -> None:
    for buffering in (-1, 0):
        with path.open("rb", buffering) as file:
            assert content_of(as_file(file)) == CONTENT
            file.seek(0)
            assert file.read(7) == CONTENT[:7]
            assert content_of(as_file(file)) == CONTENT[7:]


def test_it_stays_when_the_file_is_closed_and_removed(path: Path) -> None:
    with path.open("rb") as file:
        body = as_file(file)
    path.unlink()
    assert content_of(body) == CONTENT


def test_a_temporary_file_is_one_with_what_was_just_written() -> None:
    for kind in (tempfile.TemporaryFile, tempfile.NamedTemporaryFile):
        with kind() as file:
            file.write(CONTENT)
            file.seek(3)
            assert content_of(as_file(file)) == CONTENT[3:]


def test_what_reads_otherwise_than_it_lies_on_the_disk_is_none(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    with gzip.open(packed, "wb") as file:
        file.write(CONTENT)

    class Decrypting(io.FileIO):
        pass

    with gzip.open(packed) as file, path.open() as text, Decrypting(path) as special, path.open("ab") as unreadable:
        others: list[Any] = [file, text, special, unreadable, io.BytesIO(CONTENT), iter([b"x"]), None, 3]
        assert [as_file(other) for other in others] == [None] * len(others)


def test_what_has_no_size_is_none(path: Path) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe, open("/dev/null", "rb") as device, path.open("rb") as at_the_end:
        at_the_end.read()
        assert [as_file(file) for file in (pipe, device, at_the_end)] == [None] * 3


def test_what_is_closed_is_none(path: Path) -> None:
    with path.open("rb") as file:
        pass
    assert as_file(file) is None


def test_when_there_is_no_descriptor_left_it_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with path.open("rb") as file:
        monkeypatch.setattr(os, "dup", fail)
        assert as_file(file) is None


# Sending.


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_socket_is_sent_a_part(path: Path, pair: tuple[socket.socket, socket.socket]) -> None:
    with path.open("rb") as file:
        assert send_file(pair[0], FileSlice(file.fileno(), 5, 20)) == (20, True)
        assert pair[1].recv(100) == CONTENT[5:25]
        assert file.tell() == 0


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_does_not_send_files_it_is_read(
    error: int, path: Path, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(error, "no")

    monkeypatch.setattr(os, "sendfile", fail)
    with path.open("rb") as file:
        assert send_file(pair[0], FileSlice(file.fileno(), 5, 20)) == (20, True)
    assert pair[1].recv(100) == CONTENT[5:25]


def test_a_socket_that_is_full_or_gone_says_so(tmp_path: Path, pair: tuple[socket.socket, socket.socket]) -> None:
    with (tmp_path / "large").open("wb+") as file:
        file.truncate(1 << 30)
        part = FileSlice(file.fileno(), 0, 1 << 30)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert 0 < send_file(pair[0], part)[0] <= MAX_FILE_BYTES_AT_ONCE
        pair[1].close()
        with pytest.raises(ConnectionError):
            send_file(pair[0], part)


def test_other_transports_are_sent_what_is_read(path: Path) -> None:
    listener = MemoryNetwork(FakeClock()).listen()
    client = listener.connect(window_bytes=8)
    transport, _ = listener.accept()
    with path.open("rb") as file:
        assert send_file(transport, FileSlice(file.fileno(), 5, 20)) == (8, False)
        with pytest.raises(BlockingIOError):
            send_file(transport, FileSlice(file.fileno(), 13, 12))
    assert client.read() == CONTENT[5:13]


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_file_that_has_become_shorter_says_so(
    in_memory: bool, path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    transport: Any = MemoryNetwork(FakeClock()).listen() if in_memory else pair[0]
    if in_memory:
        transport.connect()
        transport, _ = transport.accept()
    with path.open("rb") as file:
        assert send_file(transport, FileSlice(file.fileno(), 90, 20)) == (10, in_memory)
        with pytest.raises(FileFailed, match=r"^10 bytes are not there any more$"):
            send_file(transport, FileSlice(file.fileno(), 100, 10))


def test_a_file_that_cannot_be_read_says_so(path: Path) -> None:
    listener = MemoryNetwork(FakeClock()).listen()
    listener.connect()
    transport, _ = listener.accept()
    with path.open("ab") as file, pytest.raises(FileFailed, match="Bad file descriptor"):
        send_file(transport, FileSlice(file.fileno(), 0, 10))
