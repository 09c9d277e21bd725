"""A handler's response → what is sent first and what follows; and requests as text for a log."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, TypeAlias

from h1core.app.handler import FileBody, WholeBody, close_pieces, first_part
from h1core.events import MAX_SHOWN_BYTES, Request, Response

Reply: TypeAlias = tuple[Response, Iterator[bytes] | None, list[bytes]]
"""What to send first, the iterator of a streamed body, and the pieces that were taken from it already.

A `WholeBody` is given as the iterator although the response is complete: it is only to be closed. Nothing is taken from
a `FileBody`, which is sent by reference.
"""

NOTHING_TAKEN: Final[list[bytes]] = []


def split_reply(request: Request, response: Response) -> Reply:
    """Split a handler's response into what to send first, and the source of the rest of its body.

    The first piece of a streamed body is taken here: a failure before it is still a 500. Raises LocalError when
    `response` is not a Response, and what the body raises.
    """
    if type(response) is Response and request.method != b"HEAD" and type(response.body) is WholeBody:
        return response.with_body(response.body.data), response.body, NOTHING_TAKEN
    first, pieces = first_part(request, response)
    if pieces is None or type(pieces) is FileBody:
        return first, pieces, NOTHING_TAKEN
    try:
        return first, pieces, list(islice(pieces, 1))
    except BaseException:
        with suppress(Exception):  # the first error is the more useful one
            close_pieces(pieces)
        raise


def own_response(request: Request, response: Response) -> Response:
    """The server's own response, adapted to the request's method."""
    first, _ = first_part(request, response)
    return first


def request_line(request: Request) -> str:
    """The request line for a log, also if a handler has changed the request. Never raises.

    The grammar of heads allows no control byte in it (CVE-2020-7694).
    """
    parts = (request.method, request.target, request.version)
    method, target, version = (part.decode(errors="replace") if type(part) is bytes else repr(part) for part in parts)
    return f"{method} {target} HTTP/{version}"


def quoted_line(line: bytes | Request | None) -> str:
    """A request line for a log, also one that is not valid: all but printable ASCII is escaped; `-` for none.

    At most `MAX_SHOWN_BYTES` characters of it are shown, before they are escaped.
    """
    if line is None:
        return "-"
    text = line.decode("latin-1") if isinstance(line, bytes) else request_line(line)
    rest = "..." if len(text) >= MAX_SHOWN_BYTES else ""  # a refused one is no longer than that
    escaped = text[:MAX_SHOWN_BYTES].encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}{rest}"'


def address_text(peer: object) -> str:
    """A peer's address for a log."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "unix"
