"""Servers that are none: they count request lines and answer each with canned bytes. What Python can do.

python benchmarks/floors.py NAME PORT [canned|closing|large]

epoll         one loop on epoll
pool          the same, with four worker threads that hand each answer back through an eventfd
trio-stream   trio.serve_tcp, a task for each connection on its SocketStream
trio-direct   trio, a task for each connection that receives and sends at once, and waits only when it would block
trio-epoll    the same tasks, woken by one task that waits for one epoll, which watches all connections edge-triggered

Answers are small; or the connection closes behind each; or they are 1 MiB. pool and trio-stream know only the first.
"""

import contextlib
import functools
import os
import queue
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import trio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n"
SMALL = HEAD % 14 + b"\r\nHello, world!\n"
ANSWERS = {
    "canned": SMALL,
    "closing": HEAD % 14 + b"connection: close\r\n\r\nHello, world!\n",
    "large": HEAD % (1 << 20) + b"\r\n" + bytes(1 << 20),
}
REQUEST = b" HTTP/1.1\r\n"
READ_BYTES = 65536


def listener(port: int) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    sock.setblocking(False)
    return sock


def accepted(sock: socket.socket) -> socket.socket:
    connection, _ = sock.accept()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(READ_BYTES)
    except OSError:
        return b""


def send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.send(data)
    except OSError:
        pass  # the client has gone


# One loop


def epoll(port: int, mode: str) -> None:
    if mode == "large":
        return epoll_large(port)
    sock, poll, answer = listener(port), select.epoll(), ANSWERS[mode]
    closes = mode == "closing"
    poll.register(sock, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == sock.fileno():
                connection = accepted(sock)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            data = received(connections[fd])
            if count := data.count(REQUEST):
                send(connections[fd], answer * count)
            if closes or not data:
                connections.pop(fd).close()


def epoll_large(port: int) -> None:
    """Edge-triggered, so that a wait for room costs no call."""
    sock, poll, answer = listener(port), select.epoll(), memoryview(ANSWERS["large"])
    poll.register(sock, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    rests: dict[int, memoryview] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == sock.fileno():
                connection = accepted(sock)
                connections[connection.fileno()] = connection
                rests[connection.fileno()] = answer[:0]
                poll.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
                continue
            connection, rest = connections[fd], rests[fd]
            try:
                if not rest:
                    if not connection.recv(READ_BYTES):
                        connections.pop(fd).close()
                        continue
                    rest = answer
                while rest:
                    rest = rest[connection.send(rest) :]
            except BlockingIOError:
                pass
            except OSError:
                connections.pop(fd).close()
            rests[fd] = rest


def pool(port: int) -> None:
    sock, poll = listener(port), select.epoll()
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    jobs: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    done: deque[tuple[int, bytes]] = deque()
    is_posted = False

    def work() -> None:
        nonlocal is_posted
        while True:
            fd, count = jobs.get()
            done.append((fd, SMALL * count))
            if not is_posted:
                is_posted = True
                os.eventfd_write(wake, 1)

    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    poll.register(sock, select.EPOLLIN)
    poll.register(wake, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                os.eventfd_read(wake)
            elif fd == sock.fileno():
                connection = accepted(sock)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
            elif count := (data := received(connections[fd])).count(REQUEST):
                jobs.put((fd, count))
            elif not data:
                connections.pop(fd).close()
        is_posted = False
        while done:
            fd, answer = done.popleft()
            if fd in connections:
                send(connections[fd], answer)


# Trio

Ready: TypeAlias = Callable[[], Awaitable[object]]
"""Waits until a connection may be readable, or writable."""


async def trio_stream(port: int) -> None:
    async def answer(stream: Any) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the client has gone
            while data := await stream.receive_some(READ_BYTES):
                if count := data.count(REQUEST):
                    await stream.send_all(SMALL * count)

    await trio.serve_tcp(answer, port, host="127.0.0.1")


async def trio_direct(port: int, mode: str) -> None:
    async with trio.open_nursery() as nursery:
        sock = listener(port)
        while True:
            await trio.lowlevel.wait_readable(sock)
            connection = accepted(sock)
            readable = functools.partial(trio.lowlevel.wait_readable, connection.fileno())
            writable = functools.partial(trio.lowlevel.wait_writable, connection.fileno())
            nursery.start_soon(converse, connection, readable, writable, mode)


async def trio_epoll(port: int, mode: str) -> None:
    poll = select.epoll()
    waiting: dict[int, trio.lowlevel.Task] = {}

    async def wake() -> None:
        while True:
            await trio.lowlevel.wait_readable(poll.fileno())
            for fd, _ in poll.poll(0):
                if task := waiting.pop(fd, None):
                    trio.lowlevel.reschedule(task)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake)
        sock = listener(port)
        while True:
            await trio.lowlevel.wait_readable(sock)
            connection = accepted(sock)
            poll.register(connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

            async def ready(fd: int = connection.fileno()) -> None:
                waiting[fd] = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)

            nursery.start_soon(converse, connection, ready, ready, mode)


async def converse(connection: socket.socket, readable: Ready, writable: Ready, mode: str) -> None:
    """A connection's task. A read that was short has taken everything: the next waits at once."""
    answer, closes = ANSWERS[mode], mode == "closing"
    with connection:
        while True:
            try:
                data = connection.recv(READ_BYTES)
            except BlockingIOError:
                await readable()
                continue
            except ConnectionResetError:
                return
            if not data:
                return
            output = answer * data.count(REQUEST)
            try:
                sent = connection.send(output)
            except OSError:
                return  # the client has gone
            if sent < len(output):
                await send_rest(connection, memoryview(output)[sent:], writable)
            elif closes:
                return
            elif len(data) < READ_BYTES:
                await readable()


async def send_rest(connection: socket.socket, rest: memoryview, writable: Ready) -> None:
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            await writable()
        except OSError:
            return


def main(name: str, port: str, mode: str = "canned") -> None:
    match name, mode:
        case "epoll", _:
            epoll(int(port), mode)
        case "pool", "canned":
            pool(int(port))
        case "trio-stream", "canned":
            trio.run(trio_stream, int(port))
        case "trio-direct", _:
            trio.run(trio_direct, int(port), mode)
        case "trio-epoll", _:
            trio.run(trio_epoll, int(port), mode)
        case _:
            raise SystemExit(f"no such floor: {name} {mode}\n{__doc__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
