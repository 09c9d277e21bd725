"""What a worker that streams keeps for a client that is behind: in memory, in a file, and no more."""

import os
import tempfile
import threading
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from h1core.drivers.engine.pool import Job, Work
from h1core.drivers.engine.response_body import END, PENDING
from h1core.drivers.engine.worker_source import WorkerSource

from h1core import Request
from h1core.errors import Disconnected

from .world import error_lines, hello

PATIENCE_S = 20.0
REQUEST = Request(b"GET", b"/", [(b"host", b"a")])


class Waits(threading.Event):
    """Set when a worker waits."""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    event = Waits()
    wait = threading.Condition.wait

    def tell(condition: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "worker":
            event.set()
        return wait(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", tell)
    return event


def make_source(max_memory_bytes: int = 10, max_spooled_bytes: int = 100) -> WorkerSource:
    job = Job(None, REQUEST, 0.0, Work(hello, lambda at: False, 0, 0, lambda job: None, Context()))
    return WorkerSource(job, max_memory_bytes, max_spooled_bytes, lambda job: None)


def in_worker(do: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=do, args=arguments, name="worker")
    thread.start()
    return thread


def fill(source: WorkerSource) -> None:
    """Queue what memory takes, for a client that is behind."""
    source.client_is_behind()
    source.put(b"0" * 11)


def take_all(source: WorkerSource) -> bytes:
    taken = b""
    while isinstance(piece := source.next_piece(), bytes):
        taken += piece
    return taken


def is_waiting(source: WorkerSource) -> bool:
    return source.waits_for_client


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_what_memory_does_not_take_goes_to_a_file_and_comes_out_in_its_order() -> None:
    source = make_source()
    fill(source)
    before = open_files()
    pieces = [b"%d" % number * 7 for number in range(1, 9)]
    for piece in pieces:
        source.put(piece)
    assert open_files() == before + 1
    assert take_all(source) == b"0" * 11 + b"".join(pieces)
    assert source.next_piece() is PENDING
    assert open_files() == before


def test_a_worker_is_through_though_its_client_has_taken_nothing() -> None:
    source = make_source()
    fill(source)
    source.feed(iter([b"one", b"two"]))
    assert source.is_complete
    assert take_all(source) == b"0" * 11 + b"onetwo"
    assert source.next_piece() is END


def test_while_the_client_keeps_up_the_worker_waits_and_nothing_goes_to_the_disk(waits: Waits) -> None:
    source = make_source()
    source.put(b"0" * 11)
    before = open_files()
    worker = in_worker(source.put, b"1")
    assert waits.wait(PATIENCE_S)
    assert open_files() == before
    assert not source.waits_for_client
    assert take_all(source) == b"0" * 11
    worker.join(PATIENCE_S)
    assert take_all(source) == b"1"


def test_a_worker_that_waits_goes_on_once_its_client_is_behind(waits: Waits) -> None:
    source = make_source()
    source.put(b"0" * 11)
    worker = in_worker(source.put, b"1")
    assert waits.wait(PATIENCE_S)
    source.client_is_behind()
    worker.join(PATIENCE_S)
    assert not worker.is_alive()
    assert take_all(source) == b"0" * 11 + b"1"


@pytest.mark.parametrize(("in_file", "waits_then"), [(99, False), (100, True), (101, True)])
def test_a_full_file_makes_the_worker_wait_for_its_client(waits: Waits, in_file: int, waits_then: bool) -> None:
    source = make_source()
    fill(source)
    source.put(b"f" * in_file)
    if not waits_then:
        source.put(b"!")
        assert not source.waits_for_client
        source.close()
        return
    worker = in_worker(source.put, b"!")
    assert waits.wait(PATIENCE_S)
    assert is_waiting(source)
    taken = take_all(source)
    worker.join(PATIENCE_S)
    assert not is_waiting(source)
    assert taken + take_all(source) == b"0" * 11 + b"f" * in_file + b"!"


def test_closing_gives_the_file_back_and_releases_the_worker(waits: Waits) -> None:
    before = open_files()
    source = make_source()
    fill(source)
    source.put(b"f" * 100)
    raised: list[type] = []

    def put() -> None:
        try:
            source.put(b"!")
        except Disconnected as error:
            raised.append(type(error))

    worker = in_worker(put)
    assert waits.wait(PATIENCE_S)
    source.close()
    worker.join(PATIENCE_S)
    assert raised == [Disconnected]
    assert open_files() == before


def test_a_disk_that_fails_makes_the_worker_wait_and_is_one_line(
    waits: Waits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    source = make_source()
    fill(source)
    worker = in_worker(source.put, b"1")
    assert waits.wait(PATIENCE_S)
    assert source.waits_for_client
    taken = take_all(source)
    worker.join(PATIENCE_S)
    assert taken + take_all(source) == b"0" * 11 + b"1"
    assert len(error_lines(caplog)) == 1


def test_the_file_begins_anew_once_it_was_read() -> None:
    source = make_source()
    for _ in range(5):
        fill(source)
        source.put(b"f" * 90)
        assert take_all(source) == b"0" * 11 + b"f" * 90


def test_a_buffer_that_its_owner_uses_again_is_copied() -> None:
    source = make_source()
    buffer = bytearray(b"one")
    source.put(memoryview(buffer))  # type: ignore[arg-type]  # applications do that
    buffer[:] = b"two"
    source.put(buffer)  # type: ignore[arg-type]  # as above
    buffer[:] = b"..."
    assert take_all(source) == b"onetwo"


def test_the_file_is_where_the_system_keeps_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    source = make_source()
    fill(source)
    assert not source._file.write(b"x"), "there is no such folder"


class SlowDisk:
    """Makes the worker wait inside of a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes, self.goes_on = threading.Event(), threading.Event()
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.write)

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.writes.set()
        assert self.goes_on.wait(PATIENCE_S)
        return self._write(descriptor, data, offset)


def test_the_engine_does_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    disk = SlowDisk(monkeypatch)
    fill(source)
    worker = in_worker(source.put, b"1" * 50)
    assert disk.writes.wait(PATIENCE_S)
    assert take_all(source) == b"0" * 11
    assert source.next_piece() is PENDING
    source.client_is_behind()
    disk.goes_on.set()
    worker.join(PATIENCE_S)
    assert take_all(source) == b"1" * 50


def test_a_file_that_is_read_out_while_it_is_written_to_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source()
    fill(source)
    source.put(b"1" * 50)
    disk = SlowDisk(monkeypatch)
    worker = in_worker(source.put, b"2" * 20)
    assert disk.writes.wait(PATIENCE_S)
    assert take_all(source) == b"0" * 11 + b"1" * 50
    disk.goes_on.set()
    worker.join(PATIENCE_S)
    assert take_all(source) == b"2" * 20


def test_a_file_is_closed_only_after_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the write might go to another file, which has got its descriptor."""
    before = open_files()
    source = make_source()
    disk = SlowDisk(monkeypatch)
    fill(source)
    worker = in_worker(source.put, b"1" * 50)
    assert disk.writes.wait(PATIENCE_S)
    source.close()
    assert open_files() == before + 1
    disk.goes_on.set()
    worker.join(PATIENCE_S)
    assert open_files() == before
    with pytest.raises(Disconnected):
        source.put(b"2")
