"""Running a handler and answering for it: what both drivers do with a whole request, whichever thread it is in."""

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

Answer: TypeAlias = tuple[Response, Iterator[bytes] | None, list[bytes]]
"""What to send first, the iterator of a streamed body, and what was taken from it already."""

Failures: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

NO_LEAD: Final[list[bytes]] = []


def answer(handler: Handler, request: Request, failures: Failures = Exception, takes_whole: bool = False) -> Answer:
    """Run a handler. What it raises is logged, and a 500.

    So is what a streamed body raises before its first piece: nothing is said until that is there. `failures` is what
    counts as one: in a thread everything does, since a SystemExit there would end the thread and nothing else.
    With `takes_whole` a WholeBody comes as what it is: the response is whole, and its iterator is only to be closed;
    and nothing is read of a FileBody.
    """
    pieces = None
    method = request.method
    try:
        try:
            response = handler(request)
        finally:
            request.method = method  # whatever the handler made of it: the answer must fit what the client sent
        if type(response) is Response and method != b"HEAD":
            if type(response.body) is bytes:
                return response, None, NO_LEAD  # Fast path: `first_part` says the same.
            if takes_whole and type(response.body) is WholeBody:
                return Response(response.status, response.headers, response.body.data), response.body, NO_LEAD
        first, pieces = first_part(request, response)
        if pieces is None or (takes_whole and type(pieces) is FileBody):
            return first, pieces, NO_LEAD
        return first, pieces, list(islice(pieces, 1))
    except failures:
        first = failure_response(request)
        close_quietly(pieces, failures)
        return first, None, NO_LEAD


def send_first(conn: Conn, request: Request, first: Response) -> Response:
    """Send what an answer begins with, or a 500 if that cannot be sent; what was sent."""
    try:
        conn.send(first)
    except Exception:  # noqa: BLE001 - its headers may be a program; logged in failure_response
        first = failure_response(request)
        conn.send(first)
    return first


def failure_response(request: Request) -> Response:
    """The answer when a handler has raised, to be called while its exception is handled: it is logged here."""
    logger.exception("the handler failed on %s", in_words(request))
    return own_answer(request, error_response(500, "The application failed."))


def overload_answer(request: Request) -> Response:
    """The answer to a request that is turned away."""
    return own_answer(request, overload_response())


def own_answer(request: Request, response: Response) -> Response:
    """A response of the server's own, made fit for the request's method."""
    first, _ = first_part(request, response)
    return first


def close_quietly(pieces: object, kind: Failures = Exception) -> None:
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
    """Write the access log's line for an answer that has begun."""
    access_logger.info("%s %s %d %.1fms", address_in_words(peer), in_words(request), first.status, 1000 * took_s)


def in_words(request: Request) -> str:
    """The request line for a log, whatever a handler has made of it. Never raises.

    The grammar of heads leaves no control byte in it (CVE-2020-7694).
    """
    parts = (request.method, request.target, request.version)
    method, target, version = (part.decode(errors="replace") if type(part) is bytes else repr(part) for part in parts)
    return f"{method} {target} HTTP/{version}"


def address_in_words(peer: object) -> str:
    """A peer's address for a log."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix"
