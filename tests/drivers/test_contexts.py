"""Each request of a sync handler in a context and a thread of its own, its streamed body and its clean-up too."""

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from h1core.drivers.app_interface import handler_of

from h1core import Request, Response
from h1core.testing import Client

from ..wire import answers
from .world import get

WHOSE: ContextVar[bytes] = ContextVar("WHOSE", default=b"nobody")
SERVER: ContextVar[str] = ContextVar("SERVER", default="")

SERVERS: dict[str, dict[str, Any]] = {
    "selectors": {"driver": "selectors"},
    "selectors, threads": {"driver": "selectors", "threads": 2},
    "asyncio": {"driver": "asyncio", "threads": 0},
    "asyncio, threads": {"driver": "asyncio", "threads": 2},
    "trio": {"driver": "trio", "threads": 0},
    "trio, threads": {"driver": "trio", "threads": 2},
}


class Seen:
    """What a handler, the pieces of its body and their clean-up have seen, and in which threads."""

    def __init__(self) -> None:
        self.at_begin: list[bytes] = []
        self.later: list[tuple[bytes, bytes]] = []
        self.threads: dict[bytes, set[int]] = {}

    def note(self, target: bytes) -> None:
        self.later.append((target, WHOSE.get()))
        self.threads.setdefault(target, set()).add(threading.get_ident())

    def handler(self, request: Request) -> Response:
        self.at_begin.append(WHOSE.get())
        WHOSE.set(request.target)
        self.note(request.target)
        return Response(200, (), self.pieces(request.target))

    def pieces(self, target: bytes) -> Iterator[bytes]:
        try:
            for _ in range(3):
                self.note(target)
                yield WHOSE.get()
        finally:
            self.note(target)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        target = environ["PATH_INFO"].encode()
        self.at_begin.append(WHOSE.get())
        WHOSE.set(target)
        start_response("200 OK", [])
        return self.pieces(target)


@pytest.mark.parametrize("options", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("interface", ["handler", "wsgi"])
def test_a_context_variable_passes_to_no_other_request(options: dict[str, Any], interface: str) -> None:
    seen = Seen()
    app = seen.wsgi if interface == "wsgi" else seen.handler
    with Client(handler_of(app, interface, threads=options.get("threads", 0)), **options) as client:
        peers = [client.connect() for _ in range(3)]
        for turn in range(2):
            for number, peer in enumerate(peers):
                peer.send(get(b"/%d%d" % (number, turn)))
        client.wait(0.0)
        for number, peer in enumerate(peers):
            bodies = [answer.body for answer in answers(peer.read())]
            assert bodies == [b"/%d%d" % (number, turn) * 3 for turn in range(2)]
    assert seen.at_begin == [b"nobody"] * 6
    assert all(target == whose for target, whose in seen.later)
    assert [len(idents) for idents in seen.threads.values()] == [1] * 6, "one thread makes, asks and closes a body"


@pytest.mark.parametrize("driver", ["selectors", "asyncio"])  # under Client, trio's tasks have a context of their own
@pytest.mark.parametrize("threads", [0, 2])
def test_what_was_set_before_the_server_began_is_seen(driver: str, threads: int) -> None:
    token = SERVER.set("as it was")
    try:
        with Client(lambda request: Response(200, (), SERVER.get().encode()), driver=driver, threads=threads) as client:
            assert client.request("GET", "/").body == b"as it was"
    finally:
        SERVER.reset(token)
