"""Worlds for the tests of the readiness loop in memory."""

from collections.abc import Iterator

import pytest

from .world import MakeWorld, World, count_writes, worlds


@pytest.fixture
def make_world() -> Iterator[MakeWorld]:
    with worlds() as make:
        yield make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return count_writes(monkeypatch)
