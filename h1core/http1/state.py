"""The life of a connection: its states, the steps between them, and the reasons for its end.

Theory
------
A server's connection is one machine, not two. An HTTP/1.1 server answers one request at a time, so what the peer may
send and what the application may send are not independent: of all pairs "request side x response side" only the ones
below can occur, and naming them is shorter than joining two tables and excluding the rest.

                 REQUEST                 RESPONSE
         HEAD ------------> HANDLING ---------------> HEAD
          |                  ^    |  RESPONSE_HEAD      ^
          | REQUEST_         |    +-----> RESPONDING ---+ RESPONSE_END
          | WITH_BODY        |                ^
          v       BODY_END   |                | BODY_END, GIVE_UP_BODY
        RECEIVING -----------+                |
          |  |  RESPONSE_HEAD                 |
          |  +-------------------------> DUPLEX
          |                                |
          | RESPONSE     RESPONSE_END      |    BODY_END
          +-----------> DRAINING <---------+ ------------> HEAD

        HEAD, RECEIVING, DUPLEX, RESPONDING and DRAINING also have END -> ENDING; every state but CLOSED has
        CLOSE -> CLOSED. HANDLING also has SWITCH -> SWITCHED. RECEIVING and HANDLING stay as they are by INFORMATIONAL,
        DUPLEX and RESPONDING by RESPONSE_DATA.

Three rules keep the table small.

1. A step is something that happened, never a condition. Whether the connection persists is not in the table: the end
   of an exchange always leads to HEAD, and a connection with a `CloseReason` then takes END from there.
2. A step that is not in the row of a state cannot happen in it. For a step of the application that is a `LocalError`;
   for any other it is a bug in `Conn`, which asks for no step that the row lacks.
3. ENDING and CLOSED are reached with a `CloseReason` and are never left towards another request. Nothing that the peer
   sends there becomes an event.

`Conn` alone changes the state, always through `TABLE`. The diagram above and the table agree; tests try each state with
each step.
"""

from enum import Enum, IntEnum
from typing import Final


class State(IntEnum):
    """The state of a connection."""

    HEAD = 0
    """Waiting for a request, or reading its head."""

    RECEIVING = 1
    """The head was received, the body is being received, no final response has begun."""

    HANDLING = 2
    """The whole request was received, no final response has begun."""

    DUPLEX = 3
    """The request body is being received while the response body is being sent."""

    RESPONDING = 4
    """The request is complete or given up, the response body is being sent."""

    DRAINING = 5
    """The response is complete; the rest of the request body is read and discarded."""

    ENDING = 6
    """No request will follow: queued bytes are written, then the peer is given time to read them."""

    SWITCHED = 7
    """The connection has changed to another protocol."""

    CLOSED = 8
    """Nothing is read, nothing is written, no timer runs."""


class Step(IntEnum):
    """What can happen to a connection."""

    # The peer
    REQUEST = 0
    REQUEST_WITH_BODY = 1
    BODY_END = 2

    # The application
    INFORMATIONAL = 3
    RESPONSE = 4
    RESPONSE_HEAD = 5
    RESPONSE_DATA = 6
    RESPONSE_END = 7
    SWITCH = 8

    # The connection itself
    GIVE_UP_BODY = 9
    """The rest of the body will not be read, and the response is in progress."""
    END = 10
    """No further request, and no more of a response in progress; flush and linger."""
    CLOSE = 11
    """No further byte."""


TABLE: Final[dict[State, dict[Step, State]]] = {
    State.HEAD: {
        Step.REQUEST: State.HANDLING,
        Step.REQUEST_WITH_BODY: State.RECEIVING,
        Step.END: State.ENDING,
        Step.CLOSE: State.CLOSED,
    },
    State.RECEIVING: {
        Step.BODY_END: State.HANDLING,
        Step.INFORMATIONAL: State.RECEIVING,
        Step.RESPONSE: State.DRAINING,
        Step.RESPONSE_HEAD: State.DUPLEX,
        Step.END: State.ENDING,
        Step.CLOSE: State.CLOSED,
    },
    State.HANDLING: {
        Step.INFORMATIONAL: State.HANDLING,
        Step.RESPONSE: State.HEAD,
        Step.RESPONSE_HEAD: State.RESPONDING,
        Step.SWITCH: State.SWITCHED,
        Step.CLOSE: State.CLOSED,
    },
    State.DUPLEX: {
        Step.BODY_END: State.RESPONDING,
        Step.GIVE_UP_BODY: State.RESPONDING,
        Step.RESPONSE_DATA: State.DUPLEX,
        Step.RESPONSE_END: State.DRAINING,
        Step.END: State.ENDING,
        Step.CLOSE: State.CLOSED,
    },
    State.RESPONDING: {
        Step.RESPONSE_DATA: State.RESPONDING,
        Step.RESPONSE_END: State.HEAD,
        Step.END: State.ENDING,
        Step.CLOSE: State.CLOSED,
    },
    State.DRAINING: {
        Step.BODY_END: State.HEAD,
        Step.END: State.ENDING,
        Step.CLOSE: State.CLOSED,
    },
    State.ENDING: {
        Step.CLOSE: State.CLOSED,
    },
    State.SWITCHED: {
        Step.CLOSE: State.CLOSED,
    },
    State.CLOSED: {},
}

PEER_STEPS: Final = frozenset({Step.REQUEST, Step.REQUEST_WITH_BODY, Step.BODY_END})
APPLICATION_STEPS: Final = frozenset(
    {
        Step.INFORMATIONAL,
        Step.RESPONSE,
        Step.RESPONSE_HEAD,
        Step.RESPONSE_DATA,
        Step.RESPONSE_END,
        Step.SWITCH,
    }
)


class CloseReason(Enum):
    """Why a connection does not go on; the value is the sentence for a log.

    The first reason to end after a response is kept. A reason to end sooner replaces it.
    """

    PEER_ASKED = "the client asked for the connection to close, or speaks HTTP/1.0 without keep-alive"
    APPLICATION_ASKED = "the application's response says Connection: close"
    CLOSE_DELIMITED = "the end of the connection is the end of the response"
    MAX_REQUESTS = "the connection has had all the requests it may have"
    BODY_UNREAD = "the application left more of the request body than is worth reading"
    CONTINUE_OWED = "the client waited for 100 Continue and got a final response"
    TUNNEL_DECLINED = "the client's CONNECT was answered with something else"
    REFUSED = "the client broke the protocol"
    HEAD_TIMEOUT = "the request head took too long"
    BODY_TIMEOUT = "the request body came too slowly"
    KEEPALIVE_TIMEOUT = "no further request came"
    MADE_ROOM = "it was idle, and a newcomer needed its place"
    WRITE_TIMEOUT = "the client took none of the bytes it was owed"
    DRAINING = "the server is shutting down"
    STREAM_ENDED = "the server is shutting down, and the response was a stream without an end"
    DRAIN_TIMEOUT = "the server's time to shut down ran out"
    PEER_CLOSED = "the client closed the connection"
    CONNECTION_LOST = "the connection broke"
    HELD_WORKER = "the client took its response too slowly, and others needed its worker"
    OVERLOADED = "the server had more requests than it could handle"
    APPLICATION_FAILED = "the application failed in the middle of its response"


class Disposition(Enum):
    """What the driver must do with the transport, once `data_to_send` has nothing for it."""

    KEEP = "go on as before"
    LINGER = "shut the writing side down, go on feeding receive_data until this changes"
    CLOSE = "close the transport"
    ABORT = "close the transport with a reset, dropping what is unsent"
