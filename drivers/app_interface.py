"""Turn an application of any interface into the handler that the engine runs."""

import logging
from typing import cast

from h1core.app.asgi import AsgiHandler
from h1core.app.exchange import StreamingHandler
from h1core.app.handler import is_async
from h1core.app.interface import App, Interface, check_interface, interface_of, takes_more
from h1core.app.wsgi import wsgi_handler
from h1core.errors import LocalError

from .engine.files import as_file, open_path
from .log_stream import LogStream

logger = logging.getLogger("h1core.server")


def choose_interface(app: App, asked: str = "auto") -> Interface:
    """Return the interface of an application: the one that is asked for, or by its arguments for "auto".

    A guess is told in the log. Raises LocalError when it is unclear, or the application cannot be called like that.
    """
    if asked != "auto":
        check_interface(app, cast("Interface", asked))
        return cast("Interface", asked)
    interface = interface_of(app)
    if takes_more(app):
        name = getattr(app, "__name__", type(app).__name__)
        logger.warning("%s takes any number of arguments: taken for %s, or say --interface", name, interface)
    return interface


def handler_of(app: App, interface: str = "auto", *, threads: int = 0, root_path: str = "") -> App:
    """Return the handler for an application; `interface` is "handler", "wsgi", "asgi" or "auto" (by its arguments).

    A `StreamingHandler`, such as an `AsgiHandler`, is returned unchanged. Raises LocalError when the interface is
    unclear, or the application does not fit it.
    """
    if isinstance(app, StreamingHandler):
        return app
    interface = choose_interface(app, interface)
    if interface == "asgi":
        return AsgiHandler(app, root_path=root_path, as_file=as_file, open_path=open_path)
    if interface == "wsgi":
        log = LogStream("h1core.wsgi")
        return wsgi_handler(
            app,
            root_path=root_path,
            multithread=threads > 1,
            errors=log,
            unfinished=log.unfinished,
            as_file=as_file,
        )
    if root_path:
        raise LocalError("--root-path is for WSGI and ASGI; a handler sees the whole target")
    return app


def runs_on_a_loop(handler: App) -> bool:
    """Whether a handler needs an event loop, so that the selectors driver cannot run it."""
    return isinstance(handler, StreamingHandler) or is_async(handler)
