"""Policy over many connections: admission, backlog, deadlines, fairness, drain. No I/O, like `http1`."""

from h1core.server.core import ServerCore
from h1core.server.drain import Phase

__all__ = ["Phase", "ServerCore"]
