"""A plain answer as h1core's handlers, for servers.py."""

from apps import BODY

from h1core import Request, Response

TEXT = [(b"content-type", b"text/plain")]


def handler(request: Request) -> Response:
    return Response(200, TEXT, BODY)


async def async_handler(request: Request) -> Response:
    return Response(200, TEXT, BODY)
