"""A stand-in for atheris where it cannot be installed: mutate, run, keep what takes new steps in h1core.

It knows nothing of comparisons, finds no magic words and minimises nothing. Words of HTTP are given to it instead.
"""

import random
import sys
import time
from collections.abc import Callable, Iterable
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

WORDS = [b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b":", b";", b",", b'"', b"0", b"1", b"f", b"\0", b"\xff"]
WORDS += [b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: close", b"Host: a\r\n", b"HTTP/1.1"]
REPORT_EVERY_S = 60.0

Step: TypeAlias = tuple[str, int, int]
"""A file, and the numbers of two lines that were run one after the other."""


def run(
    target: Callable[[bytes], None], starts: list[bytes], seconds: float, found: Path, most: int = sys.maxsize
) -> None:
    """Look for inputs that make `target` raise, for some time or until so `most` were tried.

    Ends at the first, which goes to a file in `found`; what it raised is raised.
    """
    dice = random.Random(20261123)
    pool: list[bytes] = []
    seen: set[Step] = set()
    began = reported = time.monotonic()
    count = 0
    waiting = list(starts)
    while time.monotonic() - began < seconds and count < most:
        data = waiting.pop() if waiting else mutate(dice.choice(pool or starts), dice)
        count += 1
        try:
            steps = reached(target, data)
        except Exception:
            file = found / f"crash-{sha1(data).hexdigest()}"
            file.write_bytes(data)
            print(f"found after {count} inputs: {file}")
            raise
        if not steps <= seen:
            seen |= steps
            pool.append(data)
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            print(
                f"{count} inputs, {count / (reported - began):.0f}/s, {len(seen)} lines, {len(pool)} kept", flush=True
            )
    print(f"{count} inputs in {time.monotonic() - began:.0f} s reached {len(seen)} steps in h1core, and nothing broke")


def reached(target: Callable[[bytes], None], data: bytes) -> set[Step]:
    """The steps from line to line in h1core that an input takes."""
    steps: set[Step] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if "/h1core/" not in file:
            return None
        before = frame.f_lineno

        def local(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            steps.add((file, before, frame.f_lineno))
            before = frame.f_lineno
            return local

        return local

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(tracer)
    return steps


def worth_keeping(target: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Of many inputs few, and small ones, that together take every step that all of them take."""
    seen: set[Step] = set()
    kept: list[bytes] = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        steps = reached(target, data)
        if not steps <= seen:
            seen |= steps
            kept.append(data)
    return kept


def mutate(data: bytes, dice: random.Random) -> bytes:
    """Change, insert, delete, repeat or swap some bytes, a few times."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        start = dice.randrange(len(data) + 1)
        end = min(len(data), start + dice.choice((1, 1, 2, 4, 8, 32)))
        match dice.randrange(5):
            case 0:
                data = data[:start] + bytes([dice.randrange(256)]) + data[start + 1 :]
            case 1:
                data = data[:start] + dice.choice(WORDS) + data[start:]
            case 2:
                data = data[:start] + data[end:]
            case 3:
                data = data[:end] + data[start:]
            case 4:
                other = dice.randrange(len(data) + 1)
                data = data[:other] + data[start:end] + data[other:]
    return data or b"G"
