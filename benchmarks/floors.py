"""Servers that are none: they answer whatever ends like a request head with a canned response. What Python can do.

python benchmarks/floors.py NAME PORT

epoll         one loop on epoll
pool          the same, with four worker threads that hand each answer back through an eventfd
trio-stream   trio.serve_tcp, a task for each connection on its SocketStream
trio-direct   trio, recv and send at once, waiting only when they would block
"""

import os
import queue
import select
import socket
import sys
import threading
from collections import deque
from typing import Any

import trio

BODY = b"Hello, world!\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n\r\n" + BODY
END = b"\r\n\r\n"
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


def epoll(port: int) -> None:
    sock, poll = listener(port), select.epoll()
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
            if data.endswith(END):
                connections[fd].send(ANSWER * data.count(END))
            elif not data:
                connections.pop(fd).close()


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(READ_BYTES)
    except OSError:
        return b""


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
            done.append((fd, ANSWER * count))
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
            elif (data := received(connections[fd])).endswith(END):
                jobs.put((fd, data.count(END)))
            elif not data:
                connections.pop(fd).close()
        is_posted = False
        while done:
            fd, answer = done.popleft()
            connections[fd].send(answer)


async def trio_stream(port: int) -> None:
    async def answer(stream: Any) -> None:
        while data := await stream.receive_some(READ_BYTES):
            if data.endswith(END):
                await stream.send_all(ANSWER * data.count(END))

    await trio.serve_tcp(answer, port, host="127.0.0.1")


async def trio_direct(port: int) -> None:
    sock = listener(port)

    async def answer(connection: socket.socket) -> None:
        fd = connection.fileno()
        with connection:
            while True:
                try:
                    data = connection.recv(READ_BYTES)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(fd)
                    continue
                if not data:
                    return
                if data.endswith(END):
                    connection.send(ANSWER * data.count(END))

    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(sock)
            nursery.start_soon(answer, accepted(sock))


def main(name: str, port: str) -> None:
    match name:
        case "epoll":
            epoll(int(port))
        case "pool":
            pool(int(port))
        case "trio-stream":
            trio.run(trio_stream, int(port))
        case "trio-direct":
            trio.run(trio_direct, int(port))
        case _:
            raise SystemExit(f"no such floor: {name}\n{__doc__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
