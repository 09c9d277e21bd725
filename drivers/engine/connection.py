"""A connection of the readiness loop: its transport, its `Conn`, and what the loop is in the middle of."""

from h1core.http1.conn import Conn
from h1core.http1.state import Disposition

from ..net.transport import Transport, endpoints_of
from .pool import Job, Pieces
from .request_body import Collector


class Connection:
    """Belongs to the loop's thread."""

    __slots__ = (
        "began_at",
        "body",
        "conn",
        "disposition",
        "endpoints",
        "interest",
        "job",
        "peer",
        "pieces",
        "transport",
    )

    def __init__(self, transport: Transport, conn: Conn, peer: object, max_memory_body_bytes: int) -> None:
        self.transport = transport
        self.conn = conn
        self.peer = peer
        self.endpoints = endpoints_of(transport, peer)
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
        self.body = Collector(max_memory_body_bytes)

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
