"""`wsgi.errors`: a text stream that writes to the log."""

import io
import logging
import sys
import threading


class LogStream(io.TextIOBase):
    """Logs each line, from any thread. A thread's incomplete line is kept until it ends or is flushed.

    The level of all lines is WARNING. Which one the application means is not known, and Python shows no lower one
    unless it is asked to.

    An application may direct its log to this stream, as Flask's documentation proposes. Text that is written while a
    line is being logged goes to stderr: to log it would recurse without end.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._thread = _ThreadState()

    @property
    def unfinished(self) -> "_ThreadState":
        """Its `text` is the incomplete line of the thread that asks, also later."""
        return self._thread

    def writable(self) -> bool:
        """Always True."""
        return True

    def write(self, text: str, /) -> int:
        """Log the complete lines, and keep the rest."""
        mine = self._thread
        if mine.is_logging:
            sys.stderr.write(text)
            return len(text)
        *lines, mine.text = (mine.text + text).split("\n")
        if lines:
            self._log("\n".join(lines))
        return len(text)

    def flush(self) -> None:
        """Log an incomplete line."""
        mine = self._thread
        if mine.text and not mine.is_logging:
            text, mine.text = mine.text, ""
            self._log(text)

    def _log(self, text: str) -> None:
        if not text.strip():
            return
        self._thread.is_logging = True
        try:
            self._logger.warning("%s", text)
        finally:
            self._thread.is_logging = False


class _ThreadState(threading.local):
    """The state of one thread."""

    def __init__(self) -> None:
        self.text = ""  # of an incomplete line
        self.is_logging = False
