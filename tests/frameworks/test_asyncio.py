"""Frameworks as they are, on the asyncio driver: a server as its users start it, over real sockets, with each loop."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="httpx is not installed; ./setup-venv does that")
import httpx

ROOT = Path(__file__).parent.parent.parent
MIB = 1024 * 1024
PATIENCE_S = 30.0
IN_CI = "CI" in os.environ

LOOPS = ["asyncio", *(["uvloop"] if IN_CI or find_spec("uvloop") is not None else [])]


class Site:
    """A server in a process of its own, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S)

    def line(self) -> str:
        """The next line that the program says."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def connect(self, wire: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        client.sendall(wire)
        return client


@contextmanager
def serving(name: str, *options: str) -> Iterator[Site]:
    """Serve an application by the command line. At the end it drains, exits with 0, and has said nothing else."""
    command = [sys.executable, "-m", "h1core.drivers", f"tests.frameworks.asyncio_apps:{name}", "--factory"]
    with subprocess.Popen(
        [*command, "--bind", "127.0.0.1:0", *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (announced := re.search(r"h1core: listening on http://127\.0\.0\.1:(\d+)\n", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            site = Site(process, int(announced[1]))
            with site.http:
                yield site
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            left = process.stderr.read().splitlines()
            assert [line for line in left if line != "disposed" and name != "mcp_app"] == []
        finally:
            process.kill()


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing) and not IN_CI, reason=f"not installed: {', '.join(missing)}")


Serve = Callable[[str], Any]


@pytest.fixture(params=LOOPS)
def serve(request: pytest.FixtureRequest) -> Serve:
    return lambda name: serving(name, "--loop", request.param, "--max-body-bytes", str(64 * MIB))


@needs("django")
def test_django(serve: Serve) -> None:
    with serve("django_app") as site:
        assert site.http.get("/sync?q=1").text == "sync 1"
        assert site.http.get("/async").text == "async"
        assert site.http.get("/stream").text.count("\n") == 1000
        uploaded = site.http.post("/upload", files={"file": ("f", bytes(50 * MIB))})
        assert uploaded.text == str(50 * MIB)


@needs("django")
def test_a_view_of_django_is_cancelled_when_its_client_leaves(serve: Serve) -> None:
    with serve("django_app") as site:
        client = site.connect(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert site.line() == "slow begins"
        client.close()
        assert site.line() == "slow is cancelled"


@needs("fastapi", "sqlalchemy", "aiosqlite")
def test_fastapi_with_an_async_database_and_work_after_the_response(serve: Serve) -> None:
    with serve("fastapi_app") as site:
        texts = [f"note {number}" for number in range(5)]
        for number, text in enumerate(texts, 1):
            response = site.http.post("/notes", json={"text": text})
            assert (response.status_code, response.json()) == (201, {"id": number})
        assert site.http.get("/notes").json() == texts
        assert site.http.get("/done").json() == texts
        assert site.http.post("/notes", content=b"no json").status_code == 422


@needs("starlette")
def test_starlette_and_events_that_end_when_their_client_leaves(serve: Serve) -> None:
    with serve("starlette_app") as site:
        assert site.http.post("/echo", json=[1]).json() == {"got": [1], "client": True}
        with site.http.stream("GET", "/events") as response:
            assert next(response.iter_lines()) == "data: tick"
        assert site.line() == "events end"


@needs("quart")
def test_quart(serve: Serve) -> None:
    with serve("quart_app") as site:
        assert site.http.get("/sleep").text == "slept"
        assert site.http.post("/size", content=bytes(3 * MIB)).text == str(3 * MIB)


@needs("litestar")
def test_litestar(serve: Serve) -> None:
    with serve("litestar_app") as site:
        assert site.http.get("/hello/you").json() == {"hello": "you"}
        assert site.http.post("/sum", json=[1, 2, 3]).json() == 6
        assert site.http.get("/stream").text == "piece piece piece "


@needs("mcp")
def test_an_mcp_server_and_its_own_client(serve: Serve) -> None:
    from mcp import Client

    async def ask(url: str) -> None:
        async with Client(url) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
            result = await client.call_tool("add", {"a": 2, "b": 3})
            assert result.structured_content == {"result": 5}

    with serve("mcp_app") as site:
        asyncio.run(ask(f"http://127.0.0.1:{site.port}/mcp"))


@needs("starlette")
@pytest.mark.parametrize(
    ("driver", "path", "says"),
    [
        ("trio", "/asyncio", "this application is written for asyncio: serve it with --driver asyncio"),
        ("asyncio", "/trio", "this application is written for trio: serve it with --driver trio"),
    ],
)
def test_an_application_for_the_other_loop_is_told_so_once(driver: str, path: str, says: str) -> None:
    with serving("starlette_app", "--driver", driver) as site:
        assert [site.http.get(path).status_code for _ in range(5)] == [500] * 5
        assert site.line().partition(" ERROR ")[2].startswith(says)
