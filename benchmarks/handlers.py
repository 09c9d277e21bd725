"""The plain answers of apps.py as h1core's handlers, which get their requests whole."""

from apps import BODY, LARGE

from h1core import Request, Response

TEXT = [(b"content-type", b"text/plain")]


def handler(request: Request) -> Response:
    return Response(200, TEXT, LARGE if request.target == b"/large" else BODY)


async def async_handler(request: Request) -> Response:
    return handler(request)
