"""Coroutines that wait: none for something that is there, nor for something that cannot come.

What each waits for is noted by the calls that it is in, and judged from the connection alone, not by what the engine
believes. So two sides that wait for each other are found when they begin to, and not when a deadline parts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from h1core.drivers.engine.exchange import EngineExchange
from h1core.drivers.engine.responding import OVER

from h1core.http1.receiving import READING
from h1core.http1.state import State
from h1core.testing.network import READ

from .invariants import Invariant, violated
from .swaps import Swap
from .watched import WatchedConn

BODY_MAY_COME: Final = frozenset({State.RECEIVING, State.DUPLEX})
CALLS: Final = ("_next_piece", "flush", "wait_disconnected", "wait_client_gone")


class Waits:
    """Which coroutines of one server run, and which of its calls each is in."""

    def __init__(self) -> None:
        self.coroutines = 0
        """Those that have begun and not ended."""
        self._calls: Counter[tuple[EngineExchange, str]] = Counter()

    def swaps(self) -> list[Swap]:
        """What is to be put in place of the calls, while the server runs."""
        noted: list[Swap] = [(EngineExchange, name, self._noted(name)) for name in CALLS]
        return [(EngineExchange, "run", self._counted()), *noted]

    def _counted(self) -> Callable[[EngineExchange], Coroutine[Any, Any, Any]]:
        run = EngineExchange.run

        async def counted(exchange: EngineExchange) -> None:
            self.coroutines += 1
            try:
                await run(exchange)
            finally:
                self.coroutines -= 1

        return counted

    def _noted(self, name: str) -> Callable[[EngineExchange], Coroutine[Any, Any, Any]]:
        call = getattr(EngineExchange, name)

        async def noted(exchange: EngineExchange) -> Any:
            self._calls[exchange, name] += 1
            try:
                return await call(exchange)
            finally:
                self._calls[exchange, name] -= 1
                if not self._calls[exchange, name]:
                    del self._calls[exchange, name]

        return noted

    def see_sleep(self) -> None:
        """Look at those that wait; called when nothing is left to be done, and time is to pass."""
        for exchange, name in self._calls:
            what = in_vain(exchange, name)
            if what is not None:
                conn = exchange._session.conn
                assert isinstance(conn, WatchedConn)
                violated(Invariant.NOT_OVERLOOKED, f"a coroutine {what}: {conn.clocks()}", conn.lane)


def in_vain(exchange: EngineExchange, name: str) -> str | None:
    """What is wrong with a wait, if anything is."""
    session = exchange._session
    conn = session.conn
    assert isinstance(conn, WatchedConn)
    match name:
        case "_next_piece":
            if exchange._inbox:
                return "waits for a piece of the body that has come"
            if conn.state not in BODY_MAY_COME or not exchange._is_current():
                return "waits for a body that will not come"
            if conn._demand is not READING or conn.stream.ready & READ:
                return "waits for its client, and that for it"
        case "flush":
            if not conn.output_bytes:
                return "waits until all is written, and it is"
        case "wait_disconnected":
            if session.is_disconnected:
                return "waits for its client to leave, which has"
        case "wait_client_gone":
            if (
                not exchange._is_current()
                or conn.state in OVER
                or (session.is_disconnected and not exchange._ended_early)
            ):
                return "waits until nobody wants its response, and nobody does"
    return None
