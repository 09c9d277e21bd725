"""MODULE:NAME to an application, and what kind of application it is."""

import functools
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from h1core.drivers.cli.app_loader import AppFailed, call_factory, load

from h1core.app.handler import is_async
from h1core.app.interface import INTERFACES, App, Interface, check_interface, interface_of
from h1core.errors import LocalError

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules into the current folder; they are forgotten afterwards, and so is the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write_one(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write_one
    for name in set(sys.modules) - known:
        del sys.modules[name]


def failure(spec: str) -> str:
    with pytest.raises(LocalError) as caught:
        load(spec)
    assert not isinstance(caught.value, AppFailed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Loading.


def test_the_current_folder_comes_first(write: Write, tmp_path: Path) -> None:
    write("colorsys.py", "def app(request): return 'mine'")
    sys.modules.pop("colorsys", None)
    assert load("colorsys:app")(None) == "mine"
    assert sys.path[0] == str(tmp_path)
    load("colorsys:app")
    assert sys.path.count(str(tmp_path)) == 1


def test_a_name_may_be_dotted_and_a_module_too(write: Write) -> None:
    write("site_pkg/__init__.py", "")
    write("site_pkg/web.py", "class Site:\n    @staticmethod\n    def app(request): return 'dotted'")
    assert load("site_pkg.web:Site.app")(None) == "dotted"


@pytest.mark.parametrize("spec", ["", ":", "app", "app:", ":app", "hello.py", "examples.hello"])
def test_what_is_not_module_and_name_is_refused(spec: str) -> None:
    assert failure(spec) == f"bad application {spec!r}: it is MODULE:NAME, as in examples.hello:app"


@pytest.mark.parametrize("spec", ["hello.py:app", "examples/hello:app", "./hello.py:app"])
def test_a_file_name_is_no_module_name(spec: str) -> None:
    assert "written as in an import" in failure(spec)


@pytest.mark.parametrize("spec", [".hello:app", "examples..hello:app", "examples.:app"])
def test_a_relative_module_name_is_refused(spec: str) -> None:
    assert "full dotted name" in failure(spec)


def test_a_missing_module_is_one_line(write: Write, tmp_path: Path) -> None:
    assert failure("nowhere:app") == f"no module named nowhere (looked in {tmp_path} first)"
    assert failure("nowhere.at.all:app").startswith("no module named nowhere.at.all: there is no nowhere (looked")
    write("site_pkg/__init__.py", "")
    assert failure("site_pkg.nowhere:app").startswith("no module named site_pkg.nowhere (looked")


def test_a_module_that_lacks_a_module_is_not_itself_missing(write: Write) -> None:
    write("web.py", "import nowhere")
    with pytest.raises(AppFailed, match="web failed while it was imported") as caught:
        load("web:app")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("text", ["import os\nraise RuntimeError('mine')", "def app(:\n", "raise SystemExit(0)"])
def test_what_a_module_raises_is_shown_from_its_own_first_line(write: Write, text: str) -> None:
    write("web.py", text)
    with pytest.raises(AppFailed) as caught:
        load("web:app")
    cause = caught.value.__cause__
    assert cause is not None
    frames = [Path(frame.filename).name for frame in traceback.extract_tb(cause.__traceback__)]
    assert frames in (["web.py"], [])
    assert "web.py" in "".join(traceback.format_exception(cause))


def test_a_missing_name_is_answered_with_near_ones(write: Write) -> None:
    write("web.py", "def application(request): ...\nclass site: application2 = application")
    assert failure("web:aplication") == "web has no 'aplication'; did you mean application?"
    assert "web.site has no 'aplication'; did you mean application2" in failure("web:site.aplication")
    assert failure("web:zzz") == "web has no 'zzz'"


def test_what_cannot_be_called_is_no_application(write: Write) -> None:
    write("web.py", "app = 'text'")
    assert failure("web:app") == "web:app is not callable: it is of type str"


# Factories.


def test_a_factory_makes_the_application(write: Write) -> None:
    write(
        "web.py", "def make(debug=False):\n    def app(request): return 'made'\n    return app\nclass Site:\n    pass"
    )
    assert call_factory(load("web:make"), "web:make")(None) == "made"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def make(settings): ...", "is called as a factory, without arguments: missing a required argument: 'set"),
        ("async def make(): ...", "is async; one that is called here is a plain function"),
        ("def make(): return 5", "gave no application but a value of type int"),
        ("def make(): ...", "gave no application but a value of type NoneType"),
    ],
)
def test_a_factory_that_makes_none_is_told_why(write: Write, text: str, says: str) -> None:
    write("web.py", text)
    with pytest.raises(LocalError) as caught:
        call_factory(load("web:make"), "web:make")
    assert says in str(caught.value)
    assert not isinstance(caught.value, AppFailed)


@pytest.mark.parametrize("error", ["RuntimeError('mine')", "SystemExit(0)"])
def test_a_factory_that_fails_shows_its_own_traceback(write: Write, error: str) -> None:
    write("web.py", f"def make(): raise {error}")
    with pytest.raises(AppFailed, match="the factory web:make failed") as caught:
        call_factory(load("web:make"), "web:make")
    assert caught.value.__cause__ is not None
    frames = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)]
    assert frames == ["web.py"]


# Which interface: the samples are never called, so what they do means nothing.


def handler(request: object) -> None: ...
def handler_with_options(request: object, debug: bool = False, *more: object, log: object = None) -> None: ...
def wsgi(environ: object, start_response: object) -> None: ...
async def async_handler(request: object) -> None: ...
async def asgi(scope: object, receive: object, send: object) -> None: ...
async def async_pair(environ: object, start_response: object) -> None: ...
def sync_asgi(scope: object, receive: object, send: object) -> Awaitable[None] | None: ...


class Handler:
    def __call__(self, request: object) -> None: ...
    def method(self, request: object) -> None: ...
    async def async_method(self, request: object) -> None: ...
    @classmethod
    def made(cls, request: object) -> None: ...


class AsyncHandler:
    async def __call__(self, request: object) -> None: ...


class Wsgi:
    def __call__(self, environ: object, start_response: object) -> Iterable[bytes]:
        return []


class WsgiClass:
    """An application by PEP 3333: calling the class makes the iterable."""

    def __init__(self, environ: object, start_response: object) -> None: ...
    def __iter__(self) -> Iterator[bytes]:
        return iter([])


class Asgi:
    async def __call__(self, scope: object, receive: object, send: object) -> None: ...


class AsgiClass:
    """As Starlette's endpoints are: calling the class makes the awaitable."""

    def __init__(self, scope: object, receive: object, send: object) -> None: ...


class HandlerClass:
    def __init__(self, request: object) -> None: ...


class Asgi2:
    def __init__(self, scope: object) -> None: ...
    async def __call__(self, receive: object, send: object) -> None: ...


@functools.wraps(wsgi)
def decorated(*args: Any, **options: Any) -> None: ...


@functools.wraps(asgi)
async def decorated_asgi(*args: Any, **options: Any) -> None: ...


async def asgi_with_settings(settings: object, scope: object, receive: object, send: object) -> None: ...


class Hidden:
    __signature__ = "what inspect cannot make sense of"

    def __call__(self, request: object) -> None: ...


def asgi_2(scope: object) -> None: ...
def keyword(request: object, *, needed: object) -> None: ...
def nothing() -> None: ...
def with_defaults(settings: object = None) -> None: ...
def four(one: object, two: object, three: object, four: object) -> None: ...
def anything(*args: object, **options: object) -> None: ...


KINDS = [
    (handler, "handler", False),
    (lambda request: None, "handler", False),
    (handler_with_options, "handler", False),
    (Handler(), "handler", False),
    (Handler().method, "handler", False),
    (Handler.made, "handler", False),
    (functools.partial(wsgi, {}), "handler", False),
    (async_handler, "handler", True),
    (AsyncHandler(), "handler", True),
    (Handler().async_method, "handler", True),
    (functools.partial(asgi, {}, send=None), "handler", True),
    (functools.partial(functools.partial(AsyncHandler())), "handler", True),
    (wsgi, "wsgi", False),
    (Wsgi(), "wsgi", False),
    (Wsgi().__call__, "wsgi", False),
    (WsgiClass, "wsgi", False),
    (decorated, "wsgi", False),
    (functools.partial(sync_asgi, {}), "wsgi", False),
    (asgi, "asgi", True),
    (sync_asgi, "asgi", False),
    (Asgi(), "asgi", True),
    (AsgiClass, "asgi", False),
    (decorated_asgi, "asgi", True),
    (functools.partial(asgi_with_settings, {}), "asgi", True),
    (Asgi().__call__, "asgi", True),
]


@pytest.mark.parametrize(("app", "interface", "asynchronous"), KINDS)
def test_the_interface_is_told_by_the_arguments(app: App, interface: str, asynchronous: bool) -> None:
    assert interface_of(app) == interface
    assert is_async(app) == asynchronous


UNCLEAR = [
    (nothing, "needs no argument; if it makes the application, add --factory"),
    (with_defaults, "needs no argument; if it makes the application, add --factory"),
    (functools.partial(handler, None), "needs no argument"),
    (anything, "takes any arguments, like a wrapper without functools.wraps"),
    (Asgi, "is a class that takes no argument; name an instance, or make one with --factory"),
    (four, "needs 4 arguments; a handler takes 1, WSGI 2, ASGI 3"),
    (keyword, "needs an argument by keyword"),
    (AsyncHandler.__call__, "takes 2 arguments like WSGI, but is async"),
    (HandlerClass, "is a class that takes 1 argument; name an instance"),
    (async_pair, "takes 2 arguments like WSGI, but is async"),
    (Hidden(), "cannot be seen"),
]


@pytest.mark.parametrize(("app", "says"), UNCLEAR)
def test_an_unclear_application_is_told_the_way_out(app: App, says: str) -> None:
    with pytest.raises(LocalError, match=says) as caught:
        interface_of(app)
    assert str(caught.value).endswith("(or say --interface)")


@pytest.mark.parametrize("app", [Asgi2, asgi_2])
def test_an_application_for_asgi_2_is_told_as_one(app: App) -> None:
    with pytest.raises(LocalError, match="for ASGI 2, which takes scope alone; h1core speaks ASGI 3"):
        interface_of(app)


@pytest.mark.parametrize(("app", "interface"), [(app, interface) for app, interface, _ in KINDS])
def test_the_interface_that_was_told_may_be_said(app: App, interface: Interface) -> None:
    check_interface(app, interface)


@pytest.mark.parametrize("app", [anything, Hidden()])
@pytest.mark.parametrize("interface", INTERFACES.values())
def test_one_whose_arguments_cannot_be_counted_is_taken_at_its_word(app: App, interface: Interface) -> None:
    check_interface(app, interface)


@pytest.mark.parametrize(
    ("app", "interface", "says"),
    [
        (wsgi, "handler", "--interface handler calls an application with request: missing a required"),
        (asgi, "wsgi", "--interface wsgi calls an application with environ, start_response: missing a required"),
        (wsgi, "asgi", "--interface asgi calls an application with scope, receive, send: too many"),
        (async_pair, "wsgi", "--interface wsgi calls an application that returns its body; an async one does not"),
    ],
)
def test_an_interface_that_cannot_be_is_refused(app: App, interface: Interface, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        check_interface(app, interface)
