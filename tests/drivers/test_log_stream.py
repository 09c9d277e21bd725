"""wsgi.errors: lines into the log."""

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from h1core.drivers.log_stream import LogStream

NAME = "h1core.test_log_stream"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all((record.name, record.levelno) == (NAME, logging.WARNING) for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


def test_what_is_written_at_once_is_one_record(caplog: pytest.LogCaptureFixture) -> None:
    stream = LogStream(NAME)
    assert stream.writable()
    assert stream.write("Traceback:\n  line 1\n") == 20
    stream.writelines(["a\n", "b\n"])
    print("c", 100, "% s", file=stream)
    assert lines(caplog) == ["Traceback:\n  line 1", "a", "b", "c 100 % s"]


def test_a_line_waits_for_its_end_or_for_flush(caplog: pytest.LogCaptureFixture) -> None:
    stream = LogStream(NAME)
    stream.write("be")
    stream.write("gin\nand")
    assert lines(caplog) == ["begin"]
    stream.flush()
    stream.flush()
    assert lines(caplog) == ["begin", "and"]


def test_empty_lines_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    stream = LogStream(NAME)
    for text in ("", "\n", " \n\n", "\n"):
        stream.write(text)
    stream.flush()
    assert lines(caplog) == []


def test_threads_do_not_write_into_each_others_lines(caplog: pytest.LogCaptureFixture) -> None:
    stream = LogStream(NAME)
    stream.write("my ")
    thread = threading.Thread(target=stream.write, args=("theirs\n",))
    thread.start()
    thread.join()
    stream.write("own\n")
    assert lines(caplog) == ["theirs", "my own"]


@pytest.fixture
def looped() -> Iterator[LogStream]:
    """A stream that the log is sent to, by the root logger."""
    stream = LogStream(NAME)
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_a_log_that_is_sent_here_does_not_go_round(
    looped: LogStream, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    looped.write("once\n")
    logging.getLogger(NAME).warning("twice")
    assert lines(caplog) == ["once", "twice", "twice"]
    assert sys.stderr is not looped
    assert capsys.readouterr().err == "once\ntwice\n"
