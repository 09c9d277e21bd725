"""What the tests of frameworks share: an application that is served, and an httpx client for it, on trio."""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from h1core.drivers.net.listeners import listen
from h1core.drivers.trio_driver import Server

from h1core.addresses import parse_address
from h1core.app.asgi import AsgiHandler

from ..drivers.trio_kit import PATIENCE_S, Client


class Site:
    """A served application."""

    def __init__(self, server: Server, address: Any) -> None:
        self.server = server
        self.address = address
        self.clients: list[Client] = []
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", trust_env=False, timeout=PATIENCE_S)

    async def connect(self, wire: bytes) -> Client:
        """A client that says what is on the wire."""
        client = Client(await trio.open_tcp_stream(*self.address))
        self.clients.append(client)
        await client.send(wire)
        return client


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Site]:
    """The application on loopback, its lifespan around it; drained at the end of the block."""
    listener = listen(parse_address("127.0.0.1:0"))
    server = Server(AsgiHandler(app), listeners=[listener], **options)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(lambda task_status: server.serve(task_status=task_status))
        site = Site(server, address)
        try:
            async with site.http:
                yield site
        finally:
            for client in site.clients:
                await trio.aclose_forcefully(client.stream)
            server.begin_drain()


def run(app: Any, test: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    """Run a test against an application, and see that no descriptor is left."""

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with serving(app, **options) as site:
                await test(site)

    before = len(os.listdir("/dev/fd"))
    trio.run(main)
    assert len(os.listdir("/dev/fd")) == before


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
