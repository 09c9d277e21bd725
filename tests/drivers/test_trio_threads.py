"""Sync handlers on trio: in worker threads, by the same rules of backlog and queue time as in the pool; or inline."""

import logging
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from h1core import Limits, Request, Response, Timeouts

from ..wire import answers, statuses
from .trio_kit import GET, LAST_GET, Served, run, serving

PATIENCE_S = 20.0


def get(target: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *fields, b"", b""])


def where_it_runs(request: Request) -> Response:
    return Response(200, (), threading.current_thread().name.encode() + b" " + request.body)


@pytest.mark.parametrize("threads", [0, 4])
def test_a_sync_handler_gets_whole_requests_in_a_thread_or_inline_with_none(threads: int) -> None:
    async def test() -> None:
        here = threading.current_thread().name
        async with serving(where_it_runs, threads=threads) as served:
            client = await served.connect()
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbo")
            await trio.testing.wait_all_tasks_blocked()
            await client.send(b"dy")
            thread, _, body = answers(await client.rest())[0].body.rpartition(b" ")
            assert body == b"body"
            assert (thread.decode() == here) is (threads == 0)

    run(test)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_one_that_fails_is_a_500_on_a_connection_that_goes_on(
    error: type[BaseException], threads: int, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: Request) -> Response:
        if request.target == b"/fail":
            raise error("as asked")
        return Response(200)

    async def test() -> None:
        async with serving(handler, threads=threads) as served:
            assert statuses(await served.ask(get(b"/fail") + LAST_GET)) == [500, 200]

    run(test)
    assert [record.getMessage() for record in caplog.records] == ["the handler failed on GET /fail HTTP/1.1"]


class Gate:
    """A handler that waits in its thread until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def __call__(self, request: Request) -> Response:
        self.calls += 1
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        return Response(200)

    async def until_entered(self) -> None:
        await trio.to_thread.run_sync(lambda: self.entered.acquire(timeout=PATIENCE_S))


def test_beyond_the_backlog_a_request_is_turned_away_at_once() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(gate, threads=1, limits=Limits(max_queued_requests=1)) as served:
            running, queued = await served.connect(), await served.connect()
            await running.send(LAST_GET)
            await gate.until_entered()
            await queued.send(LAST_GET)
            await trio.testing.wait_all_tasks_blocked(0.01)
            shed = await served.ask(GET)
            assert statuses(shed) == [503]
            assert b"retry-after: 1\r\n" in shed
            assert b"connection: close\r\n" in shed
            gate.open.set()
            assert statuses(await running.rest()) + statuses(await queued.rest()) == [200, 200]
            assert statuses(await served.ask(LAST_GET)) == [200]

    run(test)


def test_one_that_waited_too_long_for_a_thread_is_turned_away_and_not_run() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(gate, threads=1, timeouts=Timeouts(queue_timeout=0.02)) as served:
            running, queued = await served.connect(), await served.connect()
            await running.send(LAST_GET)
            await gate.until_entered()
            await queued.send(LAST_GET)
            await trio.sleep(0.05)
            gate.open.set()
            assert statuses(await running.rest()) + statuses(await queued.rest()) == [200, 503]
            assert gate.calls == 1

    run(test)


class Lines:
    """A handler with a body of many pieces, which remembers what became of it."""

    def __init__(self, size: int, count: int = 1 << 30) -> None:
        self.size = size
        self.count = count
        self.pulled = 0
        self.closed = threading.Event()

    def __call__(self, request: Request) -> Response:
        return Response(200, (), self.lines())

    def lines(self) -> Iterator[bytes]:
        try:
            for _ in range(self.count):
                self.pulled += 1
                yield b"x" * self.size
        finally:
            self.closed.set()

    async def until_closed(self) -> None:
        assert await trio.to_thread.run_sync(lambda: self.closed.wait(PATIENCE_S))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_streamed_body_arrives_whole(threads: int) -> None:
    async def test() -> None:
        lines = Lines(10, 500)
        async with serving(lines, threads=threads) as served:
            assert [len(answer.body) for answer in answers(await served.ask(GET + LAST_GET))] == [5000, 5000]
            assert lines.closed.is_set()

    run(test)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_client_that_never_reads_a_stream_holds_no_thread_and_its_iterator_is_closed(threads: int) -> None:
    async def test() -> None:
        lines = Lines(100_000)

        def handler(request: Request) -> Response:
            return lines(request) if request.target == b"/lines" else Response(200)

        async with serving(handler, threads=threads, timeouts=Timeouts(write_timeout=0.2)) as served:
            never_reads = await served.connect()
            await never_reads.send(get(b"/lines"))
            await never_reads.until(b"\r\n\r\n")
            assert statuses(await served.ask(LAST_GET)) == [200]
            await lines.until_closed()
            assert lines.pulled < 1000

    run(test)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_client_that_leaves_in_the_middle_of_a_stream_lets_its_iterator_be_closed(threads: int) -> None:
    async def test() -> None:
        lines = Lines(100_000)
        async with serving(lines, threads=threads) as served:
            client = await served.connect()
            await client.send(GET)
            await client.until(b"\r\n\r\n")
            await client.reset()
            await lines.until_closed()

    run(test)


def test_a_stream_that_fails_is_visibly_cut(caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise ValueError("as asked")

        return Response(200, (), pieces())

    async def test() -> None:
        async with serving(handler) as served:
            assert (await served.ask(GET)).endswith(b"3\r\none\r\n")  # neither a last chunk nor a reset

    run(test)
    assert "the handler's body failed" in caplog.text


class StopsItself:
    """An iterator whose end comes out of the middle of it; it may say so, as PEP 479 is about generators only."""

    def __init__(self) -> None:
        self.left = 2

    def __iter__(self) -> "StopsItself":
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"piece"


def test_any_iterator_will_do() -> None:
    async def test() -> None:
        async with serving(lambda request: Response(200, (), StopsItself())) as served:
            assert answers(await served.ask(LAST_GET))[0].body == b"piecepiece"

    run(test)


# A thread that is not given back.


async def _drained(served: Served) -> None:
    served.drain.set()
    await served.has_ended.wait()


@pytest.mark.parametrize("end", ["drain", "cancel"])
def test_a_handler_that_never_returns_holds_up_neither_others_nor_the_end(end: str) -> None:
    gate = Gate()

    async def test() -> None:
        def handler(request: Request) -> Response:
            return gate(request) if request.target == b"/stuck" else Response(200)

        async with serving(handler, threads=2, timeouts=Timeouts(drain_timeout=0.05)) as served:
            stuck = await served.connect()
            await stuck.send(get(b"/stuck"))
            await gate.until_entered()
            assert statuses(await served.ask(LAST_GET)) == [200]
            if end == "drain":
                await _drained(served)
            else:
                served.scope.cancel()
                await served.has_ended.wait()
            assert await stuck.rest() == b"[reset]"
        gate.open.set()

    run(test)


def test_what_a_late_thread_brings_is_closed_though_nobody_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        gate, lines = Gate(), Lines(10)

        def handler(request: Request) -> Response:
            gate(request)
            return lines(request)

        async with serving(handler) as served:
            client = await served.connect()
            await client.send(GET)
            await gate.until_entered()
            served.scope.cancel()
            await served.has_ended.wait()
            assert not lines.closed.is_set()
            gate.open.set()
            await lines.until_closed()

    run(test)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_need_not_wait_for_the_end_of_a_body_until_the_application_has_cleaned_up() -> None:
    may_close = threading.Event()

    class Body(list[bytes]):
        def close(self) -> None:
            assert may_close.wait(PATIENCE_S)

    async def test() -> None:
        async with serving(lambda request: Response(200, (), Body([b"all"])), threads=1) as served:
            client = await served.connect()
            await client.send(LAST_GET)
            await client.until(b"3\r\nall\r\n0\r\n\r\n")
            may_close.set()

    run(test)
