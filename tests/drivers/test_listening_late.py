"""The port is closed until the application has started: a readiness probe that connects finds a server."""

import socket
from pathlib import Path
from typing import Any

import pytest
from h1core.drivers import asyncio_driver, trio_driver
from h1core.drivers.net.listeners import CannotListen, bind, close_listener, listen, start_listening
from h1core.drivers.selectors_driver import Server

from h1core.addresses import TcpAddress, UnixAddress
from h1core.app.asgi import AsgiHandler

from .world import hello

LOCAL = TcpAddress("127.0.0.1", 0)
DRIVERS = {"asyncio": asyncio_driver, "trio": trio_driver}


def accepts(address: Any) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        try:
            client.connect(address)
        except ConnectionRefusedError:
            return False
        return True


class App:
    """An ASGI application that looks at its server's port while it starts, and after."""

    def __init__(self, address: Any, fails: bool = False) -> None:
        self.address = address
        self.seen: list[bool] = []
        self.said: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            self.said.append(message["type"])
            self.seen.append(accepts(self.address))
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_connections_are_refused_until_the_application_has_started(driver: str, kind: str, tmp_path: Path) -> None:
    sock = bind(LOCAL if kind == "tcp" else UnixAddress(str(tmp_path / "s")))
    try:
        app = App(sock.getsockname())
        server = DRIVERS[driver].Server(AsgiHandler(app), listeners=[sock])
        once_served: list[bool] = []

        def started() -> None:
            once_served.append(accepts(app.address))
            server.begin_drain()

        server.run(started)
        assert app.seen[0] is False
        assert once_served == [True]
        assert app.said == ["lifespan.startup", "lifespan.shutdown"]
    finally:
        close_listener(sock)


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_comes_too_late_is_told_and_its_application_shut_down(driver: str) -> None:
    """Two servers bind one port before either listens; the system lets them."""
    sock = bind(LOCAL)
    faster = bind(TcpAddress("127.0.0.1", sock.getsockname()[1]))
    try:
        app = App(sock.getsockname())
        server = DRIVERS[driver].Server(AsgiHandler(app), listeners=[sock])
        start_listening([faster])
        with pytest.raises(CannotListen, match="it is already in use"):
            server.run()
        assert app.said == ["lifespan.startup", "lifespan.shutdown"]
    finally:
        close_listener(sock)
        close_listener(faster)


def test_a_socket_file_that_another_server_has_replaced_is_no_longer_ours(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sock = bind(UnixAddress(path))
    with listen(UnixAddress(path)) as faster:
        with pytest.raises(CannotListen, match="in use"):
            start_listening([sock])
        close_listener(sock)
        assert accepts(path), "the file of the other server is left alone"
        close_listener(faster)


def test_an_address_that_is_in_use_is_known_before_the_application_starts() -> None:
    with listen(LOCAL) as running, pytest.raises(CannotListen, match="in use"):
        bind(TcpAddress("127.0.0.1", running.getsockname()[1]))


def test_the_selectors_driver_listens_when_it_is_made() -> None:
    sock = bind(LOCAL)
    assert not accepts(sock.getsockname())
    server = Server(hello, listeners=[sock])
    assert accepts(sock.getsockname())
    server.close()
    close_listener(sock)
