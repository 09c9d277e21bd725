"""A sendfile that knows the streams of a world, for a driver that looks for the system's."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from h1core.drivers.engine import files

from .network import SimStream

if TYPE_CHECKING:
    from .swaps import Swap
    from .world import World


class SimSystem:
    """What files.py takes for `os`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def sendfile(self, out: int, descriptor: int, offset: int, count: int) -> int:
        """Write as much of a file as the stream takes; nothing at the file's end. Raises as the stream does."""
        block = os.pread(descriptor, count, offset)
        return self._world.network.streams[out].send(block) if block else 0


def sendfile_swaps(world: World) -> tuple[Swap, ...]:
    """Let the driver take the streams of this world for sockets, to which the system can send files."""
    return (files, "socket", SimpleNamespace(socket=SimStream)), (files, "os", SimSystem(world))
