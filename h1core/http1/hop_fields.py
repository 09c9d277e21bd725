"""What the server says in place of an application: whatever concerns this connection only, and not the response.

RFC 9110 §7.6.1 and PEP 3333 leave such fields to the server. An application that sets them all the same is served
without them, because many do: most examples of server-sent events set `Connection: keep-alive`.
"""

from enum import Enum
from typing import Final


class LeftOut(Enum):
    """Something that an application has given, and that is not sent. The value is a sentence for a log."""

    CONNECTION = "Connection: the server says whether the connection goes on; `close` is obeyed"
    KEEP_ALIVE = "Keep-Alive: how long a connection is kept is the server's to say"
    PROXY_CONNECTION = "Proxy-Connection: no standard has it"
    TE = "TE: it is for requests"
    UPGRADE = "Upgrade: a response that does not change the protocol has none, unless it is a 426"
    TRANSFER_ENCODING = "Transfer-Encoding: the server chooses how the body is framed"
    LENGTH = "Content-Length: a response with status 204 or 205 has no content"
    CONTENT = "the content of a response with status 204, 205 or 304, which has none"


CONNECTION: Final = b"connection"
UPGRADE: Final = b"upgrade"

HOP_FIELDS: Final = {
    b"keep-alive": LeftOut.KEEP_ALIVE,
    b"proxy-connection": LeftOut.PROXY_CONNECTION,
    b"te": LeftOut.TE,
    UPGRADE: LeftOut.UPGRADE,
    b"transfer-encoding": LeftOut.TRANSFER_ENCODING,
}
"""Fields that are not sent, by name. Connection is not among them: the server sends its own in its place."""
