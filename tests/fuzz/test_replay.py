"""The fuzzers' inputs without their engine: what is kept in fuzz/corpus, and what a fuzzer starts from."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fuzz import engine, fuzz_conn, fuzz_operations, stand_in

TARGETS: dict[str, tuple[engine.Target, Callable[[], Iterable[bytes]]]] = {
    "conn": (fuzz_conn.run, fuzz_conn.seeds),
    "operations": (fuzz_operations.run, fuzz_operations.seeds),
}
KEPT = [(name, path) for name in TARGETS for path in engine.inputs(name)]
MOST_KEPT_BYTES = 200_000


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}/{path.name[:12]}" for name, path in KEPT])
def test_an_input_that_is_kept_breaks_nothing(name: str, path: Path) -> None:
    TARGETS[name][0](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_fuzzer_starts_from_breaks_nothing(name: str) -> None:
    target, seeds = TARGETS[name]
    for seed in seeds():
        target(seed)
    for data in (b"", b"\0", b"\0" * 50, b"\xff" * 50):
        target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_keeps_some_inputs_and_not_too_many(name: str) -> None:
    sizes = [path.stat().st_size for path in engine.inputs(name)]
    assert sizes
    assert sum(sizes) < MOST_KEPT_BYTES
    assert max(sizes) <= engine.MAX_INPUT_BYTES


def test_a_target_is_deaf_to_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two bytes behind a chunk go unchecked: h11's CVE-2025-43859."""
    from h1core.http1.body import ChunkedReader, Part

    def data_end(self: ChunkedReader, data: bytes, at: int) -> int:
        self._part = Part.SIZE_LINE
        return at + 2

    monkeypatch.setattr(ChunkedReader, "_data_end", data_end)
    wire = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n"
    with pytest.raises(AssertionError):
        fuzz_conn.run(b"\0\0\0" + wire)


def test_files_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one"
    file.write_bytes(b"abc")
    seen: list[bytes] = []
    monkeypatch.setattr(sys, "argv", ["fuzz_conn", str(file)])
    engine.main("conn", seen.append, [])
    assert seen == [b"abc"]
    assert "nothing broke" in capsys.readouterr().out


def test_the_stand_in_finds_what_is_near(tmp_path: Path) -> None:
    def target(data: bytes) -> None:
        fuzz_conn.run(b"\0\0\0" + data)
        assert b"chunked" not in data

    before = sys.gettrace()
    with pytest.raises(AssertionError):
        stand_in.run(target, [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], 60, tmp_path, most=5000)
    assert sys.gettrace() is before
    [found] = tmp_path.iterdir()
    assert b"chunked" in found.read_bytes()
