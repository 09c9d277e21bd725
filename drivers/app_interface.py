"""Turn an application of any interface into the handler that the engine runs."""

from h1core.app.asgi import AsgiHandler
from h1core.app.exchange import StreamingHandler
from h1core.app.handler import is_async
from h1core.app.interface import App, interface_of
from h1core.app.wsgi import wsgi_handler
from h1core.errors import LocalError

from .engine.files import as_file
from .log_stream import LogStream


def handler_of(app: App, interface: str = "auto", *, threads: int = 0, root_path: str = "") -> App:
    """Return the handler for an application; `interface` is "handler", "wsgi", "asgi" or "auto" (by its arguments).

    A `StreamingHandler`, such as an `AsgiHandler`, is returned unchanged. Raises LocalError when the interface is
    unclear, or the application does not fit it.
    """
    if isinstance(app, StreamingHandler):
        return app
    if interface == "auto":
        interface = interface_of(app)
    if interface == "asgi":
        return AsgiHandler(app, root_path=root_path)
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
