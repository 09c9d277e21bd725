"""A row's handler in each way in which a driver can run one: what it says is the same in all of them."""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import anyio.lowlevel
from h1core.drivers.engine.options import Options
from h1core.drivers.net.transport import Selector

from h1core import Data, EndOfMessage, Request, Response
from h1core.app.exchange import Exchange, StreamingHandler
from h1core.app.handler import AsyncHandler, Handler, close_pieces

from .scenario import Kind, Row, Stage


def as_kind(row: Row, kind: Kind, stage: Stage) -> Any:
    """A row's handler, to be run in this way; what it says is the same in each."""

    def handler(request: Request) -> Response:
        if row.is_held:
            stage.park()
        response = _called(row.handler, request)
        if row.held_after and is_stream(response.body):
            response.body = _held(response.body, row.held_after, stage)
        return response

    async def async_handler(request: Request) -> Response:
        if row.is_held:
            await stage.park_task()
        await anyio.lowlevel.checkpoint()
        response = _called(row.handler, request)
        if type(response) is Response and is_stream(response.body):
            response.body = _slowly(response.body, row.held_after, stage)
        return response

    async def exchange_handler(exchange: Exchange) -> Response | None:
        body = await exchange.read()
        request = replace(exchange.request, body=body)
        if row.is_held:
            await stage.park_task()
        response = _called(row.handler, request)
        if type(response) is not Response or not is_stream(response.body):
            return response
        await _send_stream(exchange, response, row.held_after, stage)
        return None

    match kind:
        case Kind.ASYNC:
            by_task: AsyncHandler = async_handler
            return by_task
        case Kind.EXCHANGE:
            return StreamingHandler(exchange_handler)
    return handler


def _called(handler: Handler | None, request: Request) -> Response:
    assert handler is not None, "no request was expected"
    return handler(request)


def is_stream(body: object) -> bool:
    return isinstance(body, Iterable) and not isinstance(body, bytes | bytearray | memoryview | str)


def _held(pieces: Any, held_after: int, stage: Stage) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        if number == held_after:
            stage.park()
        yield piece


async def _slowly(pieces: Any, held_after: int | None, stage: Stage) -> AsyncIterator[bytes]:
    try:
        for number, piece in enumerate(pieces):
            if number == held_after:
                await stage.park_task()
            await anyio.lowlevel.checkpoint()
            yield piece
    finally:
        close_pieces(pieces)


async def _send_stream(exchange: Exchange, response: Response, held_after: int | None, stage: Stage) -> None:
    """What a driver does with pieces."""
    pieces: Iterator[bytes] = iter(response.body)  # type: ignore[arg-type]  # `is_stream` has said so
    try:
        first = list(islice(pieces, 1))
        await exchange.send(Response(response.status, response.headers, None))
        for number, piece in enumerate(chain(first, pieces)):
            if number == held_after:
                await stage.park_task()
            await exchange.send(Data(piece))
        await exchange.send(EndOfMessage())
    finally:
        close_pieces(pieces)


def options_of(row: Row, kind: Kind, scale: float, selector: Selector | None = None) -> Options:
    """The options of a row's server, alike on all hosts."""
    return Options(
        selector=selector,
        limits=row.make_limits(),
        timeouts=row.make_timeouts(scale),
        wall_clock=lambda: 0.0,
        threads=1 if kind is Kind.THREADS else 0,
    )
