"""The log of the command beside that of an application: what each writes, in which form, and how often."""

import http.client
import io
import logging
import logging.config
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from h1core.drivers.cli.log_setup import LEVELS, log_to_stderr

PATIENCE_S = 20.0
OWN = ("h1core.server", "h1core.access", "h1core.wsgi")
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def state(name: str) -> tuple[object, ...]:
    logger = logging.getLogger(name)
    return logger.level, logger.propagate, logger.disabled, tuple(logger.handlers)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test does to the loggers is undone."""
    loggers = [logging.getLogger(name) for name in ("h1core", *OWN)]
    before = [(logger, logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, propagate, disabled, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.disabled, logger.handlers = propagate, disabled, handlers


def say(level: int = logging.INFO) -> None:
    """A line on each logger."""
    for name in OWN:
        logging.getLogger(name).log(level, "from %s", name)


def test_each_line_is_written_once_and_goes_no_further(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with log_to_stderr("info"):
        say()
        logging.getLogger("h1core.server").debug("not asked for")
    server, access, wsgi = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{STAMP} h1core.server INFO from h1core.server", server)
    assert re.fullmatch(f"{STAMP} h1core.access INFO from h1core.access", access)
    assert wsgi == "from h1core.wsgi", "wsgi.errors has the form that the application has given to it"
    assert caplog.records == [], "the root logger's handlers have them, too"


def test_afterwards_everything_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["", "h1core", *OWN]
    before = [state(name) for name in names]
    for _ in range(2):
        with log_to_stderr("debug"):
            assert [state(name) for name in names[:2]] == before[:2]
            assert [len(logging.getLogger(name).handlers) for name in OWN] == [1, 1, 1]
            with log_to_stderr("debug"):  # as by a second `main` in another thread
                assert [len(logging.getLogger(name).handlers) for name in OWN] == [1, 1, 1]
        assert [state(name) for name in names] == before


def test_lines_go_to_what_stderr_is_at_the_time() -> None:
    with log_to_stderr("info"):
        for _ in range(2):
            with redirect_stderr(io.StringIO()) as stream:
                say()
            assert len(stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_is_that_of_the_option(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_stderr(level):
        say(LEVELS[level])
        say(LEVELS[level] - 1)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "h1core.server" in line]) == 1
    assert len([line for line in lines if "h1core.access" in line]) == 1


def test_what_is_written_to_wsgi_errors_does_not_depend_on_the_levels(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("h1core").setLevel(logging.CRITICAL)
    with log_to_stderr("critical"):
        say()
    assert capsys.readouterr().err == "from h1core.wsgi\n"


@pytest.mark.parametrize("name", ["h1core", "h1core.server"])
def test_a_level_that_the_application_has_set_stays(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)
    with log_to_stderr("debug"):
        logging.getLogger("h1core.server").warning("not wanted")
        logging.getLogger("h1core.server").error("wanted")
    assert capsys.readouterr().err.splitlines()[0].endswith("h1core.server ERROR wanted")


@pytest.mark.parametrize("name", ["h1core", "h1core.server"])
def test_where_the_application_has_a_handler_there_is_no_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"own": {"format": "APP %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "stream": theirs, "formatter": "own"}},
            "loggers": {name: {"handlers": ["own"], "propagate": False}},
        }
    )
    with log_to_stderr("info"):
        logging.getLogger("h1core.server").info("once")
    assert theirs.getvalue() == "APP once\n"
    assert capsys.readouterr().err == ""


def test_a_configuration_that_disables_what_it_does_not_name_does_not_mean_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.config.dictConfig({"version": 1, "loggers": {"mine": {"level": "INFO"}}})
    assert logging.getLogger("h1core.server").disabled
    try:
        with log_to_stderr("info"):
            say()
    finally:
        for logger in logging.Logger.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = False
    assert len(capsys.readouterr().err.splitlines()) == 3


# The whole command.


def serve(folder: Path, code: str, *targets: str, options: tuple[str, ...] = ()) -> list[str]:
    """What a server with this application writes to stderr, behind its first line, when it gets some requests."""
    (folder / "web.py").write_text(code)
    command = [sys.executable, "-m", "h1core", "web:app", "--bind", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("h1core: listening on"), first + process.stderr.read()
            client = http.client.HTTPConnection("127.0.0.1", int(first.rpartition(":")[2]), timeout=PATIENCE_S)
            for target in targets:
                client.request("GET", target)
                client.getresponse().read()
            client.close()
            process.send_signal(signal.SIGTERM)
            lines = process.stderr.read().splitlines()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    return lines


HANDLER = """
import logging
from h1core import Response
log = logging.getLogger("shop")
def app(request):
    if request.target == b"/late":
        logging.basicConfig(level=logging.INFO, format="LATE %(name)s %(message)s")
    if request.target == b"/bad":
        raise ZeroDivisionError("mine")
    log.info("asked for")
    return Response(200)
"""
ACCESS = rf"{STAMP} h1core\.access INFO 127\.0\.0\.1:\d+ GET (\S+) HTTP/1\.1 (\d+) \d+\.\dms"


def accessed(lines: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The lines of the access log, and the others."""
    found = [re.fullmatch(ACCESS, line) for line in lines]
    return [(match[1], match[2]) for match in found if match], [
        line for line, match in zip(lines, found, strict=True) if not match
    ]


def test_the_lines_of_an_application_that_has_configured_its_log_come_once(tmp_path: Path) -> None:
    code = HANDLER + "logging.basicConfig(level=logging.INFO, format='EARLY %(name)s %(message)s')\n"
    access, others = accessed(serve(tmp_path, code, "/", "/bad", options=("--access-log",)))
    assert access == [("/", "200"), ("/bad", "500")]
    assert others[0] == "EARLY shop asked for"
    assert re.fullmatch(rf"{STAMP} h1core\.server ERROR the handler failed on GET /bad HTTP/1\.1", others[1])
    assert others[-1] == "ZeroDivisionError: mine"
    assert not any(line.startswith("EARLY") for line in others[1:])


def test_an_application_may_configure_its_log_in_its_first_request(tmp_path: Path) -> None:
    assert accessed(serve(tmp_path, HANDLER, "/", "/late", "/", options=("--access-log",))) == (
        [("/", "200"), ("/late", "200"), ("/", "200")],
        ["LATE shop asked for"] * 2,
    )


def test_a_level_of_the_option_is_for_the_server_and_no_other(tmp_path: Path) -> None:
    options = ("--access-log", "--log-level", "critical")
    assert serve(tmp_path, HANDLER, "/bad", "/late", options=options) == ["LATE shop asked for"]


FLASK = """
import logging, logging.config
from flask import Flask
{config}
app = Flask("shop")
app.logger.setLevel(logging.INFO)
@app.get("/")
def page():
    app.logger.info("asked for")
    return "hello"
@app.get("/bad")
def bad():
    raise ZeroDivisionError("mine")
"""
AS_FLASK_PROPOSES = """logging.config.dictConfig({
    "version": 1,
    "formatters": {"default": {"format": "OWN %(levelname)s %(message)s"}},
    "handlers": {"wsgi": {
        "class": "logging.StreamHandler", "stream": "ext://flask.logging.wsgi_errors_stream", "formatter": "default",
    }},
    "root": {"level": "INFO", "handlers": ["wsgi"]},
})"""


def test_what_flask_logs_is_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    lines = serve(tmp_path, FLASK.format(config=""), "/", "/bad")
    assert re.fullmatch(rf"\[{STAMP}\] INFO in web: asked for", lines[0])
    assert re.fullmatch(rf"\[{STAMP}\] ERROR in app: Exception on /bad \[GET\]", lines[1])
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: mine"


def test_a_root_logger_on_wsgi_errors_has_each_line_once(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    lines = serve(tmp_path, FLASK.format(config=AS_FLASK_PROPOSES), "/", options=("--access-log",))
    assert accessed(lines) == ([("/", "200")], ["OWN INFO asked for"])


WRITES = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    environ["wsgi.errors"].write("unfinished " + environ["PATH_INFO"])
    return [b"hello"]
"""


@pytest.mark.parametrize("threads", ["0", "1"])
def test_an_unfinished_line_ends_with_its_request(tmp_path: Path, threads: str) -> None:
    assert serve(tmp_path, WRITES, "/a", "/b", options=("--threads", threads)) == ["unfinished /a", "unfinished /b"]
