"""ASGI applications, most of which misbehave: they stream both ways, listen for their client's leaving, fail anywhere.

A request reaches them before it is whole, so what must come of one also depends on how far it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar, TypeAlias

import anyio

from h1core.app.asgi import AsgiHandler
from h1core.errors import LocalError

from .apps import MANY, PROMPT_PIECES, ApplicationFailure, Apps, Plan
from .dice import Dice
from .wire import Sent, content_of

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

LISTEN_S = 5.0


class Left(Exception):
    """Raised by an application that has heard that its client has left."""


class Call:
    """One call of an application."""

    def __init__(self, apps: AsgiApps, plan: Plan, receive: Receive, send: Send) -> None:
        self.apps = apps
        self.plan = plan
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        plan = self.plan
        plan.listens = True
        message = await self._receive()
        plan.listens = False
        self.apps.progress()
        if message["type"] == "http.disconnect":
            self._leave()
        return message

    async def send(self, kind: str, **more: Any) -> None:
        self.apps.progress()
        was_complete = self.plan.is_complete
        self.plan.is_complete = was_complete or (kind == "http.response.body" and not more.get("more_body"))
        try:
            await self._send({"type": kind, **more})
        except BaseException as error:
            self.plan.is_complete = was_complete
            if isinstance(error, OSError):
                self._leave()
            raise

    def _leave(self) -> None:
        if not self.plan.is_complete:
            self.plan.has_left = True
            self.apps.see_left(self.plan.lane, self.plan.number)

    async def start(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        fields = [(b"x-id", b"%d" % self.plan.number), *headers]
        if self.plan.length is not None:
            fields.append((b"content-length", b"%d" % self.plan.length))
        await self.send("http.response.start", status=status, headers=fields)

    async def answer(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self.start(status, *headers)
        await self.send("http.response.body", body=self.plan.unit)

    async def read(self) -> bytes:
        """The whole body. Raises Left when it does not come."""
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Left
            body += message["body"]
            if not message["more_body"]:
                return bytes(body)

    async def stream(self) -> None:
        """Send all pieces, and no end."""
        for number in range(self.plan.pieces):
            if self.plan.pieces == MANY and number >= PROMPT_PIECES:
                if self.apps.calm:
                    return
                await self.sleep(1.0)  # or no time would pass while it is read
            await self.sleep(self.plan.piece_delay_s)
            await self.send("http.response.body", body=self.plan.unit, more_body=True)

    async def end(self) -> None:
        await self.send("http.response.body")

    async def sleep(self, seconds: float) -> None:
        if seconds:
            await anyio.sleep(min(seconds, 0.01) if self.apps.calm else seconds)


# Applications that are in order


async def plain(call: Call) -> None:
    await call.answer()


async def echo(call: Call) -> None:
    body = await call.read()
    await call.start()
    await call.send("http.response.body", body=body)


async def echo_stream(call: Call) -> None:
    """Sends what comes as it comes; first it receives, for the client may wait for that."""
    message = await call.receive()
    await call.start()
    while message["type"] == "http.request":
        await call.send("http.response.body", body=message["body"], more_body=True)
        if not message["more_body"]:
            await call.end()
            return
        message = await call.receive()
    raise Left


async def talks(call: Call) -> None:
    """Receives and sends at once, neither because of the other."""

    async def read() -> None:
        try:
            await call.read()
        except Left:
            call.plan.breaks_off = True
            nursery.cancel_scope.cancel()

    await call.start()
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(read)
        await call.stream()
    call.plan.listens = False
    if call.plan.breaks_off:
        raise Left
    await call.end()


async def sips(call: Call) -> None:
    """Takes its time over each piece of the body."""
    while (message := await call.receive())["type"] == "http.request" and message["more_body"]:
        await call.sleep(call.plan.delay_s / 4)
    if message["type"] == "http.disconnect":
        raise Left
    await call.answer()


async def reads_part(call: Call) -> None:
    await call.receive()
    await call.answer()


async def reads_late(call: Call) -> None:
    """Answers, and then wants to know what the request was."""
    await call.answer()
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def stream(call: Call) -> None:
    await call.start()
    await call.stream()
    await call.end()


async def says_chunked(call: Call) -> None:
    await call.start(200, (b"transfer-encoding", b"chunked"))
    await call.stream()
    await call.end()


async def listens(call: Call) -> None:
    """Streams, and stops when the client leaves."""
    await call.read()
    await call.start()

    async def listen() -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass
        call.plan.breaks_off = True
        nursery.cancel_scope.cancel()

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(listen)
        await call.stream()
        await call.end()
        nursery.cancel_scope.cancel()
    call.plan.listens = False
    if not call.plan.is_complete:
        raise Left


async def long_poll(call: Call) -> None:
    """Has nothing to say for a while, and need not say it when the client leaves."""
    await call.read()
    with anyio.move_on_after(0.01 if call.apps.calm else call.plan.delay_s or LISTEN_S):
        while (await call.receive())["type"] != "http.disconnect":
            pass
        raise Left
    call.plan.listens = False
    await call.answer()


async def works_on(call: Call) -> None:
    """Has something to do after its response."""
    await call.answer()
    await call.sleep(call.plan.delay_s or LISTEN_S)
    await call.receive()


async def swallows(call: Call) -> None:
    """Does something wrong, and handles that."""
    try:
        await call.send("http.response.nonsense")
    except LocalError:
        await call.answer()


async def asks_to_close(call: Call) -> None:
    await call.answer(200, (b"connection", b"close"))


async def no_content(call: Call) -> None:
    await call.start(204)
    await call.end()


# Applications that are not


async def raises(call: Call) -> None:
    raise ApplicationFailure("raised before the start")


async def raises_after_start(call: Call) -> None:
    await call.start()
    raise ApplicationFailure("raised after the start")


async def raises_midway(call: Call) -> None:
    await call.start()
    await call.stream()
    raise ApplicationFailure("raised in the middle of the body")


async def raises_at_last(call: Call) -> None:
    await call.answer()
    raise ApplicationFailure("raised behind the response")


async def silent(call: Call) -> None:
    pass


async def start_only(call: Call) -> None:
    await call.start()


async def ends_early(call: Call) -> None:
    await call.start()
    await call.stream()


async def body_first(call: Call) -> None:
    await call.send("http.response.body", body=call.plan.unit)


async def bad_header(call: Call) -> None:
    await call.answer(200, (b"x", b"\r\nSet-Cookie: y"))


async def text(call: Call) -> None:
    await call.start()
    await call.send("http.response.body", body="text")


async def answers_twice(call: Call) -> None:
    await call.answer()
    await call.answer()


IN_PIECES: dict[str, Callable[[Call], Awaitable[None]]] = {
    "stream": stream,
    "says_chunked": says_chunked,
    "listens": listens,
    "for_ever": stream,
    "declared": stream,
    "declared_short": stream,
    "declared_long": stream,
    "raises_midway": raises_midway,
    "ends_early": ends_early,
}
FAILING: dict[str, Callable[[Call], Awaitable[None]]] = {
    "raises": raises,
    "raises_after_start": raises_after_start,
    "silent": silent,
    "start_only": start_only,
    "body_first": body_first,
    "bad_header": bad_header,
    "text": text,
}
KINDS: dict[str, Callable[[Call], Awaitable[None]]] = {
    **IN_PIECES,
    **FAILING,
    "plain": plain,
    "late": plain,
    "large": plain,
    "echo": echo,
    "echo_stream": echo_stream,
    "talks": talks,
    "sips": sips,
    "reads_part": reads_part,
    "reads_late": reads_late,
    "long_poll": long_poll,
    "works_on": works_on,
    "swallows": swallows,
    "asks_to_close": asks_to_close,
    "no_content": no_content,
    "wrong_length": plain,
    "raises_at_last": raises_at_last,
    "answers_twice": answers_twice,
}
BOTH_WAYS = ("echo_stream", "talks")
"""Those that send before they have received all."""

CUTTING = frozenset("declared_short declared_long raises_midway ends_early".split())
DELAYED = frozenset({"late", "long_poll", "sips", "works_on"})


class AsgiApps(Apps):
    """Plans, and the one ASGI application that carries them out."""

    interface: ClassVar[str] = "ASGI"
    gets_whole: ClassVar[bool] = False
    both_ways: ClassVar[tuple[str, ...]] = (*BOTH_WAYS, "sips")

    def draw_kinds(self, dice: Dice) -> list[str]:
        if dice.chance(0.15):
            return [*sorted(DELAYED), "plain"]  # many are at work at once
        return [*dice.some(tuple(KINDS), dice.pick((0.15, 0.5, 1.0))), "plain"]

    def handler(self, threads: int) -> AsgiHandler:
        return AsgiHandler(self._run)

    def expect(self, plan: Plan, sent: Sent) -> None:
        if plan.kind in BOTH_WAYS and not sent.is_valid:
            plan.kind = "echo"  # nobody knows how much of it comes
        kind = plan.kind
        plan.unit = plan.body = content_of(plan.number, plan.piece_bytes)
        if kind in DELAYED:
            plan.delay_s = self._dice.duration(self._swarm.longest_s)
        if kind in IN_PIECES or kind == "talks":
            self.draw_pieces(plan)
        elif kind in ("echo", "echo_stream"):
            plan.body = sent.body
            plan.streams = kind == "echo_stream"
        elif kind == "large":
            plan.unit = plan.body = content_of(plan.number, 80_000)
        elif kind == "no_content":
            plan.status, plan.body = 204, b""
        plan.closes = kind == "asks_to_close"
        plan.fails = kind in FAILING
        plan.cuts = kind in CUTTING
        self.declare(plan, 1 + self._dice.below(10))
        if sent.method == b"HEAD":
            plan.body = b""
            plan.cuts = kind in ("raises_midway", "ends_early")
        elif kind == "wrong_length":
            plan.fails = True

    async def _run(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        plan = self.begin(scope["path"])
        self.running[plan.number] = plan
        call = Call(self, plan, receive, send)
        try:
            if plan.kind == "late":
                await call.sleep(plan.delay_s)
            await KINDS[plan.kind](call)
        except Left:
            pass
        finally:
            plan.listens = False
            del self.running[plan.number]
            self.see_end(plan.lane)
