"""Errors: the caller's mistakes are exceptions, the peer's mistakes are values.

`LocalError` is always raised before a byte is queued. A peer's mistake never raises: it is a `RefuseReason`, one row
of the table below, with its status, its sentence and its source.
"""

from enum import Enum


class LocalError(Exception):
    """The caller broke the contract of h1core; the message says what to do instead.

    Raised by constructors and by methods that the application calls, such as `Conn.send`; never because of a peer's
    bytes. When it is raised, nothing was queued and no state has changed.
    """


class Disconnected(Exception):
    """The client has disconnected. Raised in an application that sends to it or receives from it."""


class RefuseReason(Enum):
    """Why a peer's input is refused: (status to answer, sentence for the peer and the log, source).

    Every refusal closes the connection after its answer (RFC 9112 §9.6): once framing is in doubt, no later byte
    can be trusted to be the start of a request.
    """

    # Line ends and the first bytes.
    NOT_HTTP = 400, "The connection does not begin with an HTTP/1.x request.", "RFC 9112 §3"
    BARE_CR = 400, "A carriage return stands without its line feed.", "RFC 9112 §2.2"
    BARE_LF = 400, "A line ends in a line feed without a carriage return.", "RFC 9112 §2.2"
    TRUNCATED_HEAD = 400, "The connection ended inside a request head.", "RFC 9112 §8"

    # The request line.
    BAD_REQUEST_LINE = 400, "The request line is not METHOD SP TARGET SP VERSION.", "RFC 9112 §3"
    BAD_METHOD = 400, "The method is not a token.", "RFC 9110 §9.1"
    METHOD_TOO_LONG = 501, "The method is longer than any this server knows.", "RFC 9112 §3"
    BAD_TARGET = 400, "The request target is not valid.", "RFC 9112 §3.2"
    TARGET_DOES_NOT_FIT = 400, "The form of the request target does not fit the method.", "RFC 9112 §3.2"
    BAD_VERSION = 400, "The HTTP version is malformed.", "RFC 9112 §2.3"
    UNSUPPORTED_VERSION = 505, "This server speaks HTTP/1.0 and HTTP/1.1.", "RFC 9110 §15.6.6"
    REQUEST_LINE_TOO_LONG = 414, "The request line is too long.", "RFC 9112 §3"
    CONNECT_REFUSED = 501, "This server opens no tunnels.", "RFC 9110 §9.3.6"

    # Field lines.
    HEAD_TOO_LARGE = 431, "The request head is too large.", "RFC 6585 §5"
    TOO_MANY_FIELDS = 431, "The request head has too many fields.", "RFC 6585 §5"
    BAD_FIELD_LINE = 400, "A field line has no colon.", "RFC 9112 §5"
    BAD_FIELD_NAME = 400, "A field name is empty, not a token, or followed by white space.", "RFC 9112 §5.1"
    BAD_FIELD_VALUE = 400, "A field value holds a control byte.", "RFC 9110 §5.5"
    FOLDED_FIELD = 400, "A field value is folded over lines.", "RFC 9112 §5.2"
    DUPLICATE_FIELD = 400, "A field that may stand only once stands twice.", "RFC 9110 §5.3"
    MISSING_HOST = 400, "An HTTP/1.1 request needs a Host field.", "RFC 9112 §3.2"
    DUPLICATE_HOST = 400, "There is more than one Host field.", "RFC 9112 §3.2"
    BAD_HOST = 400, "The Host field is not a host with an optional port.", "RFC 9112 §3.2"
    UNKNOWN_EXPECTATION = 417, "The expectation is not one this server can meet.", "RFC 9110 §10.1.1"

    # Message framing.
    BAD_CONTENT_LENGTH = 400, "Content-Length is not a plain decimal number.", "RFC 9112 §6.3"
    DUPLICATE_CONTENT_LENGTH = 400, "There is more than one Content-Length field.", "RFC 9112 §6.3"
    DUPLICATE_TRANSFER_ENCODING = 400, "There is more than one Transfer-Encoding field.", "RFC 9112 §6.1"
    BAD_TRANSFER_ENCODING = 400, "Transfer-Encoding does not end in a single chunked.", "RFC 9112 §6.3"
    UNKNOWN_TRANSFER_CODING = 501, "The only transfer coding this server knows is chunked.", "RFC 9112 §6.1"
    LENGTH_AND_CODING = 400, "Content-Length and Transfer-Encoding stand together.", "RFC 9112 §6.3"
    CODING_IN_HTTP_1_0 = 400, "HTTP/1.0 has no Transfer-Encoding.", "RFC 9112 §6.1"
    CONNECT_WITH_BODY = 400, "A CONNECT request has no body.", "RFC 9110 §9.3.6"

    # Bodies.
    BODY_TOO_LARGE = 413, "The request body is too large.", "RFC 9110 §15.5.14"
    BAD_CHUNK_SIZE = 400, "A chunk size is not a plain hexadecimal number.", "RFC 9112 §7.1"
    BAD_CHUNK_EXTENSION = 400, "A chunk extension is malformed.", "RFC 9112 §7.1.1"
    CHUNK_EXTENSION_TOO_LARGE = 400, "Chunk extensions are too large.", "RFC 9112 §7.1.1"
    BAD_CHUNK_END = 400, "Chunk data is not followed by CR LF.", "RFC 9112 §7.1"
    BAD_TRAILER = 400, "A trailer field is malformed.", "RFC 9112 §7.1.2"
    FORBIDDEN_TRAILER = 400, "A field stands in the trailer section that may not.", "RFC 9110 §6.5.1"
    TRAILERS_TOO_LARGE = 431, "The trailer section is too large.", "RFC 6585 §5"
    TOO_MANY_TRAILERS = 431, "The trailer section has too many fields.", "RFC 6585 §5"
    TRUNCATED_BODY = 400, "The connection ended inside a request body.", "RFC 9112 §8"

    status: int
    text: str
    source: str

    def __new__(cls, status: int, text: str, source: str) -> "RefuseReason":
        """Make a member from a row. Its value is its position: an Enum makes rows with equal values one member."""
        member = object.__new__(cls)
        member._value_ = len(cls.__members__) + 1
        member.status, member.text, member.source = status, text, source
        return member
