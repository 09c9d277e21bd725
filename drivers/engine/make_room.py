"""A place for a newcomer at `max_connections`: the connection that has been idle longest is closed."""

from collections.abc import Mapping
from typing import Final

from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason
from h1core.server import ServerCore

from .session import Session

TRIES: Final = 8
"""Idle connections that are looked at for one newcomer: each may turn out to have a request in its socket."""


def make_room(core: ServerCore, sessions: Mapping[Conn, Session]) -> bool:
    """Close the connection that has been idle longest; return whether there is room now. Never raises.

    Its socket is read first: a connection whose next request has arrived is not idle, and is served.
    """
    for _ in range(TRIES):
        conn = core.longest_idle()
        if conn is None:
            return False
        session = sessions.get(conn)
        if session is None:
            continue
        events = session.read()
        if events is None:
            continue  # its application is still at work after the last response
        if not (events or session.io.sees_end):
            conn.close_idle(CloseReason.MADE_ROOM)
        session.pump(events)
        if not core.is_full:
            return True
    return False
