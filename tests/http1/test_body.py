"""The two body readers, by themselves: how they are cut means nothing, and they keep next to nothing."""

from collections.abc import Iterable

import pytest

from h1core import Limits, RefuseReason
from h1core.http1.body import FORBIDDEN_TRAILERS, BodyPart, ChunkedReader, LengthReader
from tests.kit import LAST_CHUNK, Cut, chunk, each_cut

LIMITS = Limits(
    max_body_bytes=100,
    max_chunk_extension_bytes=10,
    max_chunk_extensions_bytes=25,
    max_trailer_bytes=30,
    max_trailer_fields=3,
)


def read_all(reader: LengthReader | ChunkedReader, pieces: Iterable[bytes]) -> BodyPart:
    """All that comes of the pieces, as if it had come of one."""
    content = b""
    pieces = iter(pieces)
    for piece in pieces:
        part = reader.read(piece)
        content += part.content
        if part.rest is not None:
            return BodyPart(content, part.rest + b"".join(pieces), list(part.trailers))
        if part.refusal is not None:
            return BodyPart(content, None, (), part.refusal)
    return BodyPart(content)


def kept(reader: ChunkedReader) -> int:
    return len(reader._kept)


# A body of a known length.


@each_cut
@pytest.mark.parametrize("behind", [b"", b"next"])
def test_a_body_of_a_length_ends_there(cut: Cut, behind: bytes) -> None:
    assert read_all(LengthReader(5), cut(b"hello" + behind)) == BodyPart(b"hello", behind, [])


def test_a_body_of_a_length_knows_what_is_to_come() -> None:
    reader = LengthReader(5)
    assert [(reader.read(piece), reader.remaining) for piece in (b"he", b"l")] == [
        (BodyPart(b"he"), 3),
        (BodyPart(b"l"), 2),
    ]
    assert (reader.read(b"lo!"), reader.remaining) == (BodyPart(b"lo", b"!"), 0)


def test_content_that_is_a_whole_piece_is_not_copied() -> None:
    piece = bytes(1000)
    assert LengthReader(2000).read(piece).content is piece


# A chunked body.


@each_cut
@pytest.mark.parametrize(
    ("wire", "content", "trailers"),
    [
        (LAST_CHUNK, b"", []),
        (b"5\r\nhello\r\n" + LAST_CHUNK, b"hello", []),
        (b"5\r\nhello\r\n000006\r\n world\r\n00" + LAST_CHUNK, b"hello world", []),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + LAST_CHUNK, b"0123456789" * 2, []),
        (b"2\r\n\r\n\r\n" + LAST_CHUNK, b"\r\n", []),
        (b'1;a=b\r\nx\r\n1 ; a="b"\r\ny\r\n0;z\r\n\r\n', b"xy", []),
        (b"0\r\nA: 1\r\nb:2 \r\n\r\n", b"", [(b"a", b"1"), (b"b", b"2")]),
        (b"0000000000000001\r\nx\r\n" + LAST_CHUNK, b"x", []),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\r\nGET"])
def test_chunks_are_joined(cut: Cut, wire: bytes, content: bytes, trailers: object, behind: bytes) -> None:
    assert read_all(ChunkedReader(LIMITS), cut(wire + behind)) == BodyPart(content, behind, trailers)  # type: ignore[arg-type]  # a list of pairs


@each_cut
@pytest.mark.parametrize(
    ("wire", "content", "reason"),
    [
        (b"\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"+1\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"0x1\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"1_0\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b" 1\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"1 \r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"00000000000000001\r\n", b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"x" * 28, b"", RefuseReason.BAD_CHUNK_SIZE),
        (b"1\n", b"", RefuseReason.BARE_LF),
        (b"1\rx", b"", RefuseReason.BARE_CR),
        (b'1;a="\n"\r\n', b"", RefuseReason.BARE_LF),
        (b'1;a="\r"\r\n', b"", RefuseReason.BARE_CR),
        (b"1;\r\n", b"", RefuseReason.BAD_CHUNK_EXTENSION),
        (b"1;a=\x00\r\n", b"", RefuseReason.BAD_CHUNK_EXTENSION),
        (b"1\r\nxx\r\n", b"x", RefuseReason.BAD_CHUNK_END),
        (b"1\r\nx\n", b"x", RefuseReason.BAD_CHUNK_END),
        (b"1\r\nx\rx", b"x", RefuseReason.BAD_CHUNK_END),
        (b"1\r\nx0\r\n\r\n", b"x", RefuseReason.BAD_CHUNK_END),
        (b"ffffffffffffffff\r\n", b"", RefuseReason.BODY_TOO_LARGE),
        (b"0\r\n\n", b"", RefuseReason.BARE_LF),
        (b"0\r\na: b\rc", b"", RefuseReason.BARE_CR),
        (b"0\r\n\rx", b"", RefuseReason.BARE_CR),
        (b"0\r\na: b\r\r\n\r\n", b"", RefuseReason.BARE_CR),
        (b"0\r\na: b\n\r\n\r\n", b"", RefuseReason.BARE_LF),
        (b"0\r\nno colon\r\n\r\n", b"", RefuseReason.BAD_TRAILER),
        (b"0\r\n a: b\r\n\r\n", b"", RefuseReason.BAD_TRAILER),
    ],
)
def test_what_is_wrong_in_a_chunked_body_is_named_and_what_came_before_is_good(
    cut: Cut, wire: bytes, content: bytes, reason: RefuseReason
) -> None:
    assert read_all(ChunkedReader(LIMITS), cut(wire)) == BodyPart(content, None, (), reason)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"5",
        b"5\r",
        b"5;a=b",
        b"5\r\nhell",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"0\r\n",
        b"0\r\n\r",
        b"0\r\na: b\r\n\r",
    ],
)
@each_cut
def test_a_chunked_body_goes_on_until_its_last_line_feed(cut: Cut, wire: bytes) -> None:
    part = read_all(ChunkedReader(LIMITS), cut(wire))
    assert (part.rest, part.refusal) == (None, None)


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_a_field_of_the_head_is_no_trailer(name: bytes) -> None:
    wire = b"0\r\n" + name.title() + b": x\r\n\r\n"
    assert ChunkedReader(Limits()).read(wire).refusal is RefuseReason.FORBIDDEN_TRAILER


@each_cut
@pytest.mark.parametrize(("more", "reason"), [(-1, None), (0, None), (1, RefuseReason.CHUNK_EXTENSION_TOO_LARGE)])
def test_one_line_has_so_many_bytes_of_extensions(cut: Cut, more: int, reason: RefuseReason | None) -> None:
    for size in (b"1", b"0000000000000001"):
        wire = size + b";".ljust(10 + more, b"x") + b"\r\nx\r\n" + LAST_CHUNK
        assert read_all(ChunkedReader(LIMITS), cut(wire)).refusal is reason


@each_cut
@pytest.mark.parametrize(("more", "reason"), [(-1, None), (0, None), (1, RefuseReason.CHUNK_EXTENSION_TOO_LARGE)])
def test_all_lines_together_have_so_many_bytes_of_extensions(cut: Cut, more: int, reason: RefuseReason | None) -> None:
    wire = b"".join(chunk(b"x", b";".ljust(size, b"x")) for size in (10, 10, 5 + more)) + LAST_CHUNK
    assert read_all(ChunkedReader(LIMITS), cut(wire)).refusal is reason


@each_cut
@pytest.mark.parametrize(("more", "reason"), [(-1, None), (0, None), (1, RefuseReason.BODY_TOO_LARGE)])
def test_all_chunks_together_have_so_many_bytes(cut: Cut, more: int, reason: RefuseReason | None) -> None:
    wire = chunk(bytes(60)) + chunk(bytes(40 + more)) + LAST_CHUNK
    part = read_all(ChunkedReader(LIMITS), cut(wire))
    assert (part.refusal, len(part.content)) == (reason, 60 if reason else 100 + more)


@each_cut
@pytest.mark.parametrize(("more", "reason"), [(-1, None), (0, None), (1, RefuseReason.TRAILERS_TOO_LARGE)])
def test_trailers_have_so_many_bytes_with_the_empty_line(cut: Cut, more: int, reason: RefuseReason | None) -> None:
    wire = b"0\r\n" + b"a: ".ljust(26 + more, b"x") + b"\r\n\r\n"
    assert read_all(ChunkedReader(LIMITS), cut(wire)).refusal is reason


@each_cut
@pytest.mark.parametrize(("count", "reason"), [(2, None), (3, None), (4, RefuseReason.TOO_MANY_TRAILERS)])
def test_there_are_so_many_trailers(cut: Cut, count: int, reason: RefuseReason | None) -> None:
    wire = b"0\r\n" + b"a:b\r\n" * count + b"\r\n"
    assert read_all(ChunkedReader(LIMITS), cut(wire)).refusal is reason


def test_limits_are_kept_wherever_the_bytes_are_cut() -> None:
    line = b"0000000000000001;xxxxxxxxx\r\n"  # the longest that may be
    for size_line, refusal in ((line, None), (line.replace(b";", b";x"), RefuseReason.CHUNK_EXTENSION_TOO_LARGE)):
        for trailers in (b"", b"a: ".ljust(26, b"x") + b"\r\n"):
            wire = size_line + b"x\r\n0\r\n" + trailers + b"\r\n"
            for at in range(1, len(wire)):
                assert read_all(ChunkedReader(LIMITS), [wire[:at], wire[at:]]).refusal is refusal


def test_a_thousand_tiny_chunks_in_one_read_are_one_piece() -> None:
    part = ChunkedReader(Limits()).read(chunk(b"x") * 1000 + LAST_CHUNK)
    assert part == BodyPart(b"x" * 1000, b"", ())


@pytest.mark.parametrize("endless", [b"1;a=" + b"x" * 1000, b"0\r\na: " + b"x" * 1000, b"0" * 1000])
def test_no_more_is_kept_than_a_line_or_a_trailer_section(endless: bytes) -> None:
    reader = ChunkedReader(LIMITS)
    refusals: list[RefuseReason] = []
    while not refusals:
        part = reader.read(endless[:1])
        endless = endless[1:]
        assert kept(reader) <= 30
        refusals += [part.refusal] if part.refusal else []
    assert len(endless) > 900


def test_how_much_of_a_chunked_body_is_to_come_is_not_known() -> None:
    assert ChunkedReader(LIMITS).remaining is None
