"""Failures of others in hosting an application on an event loop, each with its right outcome, on asyncio and trio.

The letters are those of the rows of failures that were collected from public reports before this was written.
"""

import asyncio
import contextvars
import gc
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from h1core.drivers.trio_driver import Server

from h1core import Conn
from h1core.app.asgi import AsgiHandler
from h1core.server.deadlines import STALE_ALLOWANCE
from h1core.testing import Client, FakeClock, MemoryNetwork

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ROOT = Path(__file__).parent.parent.parent

on_both = pytest.mark.parametrize("driver", ["asyncio", "trio"])

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


def get(path: bytes) -> bytes:
    return GET.replace(b"/ ", path + b" ", 1)


def app_of(handle: Callable[[Any], Any]) -> Any:
    """An ASGI application whose answer is what `handle` returns or awaits, given the path."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await handle(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(body).encode()})

    return app


@on_both
@pytest.mark.parametrize("pipelined", [True, False])
def test_a1_a_context_variable_of_one_request_is_not_seen_by_the_next(driver: str, pipelined: bool) -> None:
    async def handle(path: str) -> str:
        before = variable.get()
        variable.set(path)
        if path == "/waits":
            await anyio.sleep(1)
        return before or "none"

    paths = [b"/a", b"/waits", b"/b", b"/c"]
    with Client(app_of(handle), driver=driver) as client:
        peer = client.connect()
        if pipelined:
            peer.send(b"".join(map(get, paths)))
            client.wait(2)
        else:
            for path in paths:
                peer.send(get(path))
                client.wait(2)
        assert [answer.text for answer in peer.answers()] == ["none"] * 4


@on_both
def test_a2_what_the_startup_has_set_is_seen_by_requests(driver: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            variable.set("from startup")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app_of(lambda path: _value(variable.get()))(scope, receive, send)

    with Client(app, driver=driver) as client:
        assert client.get("/").text == "from startup"
        assert client.get("/").text == "from startup"


async def _value(value: object) -> object:
    return value


@on_both
def test_a3_nothing_of_a_connection_lives_after_it_was_reset(driver: str) -> None:
    async def handle(path: str) -> str:
        return "x"

    before = count_conns()
    with Client(app_of(handle), driver=driver) as client:
        for _ in range(500):
            peer = client.connect()
            peer.send(GET)
            assert peer.answer().text == "x"
            peer.reset()
        client.wait(0)
        assert count_conns() <= before + STALE_ALLOWANCE, "what the deadline index has not dropped yet"


def count_conns() -> int:
    gc.collect()
    return sum(type(found) is Conn for found in gc.get_objects())


@on_both
def test_a6_an_application_that_raises_cancellation_of_its_own_fails_that_request_only(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(path: str) -> str:
        if path == "/bad":
            raise asyncio.CancelledError
        return "fine"

    with Client(app_of(handle), driver=driver) as client:
        peer = client.connect()
        peer.send(get(b"/bad"))
        assert peer.answer().status == 500
        assert client.get("/").text == "fine"
    assert [record.levelname for record in caplog.records if record.name == "h1core.server"] == ["ERROR"]


@on_both
def test_a7_what_the_lifespan_does_in_finally_is_not_cancelled(driver: str) -> None:
    done: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            try:
                await receive()
            finally:
                await anyio.sleep(2)
                done.append("cleaned up")
            await send({"type": "lifespan.shutdown.complete"})

    client = Client(app, driver=driver)
    client.connect()
    client.close()
    assert done == ["cleaned up"]


def test_a10_what_came_in_time_counts_when_asyncio_was_blocked() -> None:
    """A handler blocks the loop beyond the deadline of another client, whose bytes lay there before."""
    with Client(app_of(_value)) as client:
        slow = client.connect()
        slow.send(GET[:10])
        client.wait(9.9)
        backend: Any = client._backend
        slow._end.send(GET[10:])  # it has come, and nobody has looked
        backend._clock.advance(60)
        slow.send(b"")
        assert slow.answer().status == 200


def test_a10_what_came_in_time_counts_when_trio_was_blocked() -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        network = MemoryNetwork(FakeClock())
        listener = network.listen()
        server = Server(AsgiHandler(app_of(_value)), listeners=[listener], selector=network.selector)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: server.serve(task_status=task_status))
            client = listener.connect()
            client.send(GET[:10])
            network.wake()
            await trio.testing.wait_all_tasks_blocked()
            client.send(GET[10:])
            clock.jump(60)  # and the loop has not run
            await trio.testing.wait_all_tasks_blocked()
            assert client.read().startswith(b"HTTP/1.1 200 ")
            server.stop()

    trio.run(main, clock=clock)


PROGRAM = """
    import asyncio, os, signal, sys, threading
    {imports}
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            {startup}
            await send({{"type": "lifespan.startup.complete"}})
            await receive()
            {shutdown}
            await send({{"type": "lifespan.shutdown.complete"}})
            return
        {request}
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"x"}})
"""


def run_program(
    tmp_path: Path, driver: str, act: Callable[[subprocess.Popen[str], int], None], **parts: str
) -> tuple[int, str]:
    """Run the command line on a program; what it ends with: its status, and what it has said on stderr."""
    text = textwrap.dedent(PROGRAM).format(
        **{"imports": "import anyio", "startup": "pass", "shutdown": "pass", "request": "pass", **parts}
    )
    (tmp_path / "program.py").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-X", "dev", "-m", "h1core.drivers", "program:app", "--driver", driver]
    with subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{port}"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            act(process, port)
            status = process.wait(timeout=30)
            return status, process.stderr.read()
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@on_both
def test_a5_stderr_is_empty_after_a_stop_with_requests_under_way(tmp_path: Path, driver: str) -> None:
    clients: list[socket.socket] = []

    def act(process: subprocess.Popen[str], port: int) -> None:
        assert "listening" in line(process)
        for _ in range(3):
            clients.append(socket.create_connection(("127.0.0.1", port)))
            clients[-1].sendall(GET)
        assert [line(process) for _ in range(3)] == ["in hand\n"] * 3
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)

    request = 'print("in hand", file=sys.stderr, flush=True); await anyio.sleep(60)'
    status, said = run_program(tmp_path, driver, act, request=request)
    assert (status, said) in [(130, ""), (143, "")]
    for client in clients:
        client.close()


@on_both
def test_a8_the_first_signal_gives_a_startup_up_that_hangs(tmp_path: Path, driver: str) -> None:
    def act(process: subprocess.Popen[str], port: int) -> None:
        assert line(process) == "starting\n"
        process.send_signal(signal.SIGINT)

    startup = 'print("starting", file=sys.stderr, flush=True); await anyio.sleep(60)'
    assert run_program(tmp_path, driver, act, startup=startup) == (0, "")


@on_both
def test_a8_the_second_signal_ends_a_shutdown_that_hangs_within_its_grace(tmp_path: Path, driver: str) -> None:
    def act(process: subprocess.Popen[str], port: int) -> None:
        assert "listening" in line(process)
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stopping\n"
        process.send_signal(signal.SIGINT)

    shutdown = 'print("stopping", file=sys.stderr, flush=True); await anyio.sleep(60)'
    status, said = run_program(tmp_path, driver, act, shutdown=shutdown)
    assert status == 130
    assert said.count("\n") == 1
    assert "the application's shutdown took too long" in said


def test_a9_an_application_that_ignores_its_cancellation_does_not_hold_the_end(tmp_path: Path) -> None:
    """On trio nothing can help: its run ends when every task has ended."""

    def act(process: subprocess.Popen[str], port: int) -> None:
        assert "listening" in line(process)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(GET)
            assert line(process) == "in hand\n"
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)

    lines = (
        'print("in hand", file=sys.stderr, flush=True)',
        "while True:",
        "    try: await anyio.sleep(60)",
        "    except asyncio.CancelledError: pass",
    )
    request = "\n    ".join(lines)
    status, said = run_program(tmp_path, "asyncio", act, request=request)
    assert status in (130, 143)
    assert said.count("\n") == 1
    assert "goes on although it is cancelled" in said


@on_both
def test_a_process_that_was_forked_after_the_import_serves(tmp_path: Path, driver: str) -> None:
    (tmp_path / "forks.py").write_text(
        textwrap.dedent(f"""
        import os, sys
        import h1core.drivers.{driver}_driver as driver_module
        from h1core.app.asgi import AsgiHandler
        from h1core.drivers.net.listeners import listen
        from h1core.addresses import parse_address
        import http.client

        async def app(scope, receive, send):
            await send({{"type": "http.response.start", "status": 200, "headers": []}})
            await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})

        listener = listen(parse_address("127.0.0.1:0"))
        port = listener.getsockname()[1]
        child = os.fork()
        if child == 0:
            server = driver_module.Server(AsgiHandler(app), listeners=[listener])
            import signal
            signal.signal(signal.SIGTERM, lambda *_: server.stop())
            server.run()
            os._exit(0)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().read() == str(child).encode()
        os.kill(child, 15)
        assert os.waitpid(child, 0)[1] == 0
        """)
    )
    done = subprocess.run(
        [sys.executable, "forks.py"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stderr) == (0, "")
