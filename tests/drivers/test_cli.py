"""The command line: what it refuses, what it hands to a driver, and one server that really runs."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from h1core.drivers import __main__
from h1core.drivers.asyncio_driver import Server as AsyncioServer
from h1core.drivers.asyncio_driver import loop_factory
from h1core.drivers.cli import main as cli
from h1core.drivers.cli.main import Plan, main
from h1core.drivers.engine.options import Options
from h1core.drivers.net.listeners import describe
from h1core.drivers.selectors_driver import Server
from h1core.drivers.trio_driver import Server as TrioServer

from h1core import Request, Response
from h1core.app.asgi import AsgiHandler
from h1core.config import SUMMARIES, Limits, Timeouts
from h1core.errors import LocalError

DEFAULTS: dict[str, int | float] = {**asdict(Limits()), **asdict(Timeouts())}

APPS = """
def app(request): "a handler"
async def async_app(request): "an async handler"
def wsgi(environ, start_response):
    start_response("200 OK", [("X-Path", environ["SCRIPT_NAME"] + " " + environ["PATH_INFO"])])
    print("said", environ["wsgi.multithread"], file=environ["wsgi.errors"])
    return [b"from wsgi"]
async def asgi(scope, receive, send): "an ASGI application"
def make(): return asgi
async def cannot_start(scope, receive, send):
    await receive()
    raise ValueError("no database")
async def has_words(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback:\\n  here\\nValueError: no database\\n"})
def asgi_2(scope): "an application for ASGI 2"
def unclear(*arguments): "takes anything"
"""


NEEDS_A_LOOP = "an async application needs --driver asyncio or --driver trio"


class FakeServer:
    """Remembers what it was given and what was asked of it; `script` is what happens while it runs."""

    script: ClassVar[list[Callable[[], None]]] = []
    made: ClassVar[list["FakeServer"]] = []

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.addresses = [describe(sock) for sock in plan.listeners]
        self.calls: list[str] = []
        self.made.append(self)

    def run(self, started: Callable[[], None]) -> None:
        self.calls.append("run")
        started()
        for step in self.script:
            step()

    def begin_drain(self) -> None:
        self.calls.append("begin_drain")

    def stop(self) -> None:
        self.calls.append("stop")

    def call_soon(self, do: Callable[[], None]) -> None:
        do()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with `web.py`, a fake driver, and a process that is afterwards as it was."""
    (tmp_path / "web.py").write_text(APPS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(FakeServer, "script", [])
    monkeypatch.setattr(FakeServer, "made", [])
    monkeypatch.setitem(cli.DRIVERS, "selectors", FakeServer)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def run(*arguments: str) -> Plan:
    """Run the command to its end with the fake driver, and give what that was given."""
    assert main(["web:app", "--bind", "127.0.0.1:0", *arguments]) == 0
    [server] = FakeServer.made
    assert server.calls == ["run"]
    return server.plan


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command ends with."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"h1core: [^\n]+\n", err)
    assert FakeServer.made == []
    return err.removeprefix("h1core: ").removesuffix("\n")


# Options.


def test_every_field_has_a_line_of_help_and_nothing_else_has() -> None:
    assert list(SUMMARIES) == list(DEFAULTS)


def test_help_names_every_option_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, default in DEFAULTS.items():
        option = "--" + name.replace("_", "-")
        assert re.search(rf"{option} (BYTES|SECONDS|N) [^(]*\(default {default:.12g}\)", text), option
    for option in (
        "--bind --driver --loop --interface --threads --root-path --factory --access-log --log-level --version".split()
    ):
        assert option in text


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    monkeypatch.setattr(metadata, "version", lambda name: {"h1core": "9.8.7"}[name])
    assert ask() == "h1core 9.8.7\n"

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert ask() == "h1core (not installed)\n"


def test_without_options_everything_is_as_the_dataclasses_say() -> None:
    plan = run()
    assert plan.options == {"limits": Limits(), "timeouts": Timeouts(), "threads": 0, "access_log": False}
    assert plan.handler.__name__ == "app"


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_field_can_be_set(name: str) -> None:
    lower_line = ("--max-request-line-bytes", "8000") if name == "max_head_bytes" else ()
    value = DEFAULTS[name] - 1
    plan = run(*lower_line, f"--{name.replace('_', '-')}", str(value))
    limits, timeouts = plan.options["limits"], plan.options["timeouts"]
    assert limits is not None
    assert timeouts is not None
    assert {**asdict(limits), **asdict(timeouts)}[name] == value


def test_the_access_log_is_asked_for() -> None:
    assert run("--access-log").options["access_log"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "the following arguments are required: MODULE:NAME (see h1core --help)"),
        (("web:app", "--nonsense"), "unrecognized arguments: --nonsense (see h1core --help)"),
        (("web:app", "--head", "3"), "unrecognized arguments: --head 3 (see h1core --help)"),
        (("web:app", "--max-fields", "many"), "argument --max-fields: invalid int value: 'many' (see h1core --help)"),
        (("web:app", "--max-fields", "0"), "--max-fields must be a whole number of at least 1, not 0"),
        (("web:app", "--head-timeout", "-1"), "--head-timeout must be a positive number, not -1.0"),
        (("web:app", "--head-timeout", "nan"), "--head-timeout must be a positive number, not nan"),
        (("web:app", "--head-timeout", "inf"), "--head-timeout must be a positive number, not inf"),
        (("web:app", "--threads", "-1"), "--threads must be from 0 to 4096, not -1"),
        (("web:app", "--bind", "8000"), "bad address '8000': the port is missing, as in 127.0.0.1:8000"),
        (("web:app", "--bind", "[::1]:1", "--bind", "x"), "bad address 'x': the port is missing, as in 127.0.0.1:8000"),
        (("web",), "bad application 'web': it is MODULE:NAME, as in examples.hello:app"),
        (("web:ap",), "web has no 'ap'; did you mean app?"),
        (("web:unclear",), "cannot tell what kind of application this is: it takes any arguments, like a wrapper "
         "without functools.wraps (or say --interface)"),
        (("web:async_app", "--driver", "selectors"), NEEDS_A_LOOP),
        (("web:asgi", "--driver", "selectors"), NEEDS_A_LOOP),
        (("web:make", "--factory", "--driver", "selectors"), NEEDS_A_LOOP),
        (("web:app", "--factory"), "web:app is called as a factory, without arguments: missing a required argument: "
         "'request'"),
        (("web:app", "--interface", "asgi"), "--interface asgi calls an application with scope, receive, send: too "
         "many positional arguments"),
        (("web:asgi_2",), "this is an application for ASGI 2, which takes scope alone; h1core speaks ASGI 3: "
         "asgiref.compatibility.guarantee_single_callable makes one of the other (or say --interface)"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, *arguments) == says


def test_two_limits_at_odds_are_named_as_options(capsys: pytest.CaptureFixture[str]) -> None:
    said = failure(capsys, "web:app", "--max-head-bytes", "100")
    assert said == "--max-request-line-bytes must not be larger than --max-head-bytes, which contains it"


@pytest.mark.parametrize("option", ["--driver", "--interface"])
def test_a_choice_is_one_of_those_offered(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "web:app", option, "none").startswith(f"argument {option}: invalid choice: 'none'")


@pytest.mark.parametrize("arguments", [("web:async_app", "--driver", "trio"), ("web:app", "--driver", "trio")])
def test_without_trio_its_driver_says_what_to_install(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    for name in [name for name in sys.modules if name.startswith("h1core.drivers.trio_")]:
        monkeypatch.delitem(sys.modules, name)
    assert failure(capsys, *arguments) == "the trio driver needs trio: pip install 'h1core[trio]'"


@pytest.mark.parametrize("arguments", [(), ("--interface", "wsgi"), ("--threads", "1"), ("--threads", "0")])
def test_a_wsgi_application_becomes_a_handler(arguments: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    assert main(["web:wsgi", "--bind", "127.0.0.1:0", "--root-path", "/shop", *arguments]) == 0
    plan = FakeServer.made[0].plan
    response = plan.handler(Request(b"GET", b"/shop/a", ()))
    assert response == Response(200, [(b"X-Path", b"/shop /a")], b"from wsgi")
    assert plan.options["threads"] == (int(arguments[1]) if "--threads" in arguments else 4)
    said = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [("h1core.wsgi", "WARNING", f"said {plan.options['threads'] > 1}")]


def test_a_root_path_is_for_those_who_can_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    says = "a root path begins with a slash, as in /shop, not 'shop'"
    assert failure(capsys, "web:wsgi", "--root-path", "shop") == says
    says = "--root-path is for WSGI and ASGI; a handler sees the whole target"
    assert failure(capsys, "web:app", "--root-path", "/shop") == says


def test_wsgi_takes_four_threads_unless_told_otherwise() -> None:
    assert cli._threads(None, "wsgi") == 4
    assert cli._threads(0, "wsgi") == 0
    assert cli._threads(None, "handler") == 0
    assert cli._threads(3, "handler") == 3


# The application.


def test_the_interface_may_be_told_instead_of_guessed() -> None:
    assert main(["web:unclear", "--interface", "handler", "--bind", "127.0.0.1:0"]) == 0
    assert FakeServer.made[0].plan.handler.__name__ == "unclear"


def test_a_failing_module_shows_its_own_traceback_then_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.py").write_text("def lay():\n    import nowhere\nlay()\n")
    assert main(["broken:app"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if line.startswith("  File")] == [
        f'  File "{folder}/broken.py", line 3, in <module>',
        f'  File "{folder}/broken.py", line 2, in lay',
    ]
    assert lines[-2:] == [
        "ModuleNotFoundError: No module named 'nowhere'",
        "h1core: broken failed while it was imported",
    ]


# Binding.


def test_every_listener_is_announced_and_closed_in_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web:app", "--bind", "127.0.0.1:0", "--bind", f"unix:{folder}/app.sock"]) == 0
    [server] = FakeServer.made
    assert server.addresses[1] == f"unix:{folder}/app.sock"
    assert capsys.readouterr().err.splitlines() == [f"h1core: listening on {address}" for address in server.addresses]
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", server.addresses[0])
    assert [sock.fileno() for sock in server.plan.listeners] == [-1, -1]
    assert not (folder / "app.sock").exists()


def test_the_default_address_is_loopback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(address: object) -> socket.socket:
        raise LocalError(f"asked for {address}")

    monkeypatch.setattr(cli, "bind", refuse)
    assert failure(capsys, "web:app") == "asked for 127.0.0.1:8000"


def test_one_bad_address_closes_all_listeners(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(capsys, "web:app", "--bind", f"unix:{folder}/app.sock", "--bind", f"127.0.0.1:{port}")
    assert said.startswith(f"cannot listen on 127.0.0.1:{port}: it is already in use")
    assert not (folder / "app.sock").exists()


def test_one_descriptor_is_not_taken_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        spec = f"fd:{theirs.fileno()}"
        assert (
            failure(capsys, "web:app", "--bind", spec, "--bind", spec) == f"cannot listen on {spec} twice; name it once"
        )
        assert theirs.getsockname()


def test_a_server_that_fails_closes_its_listeners_and_shows_why(folder: Path) -> None:
    def fail() -> None:
        raise LocalError("a bug, and not the user's mistake")

    FakeServer.script.append(fail)
    with pytest.raises(LocalError, match="a bug"):
        main(["web:app", "--bind", f"unix:{folder}/app.sock"])
    assert not (folder / "app.sock").exists()


# Signals.


@pytest.mark.parametrize(
    ("signals", "calls", "status"),
    [
        ([signal.SIGTERM], ["run", "begin_drain"], 0),
        ([signal.SIGINT], ["run", "begin_drain"], 0),
        ([signal.SIGTERM, signal.SIGTERM], ["run", "begin_drain", "stop"], 143),
        ([signal.SIGTERM, signal.SIGINT], ["run", "begin_drain", "stop"], 130),
        ([signal.SIGINT, signal.SIGINT, signal.SIGTERM], ["run", "begin_drain", "stop", "stop"], 130),
    ],
)
def test_the_first_signal_drains_and_the_next_ends(signals: list[int], calls: list[str], status: int) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    FakeServer.script.extend(lambda number=number: signal.raise_signal(number) for number in signals)  # type: ignore[misc]  # a lambda's default has no type
    assert main(["web:app", "--bind", "127.0.0.1:0"]) == status
    assert FakeServer.made[0].calls == calls
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# The whole command.


OPTIONS: Options = {
    "limits": Limits(max_connections=7),
    "timeouts": Timeouts(head_timeout=3.0),
    "threads": 0,
    "access_log": True,
}


@pytest.mark.parametrize(("driver", "kind"), [("selectors", Server), ("asyncio", AsyncioServer), ("trio", TrioServer)])
def test_each_driver_gets_the_plan(driver: str, kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def app(request: object) -> None: ...

    monkeypatch.undo()  # of the fake driver
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = cli.DRIVERS[driver](Plan(app, [listener], "asyncio", OPTIONS))
    assert isinstance(server, kind)
    server.stop()
    server.run(lambda: None)
    assert server.core.limits.max_connections == 7
    assert server.core.timeouts.head_timeout == 3.0
    assert listener.fileno() == -1


@pytest.mark.parametrize(
    ("app", "arguments", "kind"),
    [
        ("make", ("--factory",), AsyncioServer),
        ("async_app", (), AsyncioServer),
        ("asgi", ("--driver", "trio"), TrioServer),
        ("app", ("--driver", "asyncio"), AsyncioServer),
        ("app", ("--driver", "trio"), TrioServer),
        ("wsgi", ("--driver", "asyncio"), AsyncioServer),
    ],
)
def test_asyncio_is_for_async_applications_unless_another_driver_is_asked_for(
    app: str, arguments: tuple[str, ...], kind: type[Any]
) -> None:
    with ExitStack() as at_exit:
        options = cli._parser().parse_args([f"web:{app}", *arguments, "--bind", "127.0.0.1:0"])
        plan, make_server = cli._plan(options, at_exit)
        assert isinstance(plan.handler, AsgiHandler) == (app in ("make", "asgi"))
        assert isinstance(make_server(plan), kind)


def test_uvloop_must_be_installed_if_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert failure(capsys, "web:asgi", "--loop", "uvloop") == "--loop uvloop needs uvloop: pip install 'h1core[uvloop]'"
    assert loop_factory("auto") is loop_factory("asyncio")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cannot_start", ["ValueError: no database", "h1core: the application's startup failed: "
         "ValueError('no database') (without a startup, return at once when scope['type'] is 'lifespan')"]),
        ("has_words", ["Traceback:", "  here", "ValueError: no database",
         "h1core: the application's startup failed: ValueError: no database"]),
    ],
)  # fmt: skip
def test_an_application_that_cannot_start_ends_the_command_with_3(
    name: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"web:{name}", "--bind", "127.0.0.1:0"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[-len(shown) :] == shown
    assert not any("listening" in line for line in lines)
    if name == "cannot_start":
        assert next(line for line in lines if line.startswith("  File")).endswith("in cannot_start")


def test_the_console_script_and_the_module_are_this_command() -> None:
    assert __main__.main is main


def test_a_server_serves_and_drains(folder: Path) -> None:
    (folder / "real.py").write_text(
        "from h1core import Response\n"
        "def app(request): return Response(200, [(b'content-type', b'text/plain')], b'hello')\n"
    )
    command = [sys.executable, "-m", "h1core.drivers", "real:app", "--bind", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            announced = re.fullmatch(r"h1core: listening on http://127\.0\.0\.1:(\d+)\n", line)
            assert announced, line + process.stderr.read()
            client = http.client.HTTPConnection("127.0.0.1", int(announced[1]), timeout=30)
            client.request("GET", "/")
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"hello")
            process.send_signal(signal.SIGTERM)
            assert client.sock.recv(1) == b"", "a drain ends an idle connection at once"
            client.close()
            assert process.wait(timeout=20) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
