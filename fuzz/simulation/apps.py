"""Applications, most of which misbehave. What a request meets is planned when it is made, and so is what must come.

Here are those that are handlers, and what all have in common; those of WSGI and ASGI are in files of their own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from h1core.app.handler import SpooledRequest
from h1core.events import Request, Response

from .dice import Concerns, Dice
from .invariants import Invariant, violated
from .swarm import Swarm
from .trace import Trace
from .wire import Sent, content_of

MANY = 1 << 60

REQUEST: ContextVar[int] = ContextVar("REQUEST", default=-1)
"""The number of the request in whose context something runs."""

PROMPT_PIECES = 40


class ApplicationFailure(Exception):
    """What a misbehaving application raises."""


@dataclass(slots=True)
class Plan:
    """What the application does with one request."""

    number: int
    kind: str
    delay_s: float
    """How long the handler takes to begin."""
    piece_delay_s: float
    piece_bytes: int
    pieces: int
    status: int = 200
    fails: bool = False
    """The server must answer 500 instead."""
    cuts: bool = False
    """The response cannot be finished."""
    closes: bool = False
    streams: bool = False
    """The body comes in pieces."""
    may_fail: bool = False
    """A 500 is as good as the answer: something goes wrong when the answer might be on its way, or might not."""
    body: bytes | None = b""
    """What must come; None when it is `unit` again and again, perhaps cut off."""
    unit: bytes = b""
    length: int | None = None
    """Content-Length that the application declares for a body in pieces."""
    calls: int = 0
    lane: int = -1
    method: bytes = b""
    listens: bool = False
    """It waits to receive something."""
    is_complete: bool = False
    """It has said all that it has to say."""
    breaks_off: bool = False
    """It has cancelled what it was sending."""
    has_left: bool = False
    """It was told that its client has left, before it had said all."""
    bodies: list["Closable"] = field(default_factory=list)
    """What it has handed out that is to be closed."""

    def waits(self, room_bytes: int) -> bool:
        """Whether a worker may have to wait in the middle: for the clock, or for room."""
        total = max(self.pieces, 1) * len(self.unit)
        return self.delay_s > 0 or self.piece_delay_s > 0 or (self.streams and total > room_bytes)


class Closable(Protocol):
    """Something of an application's that the server has to close."""

    closed: int
    """How often that was done."""


class Pieces:
    """A streamed body that knows whether it was closed."""

    def __init__(self, plan: Plan, apps: "Apps", source: Iterator[Any]) -> None:
        self._plan = plan
        self._apps = apps
        self._source = source
        self.closed = 0

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> Any:
        if self.closed:
            violated(Invariant.CLEAN_UP, "a piece is asked for after the body was closed", self._plan.lane)
        self._see_context()
        self._apps.progress()
        if self._plan.piece_delay_s:
            self._apps.block(self._plan.piece_delay_s)
        return next(self._source)

    def _see_context(self) -> None:
        if REQUEST.get() != self._plan.number:
            what = f"the body of {self._plan.number} is in the context of {REQUEST.get()}"
            violated(Invariant.ISOLATION, what, self._plan.lane)

    def close(self) -> None:
        self._see_context()
        self.closed += 1
        if self._plan.kind == "closing_fails":
            raise ApplicationFailure("closing fails")


class ClosableList(list[bytes]):
    """An iterable whose iterator has no `close`, but which has one itself."""

    on_close: Callable[[], None]

    def close(self) -> None:
        self.on_close()


class Apps:
    """Plans, and the one application that carries them out."""

    interface: ClassVar[str] = "handlers"
    gets_whole: ClassVar[bool] = True
    """A request reaches it when all of it is there."""
    both_ways: ClassVar[tuple[str, ...]] = ("echo", "stream")
    """What a client asks for that sends and receives at once."""
    closes_once: ClassVar[bool] = False
    """What it hands out is to be closed once, and not just one or several times."""

    def __init__(self, dice: Concerns, swarm: Swarm, trace: Trace, block: Callable[[float], None]) -> None:
        self._dice = dice.apps
        self._swarm = swarm
        self.kinds = self.draw_kinds(dice.interface)
        self._trace = trace
        self.block = block
        self.progress: Callable[[], None] = lambda: None
        self.see_call: Callable[[int, int], None] = lambda lane, number: None
        self.see_left: Callable[[int, int], None] = lambda lane, number: None
        self.see_end: Callable[[int], None] = lambda lane: None
        self.running: dict[int, Plan] = {}
        """Applications that have begun and not ended; of those only that may wait by themselves."""
        self.plans: dict[int, Plan] = {}
        self.files: list[Any] = []
        """What must be closed in the end."""
        self.calm = False

    def draw_kinds(self, dice: Dice) -> list[str]:
        """What there is in this run."""
        return self._swarm.apps

    # Planning

    def plan(self, sent: Sent, lane: int, kind: str | None = None) -> Plan:
        """Draw what the application will do with a request."""
        dice, swarm = self._dice, self._swarm
        kind = kind or dice.pick(self.kinds)
        sizes = (1, 10, 100, 3000 if dice.chance(0.5) else 500, 30_000 if dice.chance(0.2) else 10)
        plan = Plan(
            sent.number, kind, dice.duration(swarm.longest_s) if kind in ("late", "for_ever") else 0.0, 0.0,
            dice.pick(sizes), 0, lane=lane, method=sent.method
        )  # fmt: skip
        self.expect(plan, sent)
        self.plans[sent.number] = plan
        return plan

    def draw_pieces(self, plan: Plan) -> None:
        """Let the body come in pieces, and perhaps take its time."""
        dice = self._dice
        plan.streams = True
        plan.pieces = MANY if plan.kind == "for_ever" else 1 + dice.below(dice.pick((3, 8, 70)))
        if dice.chance(0.3):
            plan.piece_delay_s = dice.duration(self._swarm.longest_s / 8)
        plan.unit = content_of(plan.number, plan.piece_bytes)
        plan.body = plan.unit * plan.pieces if plan.kind != "for_ever" else None

    def declare(self, plan: Plan, more: int) -> None:
        """Say the length that is declared, which is not always that of the body."""
        total = len(plan.body or b"")
        match plan.kind:
            case "declared":
                plan.length = total
            case "declared_short" | "wrong_length":
                plan.length = total + more
            case "declared_long":
                plan.length = total - 1

    def expect(self, plan: Plan, sent: Sent) -> None:
        """Say what must come of a plan."""
        if plan.kind in STREAMING:
            self.draw_pieces(plan)
        _expect(plan, sent, self._dice)

    # The application

    def handler(self, threads: int) -> Any:
        """What a server with so many threads is given."""
        return self

    def begin(self, target: bytes | str) -> Plan:
        """Find the plan of a request, and check that this may come."""
        number = target[1:]
        plan = self.plans.get(int(number)) if number.isdigit() else None
        if plan is None:
            violated(Invariant.APPLICATION, f"a request that nobody sent reached the application: {target!r}")
        plan.calls += 1
        self._trace.note(plan.lane, "app", "called", f"{plan.number} {plan.kind}")
        if plan.calls > 1:
            violated(Invariant.APPLICATION, f"request {plan.number} reached the application twice", plan.lane)
        self.see_call(plan.lane, plan.number)
        if REQUEST.get() != -1:
            violated(Invariant.ISOLATION, f"{plan.number} begins in the context of {REQUEST.get()}", plan.lane)
        REQUEST.set(plan.number)
        return plan

    def begin_whole(self, request: Request) -> Plan:
        """The same of a whole request, whose file is kept in mind."""
        if isinstance(request, SpooledRequest):
            self.files.append(request._file)
        return self.begin(request.target)

    def __call__(self, request: Request) -> Response:
        plan = self.begin_whole(request)
        if plan.delay_s:
            self.block(plan.delay_s)
        return self.reply(plan, request)

    def reply(self, plan: Plan, request: Request) -> Response:
        """Do as planned. Raises whatever the plan says."""
        headers = [(b"x-id", b"%d" % plan.number)]
        match plan.kind:
            case "raises":
                raise ApplicationFailure("raised before the head")
            case "exits":
                raise KeyboardInterrupt if self._swarm.threads else ApplicationFailure("exits")
            case "no_response":
                return None  # type: ignore[return-value]  # that is the mistake
            case "text_body":
                return Response(200, headers, "text")  # type: ignore[arg-type]  # that is the mistake
            case "bad_headers":
                return Response(200, [*headers, (b"x", b"\r\nSet-Cookie: y")])
            case "bad_status":
                return Response(99, headers)
            case "wrong_length":
                return Response(200, [*headers, (b"content-length", b"7")], b"12345678")
            case "body_for_204":
                return Response(204, headers, b"content")
            case "not_modified":
                return Response(304, headers)
            case "asks_to_close":
                return Response(200, [*headers, (b"Connection", b"close")], plan.body or b"")
            case "echo":
                return Response(200, headers, self._read(request))
            case "vandal":
                request.method = None  # type: ignore[assignment]  # that is the mistake
                raise ApplicationFailure("and the request is spoilt")
            case "known_length_iterable":
                pieces = ClosableList(_cut(plan.body or b"", plan.piece_bytes))
                tracked = Pieces(plan, self, iter(pieces))
                pieces.on_close = tracked.close
                plan.bodies.append(tracked)
                return Response(200, [*headers, (b"content-length", b"%d" % len(plan.body or b""))], pieces)
            case kind if kind in STREAMING:
                return self._stream(plan, headers)
        return Response(plan.status, headers, plan.body or b"")

    def _read(self, request: Request) -> bytes:
        if isinstance(request, SpooledRequest) and request.target[-1] % 2:
            return request.open_body().read()
        return request.body

    def _stream(self, plan: Plan, headers: list[tuple[bytes, bytes]]) -> Response:
        if plan.length is not None:
            headers.append((b"content-length", b"%d" % plan.length))
        body = Pieces(plan, self, self._source(plan))
        plan.bodies.append(body)
        return Response(200, headers, body)

    def _source(self, plan: Plan) -> Iterator[Any]:
        if plan.kind == "raises_at_first_piece":
            raise ApplicationFailure("raised before the first piece")
        buffer = bytearray(plan.unit)
        for number in range(plan.pieces):
            if plan.kind == "empty_pieces" and number % 2 == 0:
                yield b""
            if plan.kind == "for_ever" and number >= PROMPT_PIECES:
                if self.calm:
                    return
                self.block(1.0 + self._swarm.longest_s / 4)  # or no time would pass while it is read
            if plan.kind == "reused_buffer":
                buffer[:] = plan.unit
                yield memoryview(buffer)
                buffer[:] = bytes(len(buffer))
            else:
                yield plan.unit
        if plan.kind == "raises_midway":
            raise ApplicationFailure("raised in the middle of the body")
        if plan.kind == "text_piece":
            yield "text"

    # Afterwards

    def see_closed(self) -> None:
        """Everything that was handed out is closed."""
        for plan in self.plans.values():
            for body in plan.bodies:
                if not body.closed or (self.closes_once and body.closed > 1):
                    how = f"the body of {plan.number} ({plan.kind}) was closed {body.closed} times"
                    violated(Invariant.CLEAN_UP, how, plan.lane)
        if any(not file.closed for file in self.files):
            violated(Invariant.CLEAN_UP, "a file is left open")


STREAMING = frozenset(
    "stream empty_pieces for_ever short_stream long_stream raises_midway raises_at_first_piece text_piece "
    "closing_fails declared_stream reused_buffer".split()
)
FAILING = frozenset("raises exits no_response text_body bad_headers bad_status vandal wrong_length".split())


def _cut(body: bytes, size: int) -> Iterable[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def _expect(plan: Plan, sent: Sent, dice: Dice) -> None:
    """Say what must come of a plan."""
    kind = plan.kind
    plan.fails = kind in FAILING
    if kind == "echo":
        plan.body = sent.body
    elif kind not in STREAMING:
        plan.body = content_of(plan.number, plan.piece_bytes)
    if kind == "large":
        plan.body = content_of(plan.number, 80_000)
    elif kind == "body_for_204":
        plan.status, plan.body = 204, b""
    elif kind in ("not_modified", "bad_status"):
        plan.status, plan.body = 304, b""
    elif kind == "asks_to_close":
        plan.closes = True
    elif kind == "known_length_iterable":
        plan.streams = True
        plan.unit = plan.body or b""
    elif kind in STREAMING:
        total = plan.piece_bytes * plan.pieces
        plan.cuts = kind in ("raises_midway", "text_piece", "short_stream", "long_stream")
        plan.fails = kind == "raises_at_first_piece"
        if kind == "short_stream":
            plan.length = total + 1 + dice.below(10)
        elif kind == "long_stream":
            plan.length = total - 1 if total > 1 else 0
        elif kind == "declared_stream":
            plan.length = total
    if sent.method == b"HEAD":
        _expect_for_head(plan)


def _expect_for_head(plan: Plan) -> None:
    """A body is left out, before anything can go wrong with it."""
    plan.cuts = False
    if plan.kind in ("raises_at_first_piece", "wrong_length"):
        plan.fails = False  # no piece is asked for; the length is taken for what GET would have got
    elif plan.kind == "closing_fails":
        plan.fails = True
    plan.body = b""
