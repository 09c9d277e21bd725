"""A connection's task on trio: the same pump as the readiness loop's, with waiting in the middle of it.

Theory
------
One task reads, answers and writes, in turns. An ordinary request costs it one wake-up: it waits until the socket is
readable, reads, calls the handler, and writes without waiting. There is no nursery and no cancel scope in that. A
deadline reaches a task that waits for the peer through the transport's wake-ups; the connection's one scope is for a
drain that cannot wait for a handler.

A connection may go on in another task (trio_task.py): then its first one only ends the handler that it is with.

Events wait in `inbox` between whoever reads and whoever takes them. The task reads, a handler that asks for its body
does, and the server reads once before it drains and before it believes a deadline: what came in time counts.

What is owed is written before an application is waited for, because meanwhile nobody would write. Only where writing
would block although the peer still sends is there a second task for a while (`_write_on`): neither side shall wait
for the other to read first.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Final, NamedTuple, TypeAlias

import trio

from h1core.events import Data, Endpoints, Event, Request
from h1core.http1.conn import Conn
from h1core.http1.state import CloseReason, Disposition, State
from h1core.server.fairness import EVENTS_PER_TURN, WRITES_PER_TURN

from .engine.request_body import Collector
from .engine.responses import address_in_words, release
from .trio_task import Task, has_changed, split
from .trio_transport import TrioTransport

logger = logging.getLogger("h1core.server")

KEEP: Final = Disposition.KEEP
LINGER: Final = Disposition.LINGER
OVER: Final = frozenset({State.ENDING, State.CLOSED})


class Host(NamedTuple):
    """What a connection needs of its server."""

    watch: Callable[[Conn], None]
    """Takes note that a connection will wait now."""
    start: Callable[["Connection"], None]
    """Runs a connection in a task of its own."""
    background_begins: Callable[[], bool]
    """Takes note that a task is left to a handler; False when too many are already."""
    background_done: Callable[[], None]
    """Takes note that a handler has ended to which a task was left."""
    gone: Callable[["Connection"], None]
    """Takes note that a connection is over, and its transport closed."""


class Connection:
    """One connection: what its task does, and what others may do to it."""

    __slots__ = (
        "_answer",
        "_collector",
        "_host",
        "_is_drained",
        "_is_reading",
        "_news",
        "_sees_end",
        "_turn",
        "_watch",
        "conn",
        "endpoints",
        "inbox",
        "is_writing",
        "peer",
        "task",
        "transport",
    )

    def __init__(
        self,
        conn: Conn,
        transport: TrioTransport,
        peer: object,
        endpoints: Endpoints,
        answer: "Answer",
        collector: Collector | None,
        host: Host,
    ) -> None:
        self.conn = conn
        self.transport = transport
        self.peer = peer
        self.endpoints = endpoints
        self.inbox: deque[Event] = deque()
        """What has come and was not taken yet."""
        self.task = Task()
        """The one that this connection runs in, now."""
        self._answer = answer
        self._collector = collector
        self._host = host
        self._watch = host.watch
        self._news: trio.lowlevel.ParkingLot | None = None
        self._turn = 0
        """What was done since others last had a chance."""
        self._is_drained = False
        """The last read took all there was, so that the next one will have to wait."""
        self._is_reading = False
        self.is_writing = False
        self._sees_end = False

    # The task

    async def run(self) -> None:
        """Serve the connection to its end. Whatever goes wrong in it ends this connection, and no other (S10)."""
        task = self.task
        wants_another_task = False
        try:
            with task.scope:
                wants_another_task = await task.run(self._converse(task))
        except BaseException as error:  # noqa: BLE001 - also a Cancelled that a body's own scope has let loose here
            self._cut(error, task)
        finally:
            if self.task is not task:
                self._host.background_done()
            elif wants_another_task:
                self._start_anew()
            else:
                await self._end()

    async def _end(self) -> None:
        conn = self.conn
        conn.abort(CloseReason.DRAINING)  # unless it is closed: then it was cancelled
        if self._collector is not None:
            self._collector.give_up()
        try:
            await self.transport.close(reset=conn.disposition is Disposition.ABORT)
        finally:
            self._host.gone(self)

    def go_on(self) -> bool:
        """Leave the task to its handler, whose response is complete, and go on in another; whether that could be."""
        if not self._host.background_begins():
            return False
        self.task.waiter = None
        self._start_anew()
        return True

    def _start_anew(self) -> None:
        self.task = Task()
        self._host.start(self)

    def _cut(self, error: BaseException, task: Task) -> None:
        """Take note of what went wrong in a task, and pass on what is not this connection's."""
        passes, failure = split(error)
        if failure is not None:
            where = address_in_words(self.peer)
            if self.task is task:
                logger.error("the connection to %s is cut because of a bug", where, exc_info=failure)
                self.conn.abort(CloseReason.APPLICATION_FAILED)
            else:
                logger.error("the handler failed after its response to %s", where, exc_info=failure)
        if passes is not None:
            raise passes

    def _guard(self, do: Callable[[], None]) -> None:
        """Do something on behalf of the server: what goes wrong ends this connection, and no other."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - logged in _cut
            self._cut(error, self.task)
            self.task.scope.cancel()

    async def _converse(self, task: Task) -> bool:
        """Take events, write and read, in this order, until the connection is over, or goes on in another task.

        Whether such a task is still to be started.
        """
        conn, inbox = self.conn, self.inbox
        context = copy_context()
        has_ended_output = False
        while True:
            if inbox:
                request = self._take(inbox.popleft())
                if request is not None:
                    if conn.state is State.CLOSED:  # a deadline came right behind it
                        release(request)
                        return False
                    await self._answer(self, request)
                    if self.task is not task:
                        return False
                    if has_changed(context):
                        return True
                if self._turn >= EVENTS_PER_TURN:
                    await self._end_turn()
                continue
            if conn.is_idle:  # fast path: nothing else is to be asked
                await self.read()
                continue
            if events := conn.next_events():
                inbox.extend(events)
                continue
            if conn.output_bytes:
                if self.is_writing or not self.write_now():
                    await self.flush()
                continue
            disposition = conn.disposition
            if disposition is not KEEP:
                if disposition is not LINGER:
                    return False
                if not has_ended_output:
                    has_ended_output = True
                    self._watch(conn)
                    await self.transport.end_output()
                    continue
            assert conn.wants_read, "there is nothing to wait for"
            await self.read()

    def _take(self, event: Event) -> Request | None:
        """Act on one event. A request is to be answered once it is whole, or at once if its handler streams."""
        self._turn += 1
        if type(event) is Request:
            event.endpoints = self.endpoints
            if event.end_stream or self._collector is None:
                return event
        return None if self._collector is None else self._collector.take(event, self.conn)

    async def take_turn(self, most: int = WRITES_PER_TURN) -> None:
        """Count something that did not wait; after so many of them, let other connections have their turn."""
        self._turn += 1
        if self._turn >= most:
            await self._end_turn()

    async def _end_turn(self) -> None:
        self._turn = 0
        await trio.lowlevel.checkpoint()

    # Reading

    async def read(self) -> None:
        """Wait for the peer, and put what came of it into the inbox. May return with nothing: look, and call again."""
        if self._is_reading:
            await self._wait_for_news()
            return
        if self._is_drained:
            self._watch(self.conn)
            self._turn = 0
            self._is_reading = True
            try:
                await self.transport.wait_readable()
            finally:
                self._is_reading = False
                if self._news is not None:
                    self._tell_news()
            self._is_drained = False
        else:
            await self.take_turn()
        if not self._is_reading and not self.inbox:  # nobody else has read meanwhile
            self.read_now()

    def read_now(self) -> None:
        """Read once, if there is something and the connection wants it, without waiting."""
        conn = self.conn
        if not conn.wants_read:
            return
        size = conn.receive_bytes
        try:
            data = self.transport.recv(size)
        except (BlockingIOError, InterruptedError):
            self._is_drained = True
            return
        except OSError:
            self._lose()
            return
        self._is_drained = len(data) < size
        self._sees_end = not data
        self.inbox += conn.receive_data(data)

    def _lose(self) -> None:
        """Take note that the connection broke, and let everybody know who waits."""
        self._sees_end = True
        self.inbox.extend(self.conn.connection_lost())
        self._tell_news()
        self.transport.wake_all()

    @property
    def is_gone(self) -> bool:
        """Whether the peer has closed its side, or the connection is over."""
        return self._sees_end or self.conn.state in OVER

    async def disconnected(self) -> None:
        """Wait until `is_gone`. As long as the peer sends more than is wanted, that cannot be seen."""
        while not self.is_gone:
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Wait until the peer has done something, or somebody else has."""
        if self.conn.wants_read:
            await self.read()
        else:
            await self._wait_for_news()

    def interrupt_waiters(self) -> None:
        """Let the application's tasks that wait here look around."""
        if self._news is not None:
            self._news.unpark_all()
        if self._is_reading:
            self.transport.wake_reader()

    async def _wait_for_news(self) -> None:
        """Wait until somebody else has read, or the connection was woken."""
        self._watch(self.conn)
        if self._news is None:
            self._news = trio.lowlevel.ParkingLot()
        await self._news.park()

    def _tell_news(self) -> None:
        if self._news is not None:
            self._news.unpark_all()

    # Writing

    async def flush(self) -> None:
        """Write all that is owed. It is written when this returns, or never will be. May be called by several tasks."""
        while self.is_writing:
            await self._wait_for_news()
        if not self.conn.output_bytes or self.write_now():
            await self.take_turn()
            return
        self.is_writing = True
        try:
            while self.conn.output_bytes:
                await self._write_on()
        finally:
            self.is_writing = False
            self._tell_news()

    def end_response(self) -> bool:
        """A response is complete: let who waits look around, and write without waiting; whether that was all."""
        if self._is_reading or self._news is not None:
            self.interrupt_waiters()
        return not self.is_writing and self.write_now()

    def write_now(self) -> bool:
        """Write what the transport takes of what is owed, within a turn, without waiting; whether that was all."""
        conn = self.conn
        for _ in range(WRITES_PER_TURN):
            data = conn.data_to_send()
            try:
                sent = self.transport.send(data)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._lose()
                return True
            conn.data_sent(sent)
            if not conn.output_bytes:
                return True
            if sent < len(data):
                return False
        return False

    async def _write_on(self) -> None:
        """Write as the transport takes it, and read meanwhile if the connection wants to."""
        if not self._may_read_on():
            await self._wait_to_write()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_on)
            await self._wait_to_write()
            while self.conn.output_bytes and not (self._may_read_on() and not self.inbox):
                await self._wait_to_write()
            nursery.cancel_scope.cancel()

    def _may_read_on(self) -> bool:
        """Whether nobody reads, and somebody should. No property: mypy would take it not to change."""
        return not self._is_reading and self.conn.wants_read

    async def _wait_to_write(self) -> None:
        """Wait until the transport takes more, and write that."""
        self._watch(self.conn)
        self._turn = 0
        await self.transport.wait_writable()
        if self.conn.output_bytes:
            self.write_now()

    async def _read_on(self) -> None:
        """Read while writing has to wait: bodies that are collected, and one read of anything else."""
        while self.conn.wants_read and not self.inbox:
            await self.read()
            self._collect()
        self._watch(self.conn)  # what has come may have a deadline of its own

    def _collect(self) -> None:
        """Take what came of a body, but not its end: that is a request to be answered."""
        while self._collector is not None and self.inbox:
            event = self.inbox[0]
            if type(event) is Request and not event.end_stream:
                event.endpoints = self.endpoints
            elif type(event) is not Data:
                return
            self._collector.take(self.inbox.popleft(), self.conn)

    # From outside the task

    def look(self) -> None:
        """Read what has come by now. Never raises, as the other two."""
        self._guard(self.read_now)

    def expire(self) -> None:
        """Do what is due by the clock, unless the peer has done in time what it owed."""
        self._guard(self._expire)

    def _expire(self) -> None:
        self.read_now()
        self.inbox.extend(self.conn.handle_deadline())
        self._wake()

    def wake(self) -> None:
        """Let the task see what became of the connection."""
        self._guard(self._wake)

    def _wake(self) -> None:
        conn = self.conn
        self._watch(conn)
        self._tell_news()
        if conn.state is State.CLOSED:
            self.transport.wake_all()
        else:
            self.transport.wake_reader()


Answer: TypeAlias = Callable[[Connection, Request], Awaitable[None]]
"""Gets a request answered, or sees to it that the connection ends."""
