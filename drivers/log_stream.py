"""A text stream into the log: what `wsgi.errors` is."""

import io
import logging
import sys
import threading


class LogStream(io.TextIOBase):
    """Writes each line to a logger, as an error. From any thread; a thread's unfinished line waits for its `flush`.

    An application may itself send the log here, as Flask's documentation proposes. What comes back that way goes to
    stderr, instead of round and round.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._thread = _OfThread()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Log the lines that are complete."""
        mine = self._thread
        if mine.is_logging:
            sys.stderr.write(text)
            return len(text)
        *lines, mine.unfinished = (mine.unfinished + text).split("\n")
        if lines:
            self._log("\n".join(lines))
        return len(text)

    def flush(self) -> None:
        """Log what is there of an unfinished line."""
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


class _OfThread(threading.local):
    """What belongs to one thread."""

    def __init__(self) -> None:
        self.unfinished = ""
        self.is_logging = False
