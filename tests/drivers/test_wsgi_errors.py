"""`wsgi.errors` at the end of a request: what was not ended with a line feed is a line of that request alone."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from h1core.drivers.app_interface import handler_of
from h1core.drivers.log_stream import LogStream

from .world import HEAD, MakeWorld, World, get

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]


def start(environ: Environ, start_response: Start, *fields: tuple[str, str]) -> Callable[[bytes], None]:
    environ["wsgi.errors"].write("began ")
    return start_response("200 OK", list(fields))


def a_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start(environ, start_response)
    return [b"a"]


def a_long_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start(environ, start_response)
    return [b"a" * 100_000, b"b"]


def fails(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start(environ, start_response)
    raise ValueError("mine")


def fails_to_start(environ: Environ, start_response: Start) -> Iterable[bytes]:
    environ["wsgi.errors"].write("began ")
    return iter([b"a"])


def no_iterable(environ: Environ, start_response: Start) -> Any:
    start(environ, start_response)
    return "text"


def writes(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start(environ, start_response)(b"a")
    return []


def writes_and_fails(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start(environ, start_response)(b"a")
    raise ValueError("mine")


@pytest.fixture(params=[0, 1], ids=["inline", "worker"])
def make_served(request: pytest.FixtureRequest, make_world: MakeWorld) -> Callable[[Any], World]:
    """Makes a world that runs a WSGI application, inline or in a worker."""
    threads: int = request.param
    options: dict[str, Any] = {"threads": threads, "max_output_bytes": 1 << 20}
    return lambda app: make_world(handler_of(app, "wsgi", threads=threads), **options)


def ask(world: World, target: bytes, wire: bytes = b"") -> None:
    """Let a client ask, and the server answer."""
    world.connect(wire or get(target))
    world.tick(2)
    while world.workers.jobs:
        world.work()
    world.tick(2)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "h1core.wsgi"]


@pytest.mark.parametrize(
    "app",
    [a_list, a_long_list, fails, fails_to_start, no_iterable, writes, writes_and_fails],
    ids=lambda app: app.__name__,
)
def test_it_ends_with_a_request_however_that_is_answered(
    app: Any, make_served: Callable[[Any], World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_served(app)
    ask(world, b"/1")
    assert lines(caplog) == ["began "]
    ask(world, b"/2")
    assert lines(caplog) == ["began "] * 2


class Body:
    """Says each step, and ends no line before its last one."""

    def __init__(self, environ: Environ, start_response: Start) -> None:
        self.log = environ["wsgi.errors"]
        start(environ, start_response)

    def __iter__(self) -> Iterator[bytes]:
        for number in range(3):
            self.log.write(f"{number} ")
            yield b"piece"
        self.log.write("done ")

    def close(self) -> None:
        self.log.write("closed")


class OneBlock(Body):
    """Of a body that is known to be whole with its first block."""

    def __iter__(self) -> Iterator[bytes]:
        self.log.write("0 ")
        yield b"piece"
        self.log.write("done ")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(("app", "line"), [(Body, "began 0 1 2 done closed"), (OneBlock, "began 0 done closed")])
def test_a_line_may_go_on_from_block_to_block_until_the_body_is_closed(
    app: Any, line: str, make_served: Callable[[Any], World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_served(app)
    ask(world, b"/")
    assert lines(caplog) == [line]
    ask(world, b"/")
    assert lines(caplog) == [line] * 2


def test_a_body_that_is_not_wanted_is_closed_and_its_line_ended(
    make_served: Callable[[Any], World], caplog: pytest.LogCaptureFixture
) -> None:
    ask(make_served(Body), b"/", HEAD)
    assert lines(caplog) == ["began 0 closed"]


def test_bodies_that_are_streamed_side_by_side_keep_their_lines_apart(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    class Named(Body):
        def __init__(self, environ: Environ, start_response: Start) -> None:
            super().__init__(environ, start_response)
            self.name = environ["PATH_INFO"]

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(3):
                self.log.write(self.name)
                yield b"x" * 5000

    world = make_world(handler_of(Named, "wsgi"), max_output_bytes=1000)
    clients = [world.connect(get(target), window_bytes=1000) for target in (b"/a", b"/b")]
    while len(lines(caplog)) < 2:
        world.tick()
        for client in clients:
            client.read()
    assert sorted(lines(caplog)) == ["began /a/a/aclosed", "began /b/b/bclosed"]


def test_a_request_that_has_written_nothing_flushes_nothing(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[LogStream] = []
    monkeypatch.setattr(LogStream, "flush", flushed.append)

    def quiet(environ: Environ, start_response: Start) -> Iterable[bytes]:
        environ["wsgi.errors"].write("whole\n")
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    ask(make_world(handler_of(quiet, "wsgi")), b"/")
    assert flushed == []
