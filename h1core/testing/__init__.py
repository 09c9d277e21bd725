"""Tools for tests that need an HTTP server without a network or a real clock."""

from h1core.testing.clock import FakeClock
from h1core.testing.network import Deadlock, MemoryClient, MemoryListener, MemoryNetwork, MemorySelector

__all__ = ["Deadlock", "FakeClock", "MemoryClient", "MemoryListener", "MemoryNetwork", "MemorySelector"]
