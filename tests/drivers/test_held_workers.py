"""Workers that go on for clients that have left: counted, and named in the log."""

import logging

import pytest

from .world import MakeWorld, get


def test_a_worker_that_goes_on_for_nobody_is_named_once(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(threads=4)
    client = world.connect(get(b"/stuck"))
    world.tick(2)
    job = world.workers.jobs[0]
    job.worker = "h1core-worker-2"
    assert job.claim(), "a worker has begun it"
    client.reset()
    world.tick(2)
    world.clock.advance(4.875)
    world.tick()
    assert caplog.messages == []
    world.clock.advance(0.125)
    world.tick(2)
    assert caplog.messages == [
        "GET /stuck HTTP/1.1 still runs in h1core-worker-2, though nobody has waited for it for 5 s; "
        "1 of 4 workers are held in this way"
    ]
    assert len(world.core.held_workers.blocked) == 1
    job.is_over = True
    world.workers.post(job)
    world.workers.jobs.clear()
    world.tick()
    assert not world.core.held_workers.blocked


def test_a_request_that_no_worker_has_begun_is_not_named(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = make_world(threads=1)
    client = world.connect(get(b"/waits"))
    world.tick(2)
    client.reset()
    world.tick(2)
    assert world.core.backlog.left == 1
    world.clock.advance(20.0)
    world.tick()
    assert caplog.messages == []
    world.work()
    assert world.core.backlog.outstanding == 0
