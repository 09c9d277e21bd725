"""MODULE:NAME to the callable it names, and what kind of application that callable is."""

import difflib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from h1core.errors import LocalError

# Any: an application's signature is its interface's business, and three interfaces pass through here.
App: TypeAlias = Callable[..., Any]

Interface: TypeAlias = Literal["handler", "wsgi", "asgi"]

INTERFACES: Final[dict[int, Interface]] = {1: "handler", 2: "wsgi", 3: "asgi"}
"""How many arguments an application of each interface takes."""

CALLS: Final[dict[Interface, tuple[str, ...]]] = {
    "handler": ("request",),
    "wsgi": ("environ", "start_response"),
    "asgi": ("scope", "receive", "send"),
}
"""What an application of each interface is called with."""

# A module that runs as a program when it is imported may end like one; that is no reason to end without a word.
_FAILURES: Final = (Exception, SystemExit)

_IMPORT_FRAMES: Final = (
    __file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)


class AppFailed(LocalError):
    """The application's module raised while it was imported. `__cause__` is what it raised, from its own first line."""


def load(spec: str) -> App:
    """Import what MODULE:NAME names; NAME may be dotted. The current folder comes first on the path from then on.

    Raises AppFailed when the module itself fails, LocalError when there is no such module, name or callable.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise LocalError(f"bad application {spec!r}: it is MODULE:NAME, as in examples.hello:app")
    if "/" in module_name or module_name.endswith(".py"):
        raise LocalError(f"bad application {spec!r}: MODULE is written as in an import, as in examples.hello:app")
    if "" in module_name.split("."):
        raise LocalError(f"bad application {spec!r}: MODULE is a full dotted name, as in examples.hello:app")
    folder = os.getcwd()
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    app = _find(_import(module_name), module_name, name)
    if not callable(app):
        raise LocalError(f"{spec} is not callable: it is of type {type(app).__name__}")
    return app


def _import(module_name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except _FAILURES as error:  # a module may raise anything, and all of it ends the same way
        # The name tells the module asked for, or a package around it, from one that the application misses.
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            missing = "" if error.name == module_name else f": there is no {error.name}"
            raise LocalError(f"no module named {module_name}{missing} (looked in {os.getcwd()} first)") from None
        raise AppFailed(f"{module_name} failed while it was imported") from _without_our_frames(error)


def _without_our_frames(error: BaseException) -> BaseException:
    traceback = error.__traceback__
    while traceback and traceback.tb_frame.f_code.co_filename in _IMPORT_FRAMES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def _find(module: object, module_name: str, name: str) -> object:
    found, where = module, module_name
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = difflib.get_close_matches(part, dir(found))
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise LocalError(f"{where} has no {part!r}{hint}") from None
        where = f"{where}.{part}"
    return found


def call_factory(factory: App, spec: str) -> App:
    """The application that a function without arguments makes.

    Raises AppFailed when it fails, LocalError when it cannot be called like that, or makes no application.
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise LocalError(f"{spec} is called as a factory, without arguments: {error}") from None
    except ValueError:  # its parameters cannot be seen
        pass
    try:
        app = factory()
    except _FAILURES as error:  # like a module, a factory may raise anything
        first = error.__traceback__ and error.__traceback__.tb_next  # the frame above it is this one
        raise AppFailed(f"the factory {spec} failed") from error.with_traceback(first)
    if inspect.iscoroutine(app):
        app.close()
        raise LocalError(f"the factory {spec} is async; one that is called here is a plain function")
    if not callable(app):
        raise LocalError(f"the factory {spec} gave no application but a value of type {type(app).__name__}")
    made: App = app
    return made


def interface_of(app: App) -> Interface:
    """The interface of an application, told by the arguments it cannot do without: 1 handler, 2 WSGI, 3 ASGI.

    Raises LocalError when that is unclear; `--interface` is the way out, and the sentence says so.
    """
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        raise _unclear("its parameters cannot be seen") from None
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if any(p.kind is p.KEYWORD_ONLY for p in required):
        raise _unclear("it needs an argument by keyword")
    if not required:
        raise _unclear(_without_arguments(app, any(p.kind is p.VAR_POSITIONAL for p in parameters)))
    interface = INTERFACES.get(len(required))
    if interface is None:
        raise _unclear(f"it needs {len(required)} arguments; a handler takes 1, WSGI 2, ASGI 3")
    if interface == "handler" and required[0].name == "scope":
        raise LocalError(
            "this is an application for ASGI 2, which takes scope alone; h1core speaks ASGI 3: "
            "asgiref.compatibility.guarantee_single_callable makes one of the other (or say --interface)"
        )
    if interface == "handler" and inspect.isclass(app):
        raise _unclear("it is a class that takes 1 argument; name an instance, or a function")
    if interface == "wsgi" and is_async(app):
        raise _unclear("it takes 2 arguments like WSGI, but is async")
    return interface


def _without_arguments(app: App, takes_any: bool) -> str:
    """What one that can be called without arguments probably is."""
    if takes_any:
        return "it takes any arguments, like a wrapper without functools.wraps"
    if inspect.isclass(app):
        return "it is a class that takes no argument; name an instance, or make one with --factory"
    return "it needs no argument; if it makes the application, add --factory"


def check_interface(app: App, interface: Interface) -> None:
    """See that an application can be called as an interface wants it, lest every request fail. Raises LocalError."""
    arguments = CALLS[interface]
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # it cannot be seen
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise LocalError(f"--interface {interface} calls an application with {', '.join(arguments)}: {error}") from None
    if interface == "wsgi" and is_async(app):
        raise LocalError("--interface wsgi calls an application that returns its body; an async one does not")


def _unclear(why: str) -> LocalError:
    return LocalError(f"cannot tell what kind of application this is: {why} (or say --interface)")


def is_async(app: App) -> bool:
    """Calling it gives an awaitable: an `async def`, a partial or a bound method of one, or an instance of such."""
    while isinstance(app, functools.partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or (
        not inspect.isclass(app) and inspect.iscoroutinefunction(type(app).__call__)
    )
