"""Finds out by its arguments which interface an application has."""

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from h1core.app.handler import is_async
from h1core.errors import LocalError

# Any: the signature depends on the interface, and applications of three interfaces are handled here.
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


def interface_of(app: App) -> Interface:
    """The interface of an application, by the number of its required arguments: 1 handler, 2 WSGI, 3 ASGI.

    Of a wrapper its own arguments count; if it takes any, those of what it wraps. Raises LocalError when that is
    unclear; its message names the option `--interface`.
    """
    try:
        parameters = _own_parameters(app)
        if takes_more(app) and not _required(parameters):
            parameters = list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):
        raise _unclear("its parameters cannot be seen") from None
    required = _required(parameters)
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


def takes_more(app: App) -> bool:
    """Whether an application could be called with more arguments than it requires, so that its interface is a guess.

    Such are wrappers whose signature `functools.wraps` has borrowed, as Werkzeug and WebOb make them.
    """
    try:
        return any(p.kind is p.VAR_POSITIONAL for p in _own_parameters(app))
    except (TypeError, ValueError):
        return False


def _own_parameters(app: App) -> list[inspect.Parameter]:
    """The parameters of an application itself, not of what it wraps. Raises TypeError or ValueError."""
    return list(inspect.signature(app, follow_wrapped=False).parameters.values())


def _required(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _without_arguments(app: App, takes_any: bool) -> str:
    """What an application that can be called without arguments probably is, for the error message."""
    if takes_any:
        return "it takes any arguments, like a wrapper without functools.wraps"
    if inspect.isclass(app):
        return "it is a class that takes no argument; name an instance, or make one with --factory"
    return "it needs no argument; if it makes the application, add --factory"


def check_interface(app: App, interface: Interface) -> None:
    """Check that an application can be called as its interface requires; else every request would fail.

    Raises LocalError.
    """
    arguments = CALLS[interface]
    try:
        signature = inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):  # it has no visible signature
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise LocalError(f"--interface {interface} calls an application with {', '.join(arguments)}: {error}") from None
    if interface == "wsgi" and is_async(app):
        raise LocalError("--interface wsgi calls an application that returns its body; an async one does not")


def _unclear(why: str) -> LocalError:
    return LocalError(f"cannot tell what kind of application this is: {why} (or say --interface)")
