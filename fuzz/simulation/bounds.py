"""What may wait where: each field of `Limits` as something to look at while a run goes on.

The parser's limits are looked at where a request comes out, by the parts that it has; whether too much was refused, and
not let through in other words, is judged at the end (judge.py). The others are looked at where things wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from h1core.drivers.engine.engine import Engine
from h1core.drivers.engine.request_body import BodySpool
from h1core.drivers.engine.session import Session
from h1core.drivers.engine.worker_source import WorkerSource

from h1core.config import Limits
from h1core.events import Data, Request
from h1core.http1.body import ChunkedReader
from h1core.http1.conn import Conn
from h1core.http1.receiving import READING
from h1core.http1.state import State

from .invariants import Invariant, violated

if TYPE_CHECKING:
    from .watched import Received
    from .world import World

VERSION_BYTES: Final = len(b"  HTTP/1.1\r\n")
LINE_BYTES: Final = len(b":\r\n")
WITH_BODY: Final = (State.RECEIVING, State.DUPLEX, State.DRAINING)


def see(amounts: Iterator[tuple[str, int, int]], lane: int = -1) -> None:
    """Each amount is what may be at most."""
    for what, amount, most in amounts:
        if amount > most:
            violated(Invariant.BOUNDED, f"{amount} {what}, {most} at most", lane)


def of_request(request: Request, limits: Limits) -> Iterator[tuple[str, int, int]]:
    """Parts of a head that came out of a `Conn`: what, how much, and how much may be."""
    line = len(request.method) + len(request.target) + VERSION_BYTES
    fields = sum(len(name) + len(value) + LINE_BYTES for name, value in request.headers)
    yield "bytes of method", len(request.method), limits.max_method_bytes
    yield "bytes of request line", line - len(b"\r\n"), limits.max_request_line_bytes
    yield "bytes of head", line + fields + len(b"\r\n"), limits.max_head_bytes
    yield "fields", len(request.headers), limits.max_fields


def of_body(received: Received, limits: Limits) -> Iterator[tuple[str, int, int]]:
    """A body, as far as it came out."""
    trailers = sum(len(name) + len(value) + LINE_BYTES for name, value in received.trailers)
    yield "bytes of body", len(received.body), limits.max_body_bytes
    yield "bytes of trailers", trailers, limits.max_trailer_bytes
    yield "trailer fields", len(received.trailers), limits.max_trailer_fields


def of_conn(conn: Conn, world: World) -> Iterator[tuple[str, int, int]]:
    """What waits in one connection, and what it has thrown away."""
    limits = conn._limits
    yield "bytes wait to be parsed", len(conn._buffer.data), limits.max_buffer_bytes + world.read_ahead_bytes
    # One read of pipelined requests that were let in while there was room may each add an answer of our own.
    yield "bytes wait to be sent", conn._out.size, limits.max_output_bytes + world.largest_piece
    yield "bytes are asked for at a time", conn.receive_bytes, limits.max_buffer_bytes
    read = limits.max_buffer_bytes + world.read_ahead_bytes
    most = limits.max_linger_bytes + 2 * read  # the last read, and what had waited to be parsed
    yield "bytes behind the last response are thrown away", conn._discarded_bytes, most
    if conn._state not in WITH_BODY:
        return
    if conn._state is State.DRAINING:
        yield "bytes of a body are thrown away", conn._unread_bytes, limits.max_unread_body_bytes
    reader = conn._reader
    if isinstance(reader, ChunkedReader):
        yield "bytes of chunk extensions", reader._extension_bytes, limits.max_chunk_extensions_bytes
        kept = max(limits.max_trailer_bytes, limits.max_chunk_extension_bytes + 64)
        yield "bytes of a chunked body wait for a line to be whole", len(reader._kept), kept


def of_session(session: Session, world: World) -> Iterator[tuple[str, int, int]]:
    """What waits between one connection and its application."""
    limits = session.conn._limits
    source = session.source
    if isinstance(source, WorkerSource):
        most = world.largest_piece
        yield "bytes of a response wait in memory", source._waiting_bytes, limits.max_output_bytes + most
        file = source._file
        yield "bytes of a response are in a file", file.added_bytes, limits.max_spooled_response_bytes + most
    if session.exchange is not None:
        waiting = sum(len(event.data) for event in session.exchange._inbox if type(event) is Data)
        yield "bytes wait for a coroutine", waiting, limits.max_buffer_bytes + world.read_ahead_bytes
        is_read = session.conn._state in (State.RECEIVING, State.DUPLEX) and session.conn._demand is READING
        yield "pieces wait for a coroutine while more is read", is_read and len(session.exchange._inbox), 0
    spool = session.collector._spool if session.collector is not None else None
    if spool is not None:
        assert isinstance(spool, BodySpool)
        in_memory = sum(len(part) for part in spool._parts)
        yield "bytes of a body are in memory", in_memory, limits.max_memory_body_bytes


def of_engine(engine: Engine, threads: int, coroutines: int) -> Iterator[tuple[str, int, int]]:
    """What a server has of each kind."""
    core = engine.core
    limits = core.limits
    yield "connections are open", len(core._connections), limits.max_connections
    waiting = sum(
        isinstance(session.source, WorkerSource) and session.source.waits_for_client and session.source.is_full
        for session in engine.sessions.values()
    )
    # The engine has not heard of those that have just begun to wait.
    unheard = len(engine.workers._workers._posted) if engine.workers is not None else 0  # type: ignore[attr-defined]  # the pool is ours
    yield "workers wait for clients", waiting - unheard, threads // 2
    yield "requests are with workers", core.backlog.outstanding, threads + limits.max_queued_requests
    # One for each connection, and as many that go on after their responses.
    yield "coroutines run", coroutines, 2 * limits.max_connections
