"""What kind of application something is: told by its arguments."""

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from h1core.app.handler import is_async
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
