"""From what a handler returns, or raises, to what is sent first; and what the log says of it."""

import contextlib
import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from h1core.app.handler import FileBody, Handler, SpooledRequest, WholeBody, close_pieces, first_part
from h1core.events import Request, Response
from h1core.http1.conn import Conn
from h1core.http1.writer import error_response
from h1core.server.backlog import overload_response

logger = logging.getLogger("h1core.server")
access_logger = logging.getLogger("h1core.access")

Reply: TypeAlias = tuple[Response, Iterator[bytes] | None, list[bytes]]
"""What to send first, the iterator of a streamed body, and the pieces that were taken from it already.

A `WholeBody` comes as the iterator although the response is whole: it is only to be closed. Nothing is taken from a
`FileBody`, which is sent by reference.
"""

Failures: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

FAILURES: Final = (Exception, SystemExit)
"""What a handler may raise without ending more than its own request. In a worker thread, that is everything."""

NOTHING_TAKEN: Final[list[bytes]] = []


def run_handler(handler: Handler, request: Request, failures: Failures = FAILURES) -> Reply:
    """Run a handler, and split its reply. What it raises is logged, and a 500."""
    method = request.method
    try:
        try:
            response = handler(request)
        finally:
            request.method = method  # whatever the handler made of it: the answer must fit what the client sent
        if type(response) is Response and type(response.body) is bytes and method != b"HEAD":
            return response, None, NOTHING_TAKEN  # fast path: `split_reply` says the same
        return split_reply(request, response, failures)
    except failures as error:
        return failure_response(request, error), None, NOTHING_TAKEN


def split_reply(request: Request, response: Response, failures: Failures = FAILURES) -> Reply:
    """What to send first of a handler's response, and where the rest of its body comes from.

    The first piece of a streamed body is taken here: until it is there, a failure is still a 500. Raises LocalError
    when the response is none, and what the body raises.
    """
    if type(response) is Response and request.method != b"HEAD" and type(response.body) is WholeBody:
        return Response(response.status, response.headers, response.body.data), response.body, NOTHING_TAKEN
    first, pieces = first_part(request, response)
    if pieces is None or type(pieces) is FileBody:
        return first, pieces, NOTHING_TAKEN
    try:
        return first, pieces, list(islice(pieces, 1))
    except BaseException:
        close_quietly(pieces, failures)
        raise


def send_first(conn: Conn, request: Request, first: Response) -> Response:
    """Send what a response begins with, or a 500 if that cannot be sent; what was sent."""
    try:
        conn.send(first)
    except Exception as error:  # noqa: BLE001 - its headers may be a program; logged in failure_response
        first = failure_response(request, error)
        conn.send(first)
    return first


def failure_response(request: Request, error: BaseException, hint: tuple[str, bool] | None = None) -> Response:
    """The 500 for what a handler has raised, which is logged here with its traceback.

    With a `hint` (a sentence, and whether it is news) that is logged instead, once.
    """
    if hint is None:
        logger.error("the handler failed on %s", request_line(request), exc_info=error)
    elif hint[1]:
        logger.error("%s (%s)", hint[0], error)
    return own_response(request, error_response(500, "The application failed."))


def overload_answer(request: Request) -> Response:
    """The 503 for a request that is turned away."""
    return own_response(request, overload_response())


def own_response(request: Request, response: Response) -> Response:
    """A response of the server's own, made fit for the request's method."""
    first, _ = first_part(request, response)
    return first


def close_quietly(pieces: object, kind: Failures = FAILURES) -> None:
    """Close a handler's iterator; what that raises is logged, if it is of that kind."""
    try:
        close_pieces(pieces)
    except kind:
        logger.exception("closing the handler's body failed")


def release(request: Request) -> None:
    """Give back what a request holds besides memory. Never raises."""
    if isinstance(request, SpooledRequest):
        with contextlib.suppress(OSError):  # the handler may have written into it, and the disk be full
            request.close()


def log_access(peer: object, request: Request, first: Response, took_s: float) -> None:
    """Write the line of the access log for a response that has begun."""
    access_logger.info("%s %s %d %.1fms", address_text(peer), request_line(request), first.status, 1000 * took_s)


def request_line(request: Request) -> str:
    """The request line for a log, whatever a handler has made of it. Never raises.

    The grammar of heads leaves no control byte in it (CVE-2020-7694).
    """
    parts = (request.method, request.target, request.version)
    method, target, version = (part.decode(errors="replace") if type(part) is bytes else repr(part) for part in parts)
    return f"{method} {target} HTTP/{version}"


def address_text(peer: object) -> str:
    """A peer's address for a log."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix"
