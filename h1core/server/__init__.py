"""Policy over many connections: who may come in, whose deadline is next, how the server ends. Pure, like the core."""

from h1core.server.core import ServerCore
from h1core.server.drain import Phase

__all__ = ["Phase", "ServerCore"]
