"""Any bytes, cut anyhow, into a `Conn`: `python -m fuzz.fuzz_conn [--minutes N]`.

The first byte of an input chooses the limits, the second and third seed the cuts, the rest is what the peer sends. What
has to hold: nothing is raised; the promises of tests/promises.py after every piece; the same events, answers and end
however the bytes are cut; and the verdict of the naive reader in tests/reference.py.
"""

from collections.abc import Iterator

from fuzz import engine

with engine.instrumented(__name__):
    import random
    from dataclasses import replace

    from h1core.config import Limits
    from h1core.events import Event
    from h1core.http1.conn import Conn
    from h1core.http1.state import State
    from tests import promises
    from tests.agreement import agree
    from tests.corpus_files import load
    from tests.feed import LAST, TINY, byte_by_byte, read

HEADER_BYTES = 3
MOST_SINGLE_BYTES = 600
"""Longer inputs are not also fed byte by byte: it costs much, and shows nothing that short ones do not."""

LIMITS = [Limits(), TINY, replace(TINY, max_buffer_bytes=1024, max_head_bytes=512), replace(TINY, max_body_bytes=1)]


def run(data: bytes) -> None:
    """One input. Raises AssertionError, or whatever h1core raised, when something broke."""
    if len(data) <= HEADER_BYTES:
        return
    limits = LIMITS[data[0] % len(LIMITS)]
    end = [b""] if data[0] & 0x80 else []
    wire = data[HEADER_BYTES:]
    pieces = cut(wire, int.from_bytes(data[1:HEADER_BYTES], "big"))
    whole = read(limits, [wire, *end])
    assert read(limits, [*pieces, *end]) == whole, "the cuts made a difference"
    if len(wire) <= MOST_SINGLE_BYTES:
        assert read(limits, [*byte_by_byte(wire), *end]) == whole, "byte by byte made a difference"
    agree(wire, limits)
    watch(limits, [*pieces, *end])


def cut(wire: bytes, seed: int) -> list[bytes]:
    """Up to eight pieces, none of them empty."""
    choose = random.Random(seed)
    cuts = sorted({choose.randrange(len(wire)) for _ in range(choose.randrange(8))} - {0})
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


def watch(limits: Limits, pieces: list[bytes]) -> None:
    """Nobody answers; what waits must not grow, and the promises are kept after each piece."""
    conn = Conn(limits, clock=lambda: 0.0, wall_clock=lambda: 0.0, upgrades={b"connect", b"websocket"})
    seen: list[Event] = []
    for piece in pieces:
        for part in reads(conn, piece):
            events = conn.receive_data(part)
            promises.events_are_few(events, limits)
            assert not seen or not isinstance(seen[-1], promises.LAST_WORDS) or not events, "an event after the last"
            seen += events
            promises.closed_is_closed(conn)
            promises.an_end_has_a_reason(conn, had_last_word=bool(seen) and isinstance(seen[-1], promises.LAST_WORDS))
            promises.who_owes_has_a_deadline(conn)
            promises.the_next_deadline_is_the_earliest(conn)
            promises.who_is_idle_only_waits(conn)
            promises.what_waits_is_bounded(conn, limits)
        if conn.disposition in LAST or conn.state is State.SWITCHED:
            return


def reads(conn: Conn, piece: bytes) -> Iterator[bytes]:
    """What a driver would read of a piece; no more than it is asked for, and only while it is asked."""
    if not piece and conn.wants_read:
        yield piece
    while piece and conn.wants_read:
        count = conn.receive_bytes
        yield piece[:count]
        piece = piece[count:]


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEAR_LIMITS = [
    CHUNKED + b"1e\r\n%b\r\n1e\r\n%b\r\n0\r\n\r\n" % (b"." * 30, b"." * 30),
    CHUNKED + b"1e\r\n%b\r\n1f\r\n%b\r\n0\r\n\r\n" % (b"." * 30, b"." * 31),
    CHUNKED + b"1;1234567890\r\n.\r\n1;12345678\r\n.\r\n0\r\n\r\n",
    CHUNKED + b"1;1234567890\r\n.\r\n1;123456789\r\n.\r\n0\r\n\r\n",
    CHUNKED + b"1;12345678901\r\n.\r\n0\r\n\r\n",
    CHUNKED + b"1;123456789012\r\n.\r\n0\r\n\r\n",
    CHUNKED + b"0\r\na: b\r\nc: d\r\n\r\n",
    CHUNKED + b"0\r\na: b\r\nc: d\r\ne: f\r\n\r\n",
    CHUNKED + b"0\r\na: %b\r\n\r\n" % (b"." * 33),
    CHUNKED + b"0\r\na: %b\r\n\r\n" % (b"." * 34),
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n" + b"." * 60,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 61\r\n\r\n" + b"." * 61,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 4 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 5 + b"\r\n",
    b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"." * 26),
    b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"." * 27),
    b"GET / HTTP/1.1\r\nHost: a\r\na: %b\r\n\r\n" % (b"." * 128),
    b"GET / HTTP/1.1\r\nHost: a\r\na: %b\r\n\r\n" % (b"." * 129),
]
"""At the limits of TINY, and one byte beyond."""


def seeds() -> Iterator[bytes]:
    """What is near limits, and the wire corpus, under several limits and cuts."""
    for wire in NEAR_LIMITS:
        yield b"\1\0\0" + wire
    for number, case in enumerate(load("valid") + load("invalid")):
        if len(case.wire) <= engine.MAX_INPUT_BYTES - HEADER_BYTES:
            first = (number % 2) | (0x80 if case.eof else 0)
            yield bytes([first, number >> 8, number & 0xFF]) + case.wire


if __name__ == "__main__":
    engine.main("conn", run, seeds())
