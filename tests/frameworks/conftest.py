"""Frameworks over real sockets, as they are used: a server that runs in a thread, inline and with workers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from h1core.drivers.engine.files import as_file

from h1core.app.wsgi import wsgi_handler

from ..drivers.test_selectors_pool_sockets import Running, Serve, serve

__all__ = ["serve"]  # the fixture

MIB = 1024 * 1024

Start = Callable[[Any], Running]


@pytest.fixture(params=[0, 4], ids=["inline", "threads"])
def start(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Start]:
    """Serves a WSGI application."""
    with ExitStack():

        def make(app: Any) -> Running:
            threads: int = request.param
            handler = wsgi_handler(app, multithread=threads > 1, as_file=as_file)
            return serve(handler, threads=threads, max_body_bytes=64 * MIB)

        yield make
