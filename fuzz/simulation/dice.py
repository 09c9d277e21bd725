"""Randomness, all of it from one number: a generator for each concern, so that a draw in one shifts no other."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice(random.Random):
    """A generator with the questions that are asked here."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pick(self, among: Sequence[T]) -> T:
        return among[int(self.random() * len(among))]

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1; several times as fast as `randrange`."""
        return int(self.random() * limit)

    def some(self, among: Sequence[T], probability: float) -> list[T]:
        """Each of them or not, one at least: what is on in a run is on, and the rest is off (swarm testing)."""
        return [each for each in among if self.chance(probability)] or [self.pick(among)]

    def duration(self, longest: float) -> float:
        """Seconds: often none, mostly few, sometimes nearly the longest. Exact in binary."""
        if self.random() < 0.3:
            return 0.0
        return round(longest * self.random() ** 4 * 1024) / 1024


class Concerns:
    """The generators of one run."""

    def __init__(self, seed: int) -> None:
        self.swarm = Dice(f"{seed}/swarm")
        self.network = Dice(f"{seed}/network")
        self.clients = Dice(f"{seed}/clients")
        self.apps = Dice(f"{seed}/apps")
        self.pool = Dice(f"{seed}/pool")
        self.driver = Dice(f"{seed}/driver")
        self.interface = Dice(f"{seed}/interface")
