"""A connection of the readiness loop: its transport, its `Conn`, and what the loop is in the middle of."""

from h1core.conn import Conn
from h1core.events import Headers, Request
from h1core.handler import SpooledRequest
from h1core.output import Buffer
from h1core.state import Disposition

from .pool import Job, Pieces
from .spool import BodySpool
from .transport import Transport


class Connection:
    """Belongs to the loop's thread."""

    __slots__ = (
        "_request",
        "_spool",
        "began_at",
        "conn",
        "disposition",
        "interest",
        "job",
        "peer",
        "pieces",
        "transport",
    )

    def __init__(self, transport: Transport, conn: Conn, peer: object) -> None:
        self.transport = transport
        self.conn = conn
        self.peer = peer
        self.interest = 0
        """What the selector waits for; 0 when it does not know the transport."""
        self.disposition = Disposition.KEEP
        """What was done about the transport last."""
        self.began_at = 0.0
        """When the request was whole."""
        self.job: Job | None = None
        """The request that a worker has. While there is one, nothing is read, and no deadline of the peer's runs."""
        self.pieces: Pieces | None = None
        """The rest of the response that is being streamed."""
        self._request: Request | None = None
        self._spool: BodySpool | None = None

    def begin_body(self, request: Request, max_memory_bytes: int) -> None:
        """Begin to collect the body of a request."""
        self._request = request
        self._spool = BodySpool(max_memory_bytes)

    def collect(self, data: Buffer) -> None:
        """Keep a piece of body, unless the request was given up. Raises OSError when there is no room for it."""
        if self._spool is not None:
            self._spool.add(data)

    def end_body(self, trailers: Headers) -> Request | None:
        """The request with its body, or None when it was given up. Raises OSError when there is no room for it."""
        request, spool = self._request, self._spool
        if request is None or spool is None:
            return None
        request.trailers = trailers
        body = spool.finish()
        self._request = self._spool = None
        if not isinstance(body, bytes):
            return SpooledRequest(request, body)
        request.body = body
        return request

    def give_up_request(self) -> Request | None:
        """Stop collecting; the request that was begun, if one was."""
        request = self._request
        if self._spool is not None:
            self._spool.discard()
        self._request = self._spool = None
        return request

    def end_job(self) -> None:
        """Let a worker know that nobody waits for its response any more."""
        job, self.job = self.job, None
        if job is not None:
            job.abandon()

    def end_stream(self) -> None:
        """Let whoever makes the pieces clean up, however the response ended."""
        pieces, self.pieces = self.pieces, None
        if pieces is not None:
            pieces.close()
