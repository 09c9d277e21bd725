"""An HTTP/1.1 server whose every decision is made by a pure state machine.

`Conn` turns bytes and the time into events, bytes and a deadline; it does no I/O. `h1core.server` decides for many
connections together, `h1core.drivers` connects both to sockets, threads and event loops.
"""

from h1core.app.exchange import Exchange, StreamingHandler
from h1core.config import Limits, Timeouts
from h1core.errors import Disconnected, LocalError, RefuseReason
from h1core.events import (
    Closed,
    Data,
    EndOfMessage,
    Endpoints,
    Event,
    FileSlice,
    Headers,
    InformationalResponse,
    Refused,
    Request,
    Response,
    Sendable,
    Switched,
    TimedOut,
)
from h1core.http1.conn import Conn
from h1core.http1.hop_fields import LeftOut
from h1core.http1.state import CloseReason, Disposition, State
from h1core.http1.timers import Timer

__all__ = [
    "CloseReason",
    "Closed",
    "Conn",
    "Data",
    "Disconnected",
    "Disposition",
    "EndOfMessage",
    "Endpoints",
    "Event",
    "Exchange",
    "FileSlice",
    "Headers",
    "InformationalResponse",
    "LeftOut",
    "Limits",
    "LocalError",
    "RefuseReason",
    "Refused",
    "Request",
    "Response",
    "Sendable",
    "State",
    "StreamingHandler",
    "Switched",
    "TimedOut",
    "Timeouts",
    "Timer",
]
