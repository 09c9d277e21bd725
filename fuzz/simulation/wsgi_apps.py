"""WSGI applications, most of which misbehave, by PEP 3333's lights or by anybody's; files are among what they return.

Whatever they return that has a `close` must have it called once, however the response ends.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, ClassVar

from h1core.drivers.engine.files import as_file

from h1core.app.handler import FileBody, Handler
from h1core.app.wsgi import wsgi_handler

from .apps import MANY, PROMPT_PIECES, ApplicationFailure, Apps, Pieces, Plan
from .dice import Dice
from .wire import Sent, content_of

LARGE_BYTES = 80_000


class Call:
    """One call of an application."""

    def __init__(self, apps: WsgiApps, plan: Plan, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self.apps = apps
        self.plan = plan
        self.environ = environ
        self._start_response = start_response

    def start(self, status: str = "200 OK", *headers: tuple[str, str], exc_info: Any = None) -> Callable[[bytes], None]:
        fields = [("X-Id", str(self.plan.number)), *headers]
        if self.plan.length is not None:
            fields.append(("Content-Length", str(self.plan.length)))
        write: Callable[[bytes], None] = self._start_response(status, fields, exc_info)
        return write

    def units(self) -> Iterator[bytes]:
        for number in range(self.plan.pieces):
            if self.plan.pieces == MANY and number >= PROMPT_PIECES:
                if self.apps.calm:
                    return
                self.apps.block(1.0)  # or no time would pass while it is read
            yield self.plan.unit

    def pieces(self, source: Iterable[Any], kind: type[Pieces] = Pieces) -> Pieces:
        """A result that knows whether it was closed."""
        pieces = kind(self.plan, self.apps, iter(source))
        self.plan.bodies.append(pieces)
        return pieces

    def wrapped(self, file: Any) -> Iterable[bytes]:
        wrapper: Iterable[bytes] = self.environ["wsgi.file_wrapper"](file, max(1, self.plan.piece_bytes))
        return wrapper

    def file(self) -> IO[bytes]:
        """A file of the system's, at the begin of what is to be sent."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
        offset = self.plan.number % 3
        file.write(b"skipped"[:offset] + self.plan.unit)
        file.seek(offset)
        self.apps.files.append(file)
        return file


class Single(Pieces):
    """Says that it has one block, which tells its length."""

    def __len__(self) -> int:
        return 1


class Separate(Pieces):
    """An iterable that is closed itself, and whose iterator is another object."""

    def __iter__(self) -> Any:
        return self._source


class FileLike:
    """Something to read that is no file of the system's."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._left = call.plan.pieces
        self.closed = 0
        call.plan.bodies.append(self)

    def read(self, size: int) -> bytes:
        self._call.apps.progress()
        plan = self._call.plan
        if not self._left and plan.kind == "file_breaks":
            raise OSError("the disk is broken")
        if plan.piece_delay_s:
            self._call.apps.block(plan.piece_delay_s)
        self._left -= 1
        return plan.unit if self._left >= 0 else b""

    def close(self) -> None:
        self.closed += 1


# Applications that are in order


def plain(call: Call) -> Iterable[bytes]:
    call.start()
    return [call.plan.unit]


def blocks(call: Call) -> Iterable[bytes]:
    call.start("200 OK", ("Connection", "keep-alive, x"), ("Keep-Alive", "timeout=5"), ("Transfer-Encoding", "chunked"))
    return [call.plan.unit[at : at + 9000] for at in range(0, len(call.plan.unit), 9000)]


def nothing(call: Call) -> Iterable[bytes]:
    call.start()
    return ()


def echo(call: Call) -> Iterable[bytes]:
    call.start()
    return [call.environ["wsgi.input"].read()]


def reads_half(call: Call) -> Iterable[bytes]:
    call.environ["wsgi.input"].read(int(call.environ.get("CONTENT_LENGTH") or 0) // 2)
    return plain(call)


def generator(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces(call.units())


def starts_late(call: Call) -> Iterable[bytes]:
    def run() -> Iterator[bytes]:
        call.start()
        yield from call.units()

    return call.pieces(run())


def empty_blocks(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces(block for unit in call.units() for block in (b"", unit))


def separate(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces(call.units(), Separate)


def single(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces([call.plan.unit], Single)


def write(call: Call) -> Iterable[bytes]:
    put = call.start()
    for unit in call.units():
        put(unit)
    return []


def write_and_more(call: Call) -> Iterable[bytes]:
    put = call.start()
    units = call.units()
    put(next(units))
    return call.pieces(units)


def recovers(call: Call) -> Iterable[bytes]:
    """Says something else instead, as long as nothing has left."""
    call.start()
    try:
        raise ApplicationFailure("noticed in time")
    except ApplicationFailure:
        call.start("500 Sorry", exc_info=sys.exc_info())
    return [call.plan.unit]


def no_content(call: Call) -> Iterable[bytes]:
    call.start("204 No Content")
    return call.pieces([call.plan.unit])


def not_modified(call: Call) -> Iterable[bytes]:
    call.start("304 Not Modified")
    return [call.plan.unit]


# Files


def file(call: Call) -> Iterable[bytes]:
    call.start()
    return call.wrapped(call.file())


def file_like(call: Call) -> Iterable[bytes]:
    call.start()
    return call.wrapped(FileLike(call))


def file_for_304(call: Call) -> Iterable[bytes]:
    call.start("304 Not Modified")
    return call.wrapped(call.file())


# Applications that are not


def raises(call: Call) -> Iterable[bytes]:
    raise ApplicationFailure("raised before the start")


def raises_after_start(call: Call) -> Iterable[bytes]:
    call.start()
    raise ApplicationFailure("raised after the start")


def raises_at_first_block(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces(_failing(()))


def raises_midway(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces(_failing(call.units()))


def _failing(source: Iterable[bytes]) -> Iterator[bytes]:
    yield from source
    raise ApplicationFailure("raised in the middle of the body")


def recovers_late(call: Call) -> Iterable[bytes]:
    """Wants to say something else when the head has left."""

    def run() -> Iterator[bytes]:
        yield from call.units()
        try:
            raise ApplicationFailure("noticed too late")
        except ApplicationFailure:
            call.start("500 Sorry", exc_info=sys.exc_info())

    call.start()
    return call.pieces(run())


def single_more(call: Call) -> Iterable[bytes]:
    call.start()
    return call.pieces([call.plan.unit, b"more"], Single)


def never_starts(call: Call) -> Iterable[bytes]:
    return [call.plan.unit]


def never_starts_stream(call: Call) -> Iterable[bytes]:
    return call.pieces([call.plan.unit])


def bad_status(call: Call) -> Iterable[bytes]:
    call.start("99 Too Few")
    return [call.plan.unit]


def other_coding(call: Call) -> Iterable[bytes]:
    call.start("200 OK", ("Transfer-Encoding", "gzip"))
    return [call.plan.unit]


def text(call: Call) -> Iterable[Any]:
    call.start()
    return ["text"]


def text_midway(call: Call) -> Iterable[Any]:
    def run() -> Iterator[Any]:
        yield from call.units()
        yield "text"

    call.start()
    return call.pieces(run())


def returns_none(call: Call) -> Iterable[bytes]:
    call.start()
    return None  # type: ignore[return-value]  # that is the mistake


IN_PIECES: dict[str, Callable[[Call], Iterable[bytes]]] = {
    "generator": generator,
    "starts_late": starts_late,
    "empty_blocks": empty_blocks,
    "separate": separate,
    "declared": generator,
    "declared_short": generator,
    "declared_long": generator,
    "write": write,
    "write_and_more": write_and_more,
    "raises_midway": raises_midway,
    "recovers_late": recovers_late,
    "closing_fails": generator,
    "text_midway": text_midway,
    "for_ever": generator,
    "file_like": file_like,
    "file_breaks": file_like,
}
FAILING: dict[str, Callable[[Call], Iterable[bytes]]] = {
    "raises": raises,
    "raises_after_start": raises_after_start,
    "raises_at_first_block": raises_at_first_block,
    "never_starts": never_starts,
    "never_starts_stream": never_starts_stream,
    "bad_status": bad_status,
    "other_coding": other_coding,
    "text": text,
    "returns_none": returns_none,
}
FILES: dict[str, Callable[[Call], Iterable[bytes]]] = {
    "file": file,
    "file_declared_less": file,
    "file_declared_more": file,
    "file_shrinks": file,
}
KINDS: dict[str, Callable[[Call], Iterable[bytes]]] = {
    **IN_PIECES,
    **FAILING,
    **FILES,
    "plain": plain,
    "late": plain,
    "blocks": blocks,
    "nothing": nothing,
    "echo": echo,
    "reads_half": reads_half,
    "single": single,
    "single_more": single_more,
    "wrong_length": plain,
    "recovers": recovers,
    "no_content": no_content,
    "not_modified": not_modified,
    "file_for_304": file_for_304,
}
CUTTING = frozenset(
    "declared_short declared_long raises_midway recovers_late text_midway file_breaks file_declared_more "
    "file_shrinks".split()
)
STATUSES = {"recovers": 500, "no_content": 204, "not_modified": 304, "file_for_304": 304}


class WsgiApps(Apps):
    """Plans, and the one WSGI application that carries them out."""

    interface: ClassVar[str] = "WSGI"
    both_ways: ClassVar[tuple[str, ...]] = ("echo", "write")
    closes_once: ClassVar[bool] = True

    def draw_kinds(self, dice: Dice) -> list[str]:
        return [*dice.some(tuple(KINDS), dice.pick((0.15, 0.5, 1.0))), "plain"]

    def handler(self, threads: int) -> Handler:
        return wsgi_handler(self._run, multithread=threads > 1, as_file=self._as_file)

    def expect(self, plan: Plan, sent: Sent) -> None:
        kind = plan.kind
        plan.unit = plan.body = content_of(plan.number, plan.piece_bytes)
        if kind in IN_PIECES:
            self.draw_pieces(plan)
        elif kind in FILES or kind == "blocks":
            size = self._dice.pick((plan.piece_bytes, plan.piece_bytes, LARGE_BYTES))
            plan.unit = plan.body = content_of(plan.number, size)
            plan.streams = True
        elif kind == "echo":
            plan.body = sent.body
        elif kind == "nothing":
            plan.body = b""
        plan.status = STATUSES.get(kind, 200)
        plan.fails = kind in FAILING
        plan.cuts = kind in CUTTING
        self.declare(plan, 1 + self._dice.below(10))
        if plan.status in (204, 304):
            plan.body = b""
        if sent.method == b"HEAD":
            plan.fails = plan.fails or kind in ("closing_fails", "single_more")  # it is closed before the answer
            plan.may_fail = kind == "declared_long"
            plan.cuts = False
            plan.body = b""
        elif kind == "wrong_length":
            plan.fails = True

    def declare(self, plan: Plan, more: int) -> None:
        super().declare(plan, more)
        total = len(plan.body or b"")
        match plan.kind:
            case "file_declared_more":
                plan.length = total + more
            case "declared_long":
                if plan.length == plan.piece_bytes:  # what is too much is only seen when all is sent
                    plan.body, plan.cuts = plan.unit, False
            case "file_declared_less":
                plan.length = max(0, total - more)
                plan.body = plan.unit[: plan.length]
            case "file_shrinks":
                plan.length = total

    def _run(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        plan = self.begin(environ["PATH_INFO"])
        body = environ["wsgi.input"]
        if not isinstance(body, io.BytesIO):
            self.files.append(body)
        if plan.delay_s:
            self.block(plan.delay_s)
        result = KINDS[plan.kind](Call(self, plan, environ, start_response))
        self._last = plan
        return result

    def _as_file(self, file: Any) -> FileBody | None:
        """The server's way of sending a file, which knows what it has opened. Some files shrink right then."""
        body = as_file(file)
        if body is not None:
            self.files.append(body._file)
            if self._last.kind == "file_shrinks":
                file.truncate(file.tell() + len(self._last.unit) // 2)
        return body
