"""`wsgi.errors`: a text stream that writes to the log."""

import io
import logging
import sys
import threading


class LogStream(io.TextIOBase):
    """Logs each line as an error, from any thread. A thread's incomplete line is kept until it ends or is flushed.

    An application may direct its log to this stream, as Flask's documentation proposes. Text that is written while a
    line is being logged goes to stderr: to log it would recurse without end.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._thread = _ThreadState()

    def writable(self) -> bool:
        """Always True."""
        return True

    def write(self, text: str, /) -> int:
        """Log the complete lines, and keep the rest."""
        mine = self._thread
        if mine.is_logging:
            sys.stderr.write(text)
            return len(text)
        *lines, mine.unfinished = (mine.unfinished + text).split("\n")
        if lines:
            self._log("\n".join(lines))
        return len(text)

    def flush(self) -> None:
        """Log an incomplete line."""
        mine = self._thread
        if mine.unfinished and not mine.is_logging:
            text, mine.unfinished = mine.unfinished, ""
            self._log(text)

    def _log(self, text: str) -> None:
        if not text.strip():
            return
        self._thread.is_logging = True
        try:
            self._logger.error("%s", text)
        finally:
            self._thread.is_logging = False


class _ThreadState(threading.local):
    """The state of one thread."""

    def __init__(self) -> None:
        self.unfinished = ""
        self.is_logging = False
