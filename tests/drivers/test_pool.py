"""Real threads: what passes between them and the loop. Whoever waits here waits for an event, and not for time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import Context
from pathlib import Path

import pytest
from h1core.drivers.engine.pool import Job, Pool, Work
from h1core.drivers.engine.response_body import END, PENDING, BodyFailed, BodySource, NoPiece
from h1core.drivers.engine.worker_source import WorkerSource

from h1core import Request, Response
from h1core.app.handler import Handler, SpooledRequest
from h1core.errors import Disconnected, LocalError

from .world import error_lines, hello

PATIENCE_S = 20.0
"""When a test that waits for something gives up; nothing waits for it to pass."""

REQUEST = Request(b"GET", b"/", [(b"host", b"a")])


class Wakes:
    """The loop's wake channel: it counts, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE_S), "nobody woke the loop"


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "it never came to that"


class Bench:
    """A pool, and the loop's side of it."""

    def __init__(self, threads: int) -> None:
        self.wakes = Wakes()
        self.pool = Pool(threads, self.wakes)
        self.taken: list[Job] = []

    def job(self, handler: Handler = hello, max_bytes: int = 1000, owner: object = None) -> Job:
        job = Job(owner, REQUEST, 0.0, Work(handler, lambda at: False, max_bytes, 10**6, self.pool.post, Context()))
        self.pool.submit(job)
        return job

    def take(self) -> list[Job]:
        jobs = self.pool.take_posted()
        self.taken += jobs
        return jobs

    def take_until(self, condition: Callable[[], bool]) -> None:
        """Be the loop: sleep until woken, then look."""
        seen = 0
        while True:
            self.take()
            if condition():
                return
            self.wakes.wait_for(seen + 1)
            seen = self.wakes.count

    def end(self) -> None:
        self.pool.close()
        for thread in self.pool._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a worker is held"


@pytest.fixture
def make_bench() -> Iterator[Callable[[int], Bench]]:
    """Makes pools; in the end all their threads must end."""
    with ExitStack() as at_exit:

        def make(threads: int) -> Bench:
            bench = Bench(threads)
            at_exit.callback(bench.end)
            return bench

        yield make


MakeBench = Callable[[int], Bench]


# Jobs.


def test_a_job_is_run_in_a_worker_and_posted_when_it_is_over(make_bench: MakeBench) -> None:
    ran_in: list[str] = []

    def handler(request: Request) -> Response:
        ran_in.append(threading.current_thread().name)
        return Response(201)

    bench = make_bench(1)
    job = bench.job(handler)
    bench.wakes.wait_for(1)
    assert bench.take() == [job]
    assert (job.first, job.source, job.is_over) == (Response(201), None, True)
    assert ran_in == ["h1core-worker-0"]


def test_one_thread_runs_jobs_in_their_order(make_bench: MakeBench) -> None:
    order: list[int] = []

    def note(number: int) -> Handler:
        def handler(request: Request) -> Response:
            order.append(number)
            return Response(200)

        return handler

    bench = make_bench(1)
    jobs = [bench.job(note(number)) for number in range(200)]
    bench.take_until(lambda: len(bench.taken) == 200)
    assert order == list(range(200))
    assert bench.taken == jobs


def test_as_many_jobs_run_at_once_as_there_are_threads(make_bench: MakeBench) -> None:
    together = threading.Barrier(4)

    def meet(request: Request) -> Response:
        together.wait(PATIENCE_S)
        return Response(200)

    bench = make_bench(4)
    jobs = [bench.job(meet) for _ in range(8)]
    bench.take_until(lambda: len(bench.taken) == 8)
    assert [job.first for job in jobs] == [Response(200)] * 8


def test_the_loop_is_woken_once_until_it_looks(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    runs = threading.Event()

    def tell(request: Request) -> Response:
        runs.set()
        return Response(200)

    for _ in range(50):
        bench.job()
    bench.job(tell)
    wait_for(runs)
    assert bench.wakes.count == 1
    bench.take_until(lambda: len(bench.taken) == 51)
    count = bench.wakes.count
    bench.job()
    bench.wakes.wait_for(count + 1)


def test_every_job_that_is_posted_is_taken(make_bench: MakeBench) -> None:
    """Thousands of posts, from all threads at once, to a loop that sleeps whenever nobody woke it."""
    bench = make_bench(4)
    jobs = [bench.job() for _ in range(5000)]
    bench.take_until(lambda: len(bench.taken) == 5000)
    assert set(bench.taken) == set(jobs)
    assert bench.wakes.count <= 5000


def test_a_handler_that_raises_whatever_does_not_cost_the_thread(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(error: BaseException) -> Handler:
        def handler(request: Request) -> Response:
            raise error

        return handler

    bench = make_bench(1)
    errors = [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()]
    jobs = [bench.job(raises(error)) for error in errors]
    good = bench.job()
    bench.take_until(lambda: good in bench.taken)
    assert [job.first and job.first.status for job in [*jobs, good]] == [500, 500, 500, 500, 200]
    assert error_lines(caplog) == ["the handler failed on GET / HTTP/1.1"] * 4


def test_a_stale_job_has_no_answer(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    job = Job(None, REQUEST, 0.0, Work(hello, lambda ready_at: True, 1000, 1000, bench.pool.post, Context()))
    bench.pool.submit(job)
    bench.take_until(lambda: job in bench.taken)
    assert (job.first, job.source, job.is_over) == (None, None, True)


def test_threads_end_after_the_pool_was_closed_and_their_jobs_are_done(make_bench: MakeBench) -> None:
    bench = make_bench(3)
    held, goes_on = threading.Event(), threading.Event()

    def hold(request: Request) -> Response:
        held.set()
        wait_for(goes_on)
        return Response(200)

    job = bench.job(hold)
    wait_for(held)
    bench.pool.close()
    goes_on.set()
    for thread in bench.pool._threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in bench.pool._threads)
    assert bench.take() == [job]


def test_a_worker_that_is_held_does_not_hold_the_process(make_bench: MakeBench) -> None:
    assert all(thread.daemon for thread in make_bench(2).pool._threads)


# Streamed bodies.


class Body:
    """An iterator of pieces that remembers what was done to it."""

    def __init__(self, *pieces: bytes, raises: BaseException | None = None, raises_in_close: bool = False) -> None:
        self._pieces = list(pieces)
        self._raises = raises
        self._raises_in_close = raises_in_close
        self.pulled = 0
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.pulled < len(self._pieces):
            self.pulled += 1
            return self._pieces[self.pulled - 1]
        if self._raises is not None:
            raise self._raises
        raise StopIteration

    def close(self) -> None:
        self.closed += 1
        if self._raises_in_close:
            raise SystemExit("in close")


class Waiting(Body):
    """It says when it was asked for its last piece but one: the worker waits from then on, or soon."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.is_full = threading.Event()

    def __next__(self) -> bytes:
        piece = super().__next__()
        if self.pulled == len(self._pieces) - 1:
            self.is_full.set()
        return piece


def rest(pieces: BodySource | None) -> list[bytes]:
    """All there is, without waiting."""
    assert isinstance(pieces, WorkerSource)
    found = []
    while not isinstance(piece := pieces.next_piece(), NoPiece):
        found.append(piece)
    return found


def last(pieces: BodySource | None) -> bytes | NoPiece:
    assert isinstance(pieces, WorkerSource)
    return pieces.next_piece()


def streamed(body: object) -> Handler:
    def handler(request: Request) -> Response:
        assert isinstance(body, Body)
        return Response(200, (), body)

    return handler


def test_a_streamed_body_comes_piece_by_piece_and_ends(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    body = Body(b"one", b"", b"two", b"three")
    job = bench.job(streamed(body))
    bench.take_until(lambda: job.is_over)
    assert job.first == Response(200, (), None)
    assert rest(job.source) == [b"one", b"two", b"three"]
    assert last(job.source) is END
    assert (body.pulled, body.closed) == (4, 1)


def test_a_body_without_pieces_only_ends(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    body = Body()
    job = bench.job(streamed(body))
    bench.take_until(lambda: job.is_over)
    assert last(job.source) is END
    assert body.closed == 1


def test_the_worker_waits_while_its_client_is_behind(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    body = Waiting(b"x" * 600, b"y" * 600, b"z" * 600, b"!" * 600)
    job = bench.job(streamed(body), max_bytes=1000)
    bench.take_until(lambda: job.source is not None)
    wait_for(body.is_full)
    assert not job.is_over
    assert body.pulled == 3, "two wait, one does not fit"
    assert last(job.source) == b"x" * 600
    found: list[bytes] = []

    def all_have_come() -> bool:
        found.extend(rest(job.source))
        return len(found) == 3

    bench.take_until(all_have_come)
    bench.take_until(lambda: job.is_over)
    assert last(job.source) is END
    assert found == [b"y" * 600, b"z" * 600, b"!" * 600]


@pytest.mark.parametrize(("waiting_bytes", "pulled"), [(999, 3), (1000, 3), (1001, 2)])
def test_there_is_room_up_to_the_mark(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, waiting_bytes: int, pulled: int
) -> None:
    """Looked at before a piece is added, so that one piece may pass it; the next one waits."""
    waits = threading.Event()
    wait = threading.Condition.wait

    def tell(condition: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread().name.startswith("h1core-worker"):
            waits.set()
        return wait(condition, timeout)

    bench = make_bench(1)
    monkeypatch.setattr(threading.Condition, "wait", tell)
    body = Body(b"x" * waiting_bytes, b"y" * 1000, b"z", b"!")
    job = bench.job(streamed(body), max_bytes=1000)
    wait_for(waits)
    assert body.pulled == pulled
    job.abandon()


def test_a_client_that_is_gone_releases_the_worker_that_waits(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    body = Waiting(b"x" * 2000, b"y", b"z")
    job = bench.job(streamed(body), max_bytes=1000)
    wait_for(body.is_full)
    bench.take_until(lambda: job.source is not None)
    assert job.source is not None
    job.source.close()
    bench.take_until(lambda: job.is_over)
    assert (body.pulled, body.closed) == (2, 1)
    after = bench.job()
    bench.take_until(lambda: after.is_over)


def test_what_the_worker_is_told_is_that_the_client_is_gone() -> None:
    job = Job(None, REQUEST, 0.0, Work(hello, lambda ready_at: False, 1000, 1000, lambda job: None, Context()))
    pieces = WorkerSource(job, 1000, 1000, lambda job: None)
    pieces.close()
    with pytest.raises(Disconnected, match="the client is gone"):
        pieces.put(b"x")
    with pytest.raises(Disconnected):
        pieces.put(b"")


def test_a_job_that_was_abandoned_before_it_streamed_is_released(make_bench: MakeBench) -> None:
    """Its connection ended while the handler ran; the loop has no `pieces` to close, and may never look again."""
    bench = make_bench(1)
    runs, goes_on = threading.Event(), threading.Event()
    body = Body(*[b"x" * 600] * 100)

    def handler(request: Request) -> Response:
        runs.set()
        wait_for(goes_on)
        return Response(200, (), body)

    job = bench.job(handler, max_bytes=1000)
    wait_for(runs)
    job.abandon()
    goes_on.set()
    bench.end()
    assert (body.pulled, body.closed) == (1, 1)
    assert job.is_over


def test_a_job_that_was_abandoned_while_it_streams_is_released(make_bench: MakeBench) -> None:
    bench = make_bench(1)
    body = Waiting(b"x" * 2000, b"y", b"z")
    job = bench.job(streamed(body), max_bytes=1000)
    wait_for(body.is_full)
    job.abandon()
    bench.end()
    assert (body.pulled, body.closed) == (2, 1)


def test_pieces_that_say_nothing_take_no_memory_and_do_not_hide_that_the_client_is_gone(
    make_bench: MakeBench,
) -> None:
    class Nothing(Body):
        enough = threading.Event()

        def __next__(self) -> bytes:
            self.pulled += 1
            if self.pulled == 10_000:
                self.enough.set()
            return b""

    bench = make_bench(1)
    body = Nothing()
    job = bench.job(streamed(body))
    wait_for(body.enough)
    assert isinstance(job.source, WorkerSource)
    assert len(job.source._waiting) == 0
    job.abandon()
    bench.end()
    assert body.closed == 1


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), Disconnected("from somewhere else")])
def test_a_body_that_raises_fails_after_what_came_before(make_bench: MakeBench, error: BaseException) -> None:
    bench = make_bench(1)
    body = Body(b"one", b"two", raises=error)
    job = bench.job(streamed(body))
    bench.take_until(lambda: job.is_over)
    assert job.source is not None
    assert [job.source.next_piece(), job.source.next_piece()] == [b"one", b"two"]
    with pytest.raises(BodyFailed) as caught:
        job.source.next_piece()
    assert caught.value.__cause__ is error
    assert body.closed == 1


@pytest.mark.parametrize("piece", [None, 5, object()])
def test_a_piece_that_has_no_length_is_a_failure(make_bench: MakeBench, piece: bytes) -> None:
    bench = make_bench(1)
    body = Body(piece)
    job = bench.job(streamed(body))
    bench.take_until(lambda: job.is_over)
    with pytest.raises(BodyFailed) as caught:
        last(job.source)
    assert isinstance(caught.value.__cause__, LocalError)
    assert body.closed == 1


def test_a_body_whose_close_raises_whatever_does_not_cost_the_thread(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(1)
    body = Body(b"one", raises_in_close=True)
    job = bench.job(streamed(body))
    bench.take_until(lambda: job.is_over)
    assert rest(job.source) == [b"one"]
    assert last(job.source) is END
    assert body.closed == 1
    assert error_lines(caplog) == ["closing the handler's body failed"]
    after = bench.job()
    bench.take_until(lambda: after.is_over)


def test_the_loop_is_told_of_the_first_piece_and_of_the_end(make_bench: MakeBench) -> None:
    """A stream that dawdles: each piece reaches a loop that sleeps in between."""
    bench = make_bench(1)
    go = threading.Semaphore(0)

    class Dawdling(Body):
        def __next__(self) -> bytes:
            assert go.acquire(timeout=PATIENCE_S)
            return super().__next__()

    job = bench.job(streamed(Dawdling(b"one", b"two", b"three")))
    assert bench.take() == [], "nothing is said before the first piece"
    go.release()
    bench.take_until(lambda: job.source is not None and last(job.source) == b"one")
    for piece in (b"two", b"three"):
        assert last(job.source) is PENDING
        woken = bench.wakes.count
        bench.take()
        go.release()
        bench.wakes.wait_for(woken + 1)
        assert bench.take() == [job]
        assert last(job.source) == piece
    go.release()
    bench.take_until(lambda: job.is_over)
    assert last(job.source) is END


def test_the_file_of_a_request_that_no_worker_has_taken_is_given_back_in_the_end(tmp_path: Path) -> None:
    file = (tmp_path / "body").open("w+b")
    pool = Pool(0, lambda: None)
    request = SpooledRequest(Request(b"POST", b"/", ()), file)
    pool.submit(Job(None, request, 0.0, Work(hello, lambda at: False, 0, 0, pool.post, Context())))
    pool.close()
    assert file.closed
