"""Import the application that MODULE:NAME names, or call the factory that makes it."""

import difflib
import importlib
import inspect
import os
import sys
from typing import Final

from h1core.app.interface import App
from h1core.errors import LocalError

# A module that runs as a program when it is imported may raise SystemExit; we must not exit without a message.
_FAILURES: Final = (Exception, SystemExit)

_IMPORT_FRAMES: Final = (
    __file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)


class AppFailed(LocalError):
    """The application's module or factory raised. `__cause__` is that error; its traceback begins in their code."""


def load(spec: str) -> App:
    """Import what MODULE:NAME names; NAME may be dotted. The current folder is first on `sys.path` from then on.

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
    except _FAILURES as error:  # a module may raise anything; all of it is handled alike
        # By its name: is the missing module the one asked for (or its package), or one that the application imports?
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
    """Call a factory without arguments, and return the application that it makes.

    Raises AppFailed when it fails, LocalError when it cannot be called like that, or makes no application.
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise LocalError(f"{spec} is called as a factory, without arguments: {error}") from None
    except ValueError:  # it has no signature to inspect
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
