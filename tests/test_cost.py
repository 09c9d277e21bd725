"""What an ordinary exchange costs, counted in calls: wall time would say more about the machine than about the code.

The requests and the exchange are those of benchmarks/core.py. A figure that has come down belongs into FIGURES: then it
stays down. One that must go up goes up in the same commit as its reason.
"""

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType

import pytest

from h1core import Conn, Response

CORE = Path(__file__).parent.parent / "benchmarks" / "core.py"

FIGURES = {
    # stream: calls of functions written in Python, and of those in C
    "small": (15, 16),
    "targets": (18, 30),
    "browser": (17, 27),
    "browsing": (17, 27),
    "cold": (21, 36),
    "post": (20, 20),
    "chunked": (31, 49),
}
COUNTS_C_CALLS = sys.version_info[:2] == (3, 11)
"""Which calls of functions in C are told of differs from version to version."""


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_core", CORE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calls_of_exchanges(stream: str) -> tuple[int, int]:
    """How many functions an exchange calls, in Python and in C, at the least: once a second, the Date is made anew."""
    benchmark = load_benchmark()
    exchange = benchmark.h1core()
    requests = list(itertools.islice(benchmark.STREAMS[stream], 10))
    for request in requests[:5]:  # until what can be remembered is
        exchange(request)
    counts = [calls(exchange, request) for request in requests[5:]]
    return min(python for python, _ in counts), min(c for _, c in counts)


def calls(exchange: Callable[[bytes], object], request: bytes) -> tuple[int, int]:
    counts = {"call": 0, "c_call": 0}

    def count(_frame: FrameType, what: str, _argument: object) -> None:
        if what in counts:
            counts[what] += 1

    sys.setprofile(count)
    try:
        exchange(request)
    finally:
        sys.setprofile(None)
    return counts["call"], counts["c_call"] - 1  # the last one is setprofile


@pytest.mark.parametrize("stream", FIGURES)
def test_an_exchange_makes_no_more_calls_than_it_did(stream: str) -> None:
    python, c = calls_of_exchanges(stream)
    assert python <= FIGURES[stream][0]
    assert c <= FIGURES[stream][1] or not COUNTS_C_CALLS


def test_the_count_grows_with_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    before = calls_of_exchanges("small")
    send = Conn.send

    def send_by_a_detour(conn: Conn, event: Response) -> None:
        send(conn, event)

    monkeypatch.setattr(Conn, "send", send_by_a_detour)
    assert calls_of_exchanges("small")[0] == before[0] + 1
