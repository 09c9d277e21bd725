"""A pytest plugin for urllib3's test suite: its plain HTTP server becomes h1core. See urllib3_suite.py.

`H1CORE_DRIVER` names the driver: trio, asyncio, or none to leave the suite as it is. Servers with certificates stay.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dummyserver.app
import dummyserver.hypercornserver as own_server
import dummyserver.testcase
from h1core.drivers import asyncio_driver, trio_driver
from h1core.drivers.app_interface import handler_of

DRIVER = os.environ["H1CORE_DRIVER"]
JOIN_S = 10.0

served: list[int] = []
"""The ports of the servers that were h1core."""

logging.getLogger("h1core").setLevel(logging.INFO)
"""A test compares all that is logged at DEBUG in its process, in which this server runs too."""

run_own = own_server.run_hypercorn_in_thread


@contextlib.contextmanager
def run_in_thread(host: str, certs: dict[str, Any] | None, app: Any) -> Iterator[int]:
    """What urllib3's tests call to run a server; yields its port."""
    if certs:
        with run_own(host, certs, app) as port:
            yield port
        return
    config = own_server.Config()
    config.bind = [f"{host}:0"]
    listeners = config.create_sockets().insecure_sockets
    port = listeners[0].getsockname()[1]
    driver = trio_driver if DRIVER == "trio" else asyncio_driver
    server = driver.Server(handler_of(app, "asgi"), listeners=listeners)
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,), daemon=True)
    thread.start()
    if not started.wait(JOIN_S):
        raise RuntimeError("h1core has not started")
    served.append(port)
    try:
        yield port
    finally:
        server.stop()
        thread.join(JOIN_S)


if DRIVER != "none":
    for module in (own_server, dummyserver.testcase):
        module.run_hypercorn_in_thread = run_in_thread
if DRIVER == "asyncio":
    from quart import Quart

    # The same routes, on the Quart that asyncio runs. They take nothing but `sleep` from trio.
    app = dummyserver.app.hypercorn_app
    twin = Quart(app.import_name)
    for name in (
        "url_map view_functions before_request_funcs after_request_funcs error_handler_spec url_build_error_handlers"
    ).split():
        setattr(twin, name, getattr(app, name))
    dummyserver.app.hypercorn_app = dummyserver.testcase.hypercorn_app = twin
    dummyserver.app.trio = SimpleNamespace(sleep=asyncio.sleep)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many servers were ours, so that a run in which none was cannot pass for one."""
    terminalreporter.write_line(f"h1core servers: {len(served)} on {DRIVER}")
