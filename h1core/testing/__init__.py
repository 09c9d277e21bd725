"""Tools for tests that need an HTTP server without a network or a real clock."""

from h1core.testing.answers import Answer, answers
from h1core.testing.client import Client, Peer
from h1core.testing.clock import FakeClock
from h1core.testing.network import Deadlock, MemoryClient, MemoryListener, MemoryNetwork, MemorySelector
from h1core.testing.workers import FakeWorkers

__all__ = [
    "Answer",
    "Client",
    "Deadlock",
    "FakeClock",
    "FakeWorkers",
    "MemoryClient",
    "MemoryListener",
    "MemoryNetwork",
    "MemorySelector",
    "Peer",
    "answers",
]
