"""The access log: one line for each response of the application."""

import logging
from typing import TYPE_CHECKING

from h1core.app.reply import address_text, request_line
from h1core.events import Request, Response

if TYPE_CHECKING:
    from .responding import Responding

logger = logging.getLogger("h1core.access")


def log_response(session: "Responding", request: Request, sent: Response, now: float) -> None:
    """Write the line for a response that has begun."""
    took_ms = 1000 * (now - session.began_at)
    logger.info("%s %s %d %.1fms", address_text(session.peer), request_line(request), sent.status, took_ms)
