"""From an application and its interface to what a driver runs; beside the command line, who alone knows both."""

from collections.abc import Callable
from typing import Final

from h1core.app.asgi import AsgiHandler
from h1core.app.wsgi import wsgi_handler
from h1core.errors import LocalError

from ..engine.files import as_file
from .app_loader import App, is_async
from .log_stream import LogStream


def _plain_handler(app: App, threads: int, root_path: str) -> App:
    if root_path:
        raise LocalError("--root-path is for WSGI and ASGI; a handler sees the whole target")
    return app


def _wsgi_handler(app: App, threads: int, root_path: str) -> App:
    errors = LogStream("h1core.wsgi")
    return wsgi_handler(app, root_path=root_path, multithread=threads > 1, errors=errors, as_file=as_file)


def _asgi_handler(app: App, threads: int, root_path: str) -> App:
    return AsgiHandler(app, root_path=root_path)


ADAPTERS: Final[dict[str, Callable[[App, int, str], App]]] = {
    "handler": _plain_handler,
    "wsgi": _wsgi_handler,
    "asgi": _asgi_handler,
}
"""What makes a handler of an application of each interface, given the number of threads and the root path."""


def needs_trio(app: App, interface: str) -> bool:
    """Whether only the trio driver can run an application."""
    return interface == "asgi" or (interface == "handler" and is_async(app))
