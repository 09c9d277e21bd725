"""Replies of async handlers, without a server."""

from collections.abc import AsyncIterator

import trio
import trio.testing
from h1core.drivers.trio_replies import reply_async

from h1core import Request, Response


class EndlessWait:
    """A body whose first piece never comes."""

    def __init__(self) -> None:
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        self.closed += 1


def test_a_body_that_is_cancelled_before_its_first_piece_is_closed() -> None:
    """Simulation, trio, seed 3214: a drain that ran out left it open."""
    body = EndlessWait()

    async def handler(request: Request) -> Response:
        return Response(200, (), body)

    async def reply_and_cancel() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reply_async, handler, Request(b"GET", b"/", []))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    trio.run(reply_and_cancel)
    assert body.closed == 1
