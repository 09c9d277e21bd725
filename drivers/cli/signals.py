"""What signals do to a server that runs: a drain, an end at once, and an end by force.

A server ends by itself, as long as its loop turns. An application that holds the loop's thread (`time.sleep` in an
`async def`, an endless loop) keeps it from that. So a thread of its own watches the end: it asks the loop for a sign of
life once the drain's deadline has passed, or at once after a second signal, and ends the process when none comes.

Code in C that holds the interpreter lets no Python code run, neither a signal handler nor a thread. For it, each
handler is installed for one signal only where the system can do that: the next one then ends the process by itself.
"""

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, Protocol

from h1core.app.reply import quoted_line
from h1core.events import Request

from ..engine.exchange import EngineExchange
from ..engine.hosted import LIFESPAN_GRACE_S
from ..engine.responses import run_handler

SIGNAL_STATUS: Final = 128
"""Added to the number of the signal that ended the process, as shells and supervisors expect it."""

ANSWER_S: Final = 0.5
"""How long the loop may take for a sign of life: a healthy one takes milliseconds."""

END_S: Final = LIFESPAN_GRACE_S + 3.0
"""How long a server may take to end that gives signs of life: the grace of the lifespan, and of cancelled tasks."""

DRAINING_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGHUP")
STOPPING_SIGNALS: Final = ("SIGQUIT",)


class Stoppable(Protocol):
    """A server, as far as signals go. All methods may be called from any thread or signal handler."""

    def begin_drain(self) -> None:
        """Finish what is in flight, and end."""

    def stop(self) -> None:
        """End now."""

    def call_soon(self, do: Callable[[], None]) -> None:
        """Call `do` in the loop's thread."""


class SignalHandling:
    """Handles the signals of a process while its server runs, as a context manager on the main thread.

    `drain_timeout` is in seconds. `tidy` is called before an end by force, in another thread; it must not wait.
    """

    def __init__(self, server: Stoppable, drain_timeout: float, tidy: Callable[[], None]) -> None:
        self._server = server
        self._drain_timeout = min(drain_timeout, threading.TIMEOUT_MAX)
        self._tidy = tidy
        self._main_thread = threading.get_ident()
        self._before: dict[int, object] = {}
        self._is_draining = False
        self._must_end = threading.Event()
        self._is_over = False
        self.status = 0
        """The exit status: 128 + the number of the signal that ended the server at once, else 0."""

    def __enter__(self) -> "SignalHandling":
        for name in (*DRAINING_SIGNALS, *STOPPING_SIGNALS):
            number = getattr(signal, name, None)  # Windows lacks some
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue  # nohup
            self._before[number] = signal.getsignal(number)
            self._install(number)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._must_end.set()
        if self._is_draining:
            faulthandler.cancel_dump_traceback_later()
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]  # what getsignal has returned

    def _install(self, number: int) -> None:
        signal.signal(number, self._on_signal)
        make_one_shot(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._install(number)
        if signal.Signals(number).name in STOPPING_SIGNALS or self._is_draining:
            self.status = self.status or SIGNAL_STATUS + number
            self._server.stop()
            self._must_end.set()
        else:
            self._server.begin_drain()
            with suppress(ValueError, OverflowError, AttributeError, OSError):  # no stderr, or too long for it
                faulthandler.dump_traceback_later(self._drain_timeout + 2 * END_S, exit=True)  # if C code holds us
        if not self._is_draining:
            self._is_draining = True
            threading.Thread(target=self._watch, name="h1core-end", daemon=True).start()

    # In a thread of its own

    def _watch(self) -> None:
        """Wait until the server should have ended, then watch that it does."""
        self._must_end.wait(self._drain_timeout)
        end_at = time.monotonic() + END_S
        while not self._is_over:
            answered = threading.Event()
            self._server.call_soon(answered.set)
            is_late = not answered.wait(ANSWER_S) or time.monotonic() >= end_at
            if is_late and not self._is_over:
                self._end_by_force()
            time.sleep(ANSWER_S)

    def _end_by_force(self) -> None:
        """End the process, and say who holds it. Not by the log: its locks may be held."""
        frame = sys._current_frames().get(self._main_thread)
        request = request_of(frame)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        what = f"the application holds the server in {quoted_line(request)}" if request else "the application holds it"
        text = f"h1core: the process is ended, since {what}:\n{stack}"
        with suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
        self._tidy()
        os._exit(self.status)


def request_of(frame: FrameType | None) -> Request | None:
    """The request that the innermost handler in a stack works on, or None."""
    while frame is not None:
        found: object = None
        if frame.f_code is run_handler.__code__:
            found = frame.f_locals.get("request")
        elif frame.f_code is EngineExchange.run.__code__:
            found = getattr(frame.f_locals.get("self"), "request", None)
        if isinstance(found, Request):
            return found
        frame = frame.f_back
    return None


def make_one_shot(number: int) -> None:
    """Let the handler of a signal, which must be installed, handle the next one only. Does nothing where it cannot.

    The interpreter's handler in C only makes a note; Python code runs later. With the old `sysv_signal` the system
    resets a signal to its default, which is to end the process, when it calls the handler.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none to be loaded
        library = ctypes.CDLL(None)
        for function in (library.signal, library.sysv_signal):
            function.restype = ctypes.c_void_p
            function.argtypes = (ctypes.c_int, ctypes.c_void_p)
        library.sysv_signal(number, library.signal(number, None))
