"""Turn what a handler returns or raises into the first part of its response; log failures."""

import contextlib
import logging
from typing import Any

from h1core.app.handler import FirstLook, Handler, SpooledRequest, close_pieces, first_part
from h1core.app.reply import NOTHING_TAKEN, Reply, own_response, request_line, split_reply
from h1core.errors import Disconnected, LocalError
from h1core.events import Request, Response
from h1core.http1.conn import Conn
from h1core.http1.output import own_copy
from h1core.http1.writer import error_response

logger = logging.getLogger("h1core.server")


def run_handler(handler: Handler, request: Request, *, in_worker: bool = False) -> Reply:
    """Run a handler, and split its reply. What it raises is logged, and becomes a 500.

    Raises KeyboardInterrupt where it runs on the thread of the loop: there it ends the server.
    """
    method = request.method
    try:
        try:
            response = handler(request)
        finally:
            request.method = method  # the handler may have changed it, but the response must fit what the client sent
        if type(response) is Response and type(response.body) is bytes and method != b"HEAD":
            return response, None, NOTHING_TAKEN  # fast path: `split_reply` returns the same
        return split_reply(request, response)
    except BaseException as error:
        if is_interrupt(error) and not in_worker:
            raise
        return failure_response(request, error), None, NOTHING_TAKEN


def first_look(on_head: FirstLook, request: Request) -> Response | None:
    """What `on_head` answers to a request whose body was not read, or None. What it raises becomes a 500."""
    method = request.method
    try:
        try:
            response = on_head(request)
        finally:
            request.method = method  # as in `run_handler`
        if response is None:
            return None
        first, pieces = first_part(request, response)
        if pieces is not None:
            close_pieces(pieces)
            raise LocalError("on_head answers with a whole body, as bytes")
        return first
    except BaseException as error:
        if is_interrupt(error):
            raise
        return failure_response(request, error)


def send_first(conn: Conn, request: Request, first: Response) -> Response:
    """Send the first part of a response, or a 500 if that cannot be sent; return what was sent."""
    try:
        if first.body is not None and type(first.body) is not bytes:
            # A copy: its owner may use the buffer again before it is written.
            first = first.with_body(own_copy(first.body))
        conn.send(first)
    except Exception as error:  # noqa: BLE001 - its headers may run code; logged in failure_response
        first = failure_response(request, error)
        conn.send(first)
    return first


def failure_response(request: Request, error: BaseException, hint: str | None = None, known: Any = ()) -> Response:
    """Return the 500 for what a handler raised. Log it with its traceback, or a `hint` if it is not in `known` yet."""
    if hint is None:
        logger.error("the handler failed on %s", request_line(request), exc_info=error)
    elif hint not in known:
        known.add(hint)
        logger.error("%s (%s)", hint, error)
    return own_response(request, error_response(500, "The application failed."))


def close_quietly(pieces: object, *, in_worker: bool = False) -> None:
    """Close a handler's iterator; errors are logged. Raises only KeyboardInterrupt, as `run_handler`."""
    try:
        close_pieces(pieces)
    except BaseException as error:
        if is_interrupt(error) and not in_worker:
            raise
        logger.exception("closing the handler's body failed")


def release(request: Request) -> None:
    """Close the temporary file of a request, if it has one. Never raises."""
    if isinstance(request, SpooledRequest):
        with contextlib.suppress(OSError):  # the handler may have written to it, and the disk may be full
            request.close()


def is_interrupt(error: BaseException) -> bool:
    """Whether an error must end the event loop, and not only a request: KeyboardInterrupt, or a group with one."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def is_disconnected(error: BaseException) -> bool:
    """Whether an error is Disconnected, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Disconnected)[1] is None
    return isinstance(error, Disconnected)
