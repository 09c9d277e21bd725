"""The log of a server that was started by the command: its own lines go to stderr.

Only the server's own loggers are touched, and only where the application has not configured them when it was imported.
The root logger and all others stay as they are, so that an application's `logging.basicConfig` works at any time, and
no line of it is written twice.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TextIO

LINE: Final = "%(asctime)s %(name)s %(levelname)s %(message)s"
AS_WRITTEN: Final = "%(message)s"
"""For `wsgi.errors`: what an application writes there has its own form."""

LEVELS: Final = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
"""The names for --log-level."""


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time."""

    def __init__(self, form: str) -> None:
        logging.Handler.__init__(self)  # not that of StreamHandler, which keeps one stream
        self.setFormatter(logging.Formatter(form))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base has an attribute
        """The stream to write to."""
        return sys.stderr


@contextmanager
def log_to_stderr(level: str) -> Iterator[None]:
    """Write the lines of the server from this level on to stderr, and `wsgi.errors` as it is; undo that at exit."""
    package = logging.getLogger("h1core")
    with ExitStack() as at_exit:
        for name in ("h1core.server", "h1core.access"):
            logger = logging.getLogger(name)
            # A level or handler that the application has given to `h1core` is meant for these.
            _configure(logger, LINE, LEVELS[level] if package.level == logging.NOTSET else logging.NOTSET, at_exit)
        _configure(logging.getLogger("h1core.wsgi"), AS_WRITTEN, logging.DEBUG, at_exit)
        yield


def _configure(logger: logging.Logger, form: str, level: int, at_exit: ExitStack) -> None:
    """Give a logger what it lacks; `at_exit` takes it away."""
    at_exit.callback(_restore, logger, logger.level, logger.propagate, logger.disabled)
    # `logging.config` disables all loggers that it does not name, unless told otherwise: this one was not meant.
    logger.disabled = False
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
    if not logger.handlers and not logging.getLogger("h1core").handlers:
        handler = _StderrHandler(form)
        logger.addHandler(handler)
        at_exit.callback(logger.removeHandler, handler)
        logger.propagate = False


def _restore(logger: logging.Logger, level: int, propagate: bool, disabled: bool) -> None:
    logger.setLevel(level)
    logger.propagate = propagate
    logger.disabled = disabled
