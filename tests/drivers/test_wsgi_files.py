"""Files of wsgi.file_wrapper on the readiness loop in memory, inline and on workers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import pytest
from h1core.drivers.engine.files import as_file

from h1core import Timeouts
from h1core.app.wsgi import FileWrapper, wsgi_handler
from h1core.testing import MemoryClient

from ..wire import answers
from .test_wsgi import TEXT, Serve, Served, Start, serve
from .world import GET, HEAD, LAST_GET, MakeWorld, error_lines

__all__ = ["serve"]  # the fixture

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/dev/fd"))
    yield
    assert sorted(os.listdir("/dev/fd")) == before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


class Files:
    """An application that answers with a file, and remembers those it has opened."""

    def __init__(self, path: Path, *headers: tuple[str, str], status: str = "200 OK", at: int = 0) -> None:
        self.path = path
        self.headers = headers
        self.status = status
        self.at = at
        self.opened: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        start_response(self.status, [TEXT, *self.headers])
        self.opened.append(self.path.open("rb"))
        self.opened[-1].seek(self.at)
        return environ["wsgi.file_wrapper"](self.opened[-1])

    @property
    def are_closed(self) -> list[bool]:
        return [file.closed for file in self.opened]


def take_all(served: Served, client: MemoryClient) -> bytes:
    """What a client gets that reads on and on."""
    served.settle()
    while client.read():
        served.settle()
    return bytes(client.received)


@pytest.mark.parametrize("window_bytes", [1000, 1 << 20])
def test_a_file_arrives_with_its_length_and_the_connection_persists(
    window_bytes: int, serve: Serve, path: Path
) -> None:
    app = Files(path)
    served = serve(app)
    client = served.connect(GET + GET, window_bytes)
    first, second = answers(take_all(served, client))
    assert first == second
    assert (first.status, first.body, first.fields["content-length"]) == (200, CONTENT, str(len(CONTENT)))
    assert app.are_closed == [True, True]
    assert not client.sees_end


def test_a_file_goes_out_from_where_it_was_read_to(serve: Serve, path: Path) -> None:
    served = serve(Files(path, at=255_000))
    assert answers(served.talk(GET))[0].body == CONTENT[255_000:]


def test_no_more_goes_out_than_the_application_says(serve: Serve, path: Path) -> None:
    served = serve(Files(path, ("Content-Length", "100")))
    assert [answer.body for answer in answers(served.talk(GET, GET))] == [CONTENT[:100]] * 2


def test_less_than_the_application_says_cuts_the_connection(
    serve: Serve, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(Files(path, ("Content-Length", str(len(CONTENT) + 1))))
    client = served.connect(GET)
    served.settle()
    assert client.sees_end
    assert not client.sees_reset
    assert "the body is 1 bytes shorter than Content-Length said" in caplog.text
    assert len(error_lines(caplog)) == 1


def test_head_gets_the_head_of_a_file(serve: Serve, path: Path) -> None:
    app = Files(path)
    out = serve(app).talk(HEAD, LAST_GET)
    head, whole = answers(out, "HEAD", "GET")
    assert (head.status, head.body, head.fields["content-length"]) == (200, b"", str(len(CONTENT)))
    assert whole.body == CONTENT
    assert app.are_closed == [True, True]


def test_an_old_client_gets_a_file(serve: Serve, path: Path) -> None:
    assert answers(serve(Files(path)).talk(b"GET / HTTP/1.0\r\n\r\n"))[0].body == CONTENT


def test_a_status_without_content_leaves_the_file_out(serve: Serve, path: Path) -> None:
    app = Files(path, status="304 Not Modified")
    assert answers(serve(app).talk(GET, GET))[1].body == b""
    assert app.are_closed == [True, True]


def test_an_empty_file_is_an_empty_body(serve: Serve, path: Path) -> None:
    path.write_bytes(b"")
    app = Files(path)
    assert [answer.body for answer in answers(serve(app).talk(GET, GET))] == [b"", b""]
    assert app.are_closed == [True, True]


def test_what_was_written_before_a_file_comes_before_it(serve: Serve, path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", [TEXT])(b"before ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    path.write_bytes(b"the file")
    assert answers(serve(app).talk(GET))[0].body == b"before the file"


def test_a_file_without_a_head_is_a_500(serve: Serve, path: Path) -> None:
    files: list[Any] = []

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        files.append(path.open("rb"))
        return environ["wsgi.file_wrapper"](files[0])

    assert answers(serve(app).talk(GET))[0].status == 500
    assert files[0].closed


def test_a_file_that_will_not_close_is_a_500(serve: Serve, path: Path) -> None:
    class Failing(FileWrapper):
        pass

    def app(environ: dict[str, Any], start_response: Start) -> Any:
        start_response("200 OK", [TEXT])
        wrapped = environ["wsgi.file_wrapper"](path.open("rb"))
        wrapped.file.close, close = fail, wrapped.file.close
        closing.append(close)
        return wrapped

    def fail() -> None:
        closing.pop()()
        raise ValueError("it will not close")

    closing: list[Any] = []
    assert answers(serve(app).talk(GET))[0].status == 500
    assert closing == []


def test_a_file_that_becomes_shorter_cuts_the_connection(
    serve: Serve, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(Files(path))
    client = served.connect(GET, window_bytes=10_000)
    served.settle()
    os.truncate(path, 15_000)
    received = take_all(served, client)
    assert received.endswith(CONTENT[:15_000])
    assert client.sees_end
    assert not client.sees_reset
    assert [line.partition(",")[0] for line in error_lines(caplog)] == ["a file cannot be sent to its end"]
    assert f"{len(CONTENT) - 15_000} bytes are not there any more" in caplog.text


def test_a_client_that_resets_midway_gives_the_file_back(serve: Serve, path: Path) -> None:
    served = serve(Files(path))
    client = served.connect(GET, window_bytes=10_000)
    served.settle()
    client.reset()
    served.settle()
    assert served.world.open_connections == 0


def test_a_client_that_never_reads_is_cut_in_time_and_holds_no_worker(serve: Serve, path: Path) -> None:
    served = serve(Files(path), timeouts=Timeouts(write_timeout=5.0))
    client = served.connect(GET, window_bytes=10_000)
    served.settle()
    assert served.world.core.connections
    served.world.wait(4.9)
    assert not client.sees_reset
    served.world.wait(0.2)
    assert client.sees_reset


def test_for_a_client_that_has_gone_before_its_turn_no_file_is_opened(make_world: MakeWorld, path: Path) -> None:
    app = Files(path)
    world = make_world(wsgi_handler(app, as_file=as_file), threads=1)
    client = world.connect(GET)
    world.tick(2)
    client.reset()
    world.tick(2)
    world.work()
    assert app.are_closed == []


def test_a_server_that_ends_gives_the_file_back(make_world: MakeWorld, path: Path) -> None:
    world = make_world(wsgi_handler(Files(path), as_file=as_file))
    world.connect(GET, window_bytes=10_000)
    world.tick(3)
    world.server.close()


def test_without_the_means_a_file_is_read(make_world: MakeWorld, path: Path) -> None:
    app: WSGIApplication = Files(path)
    world = make_world(wsgi_handler(app))
    assert answers(world.talk(world.connect(), LAST_GET))[0].body == CONTENT
