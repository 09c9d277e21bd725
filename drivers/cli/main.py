"""The command line: parse options, bind addresses, run the server.

Each field of `Limits` and `Timeouts` is an option; its help text is in `config.SUMMARIES`, which a test checks to be
complete. An error before the server runs is reported in one line on stderr, after the traceback if it is the
application's, with status 2.
"""

import argparse
import re
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from importlib import metadata
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from h1core.addresses import Address, InheritedAddress, parse_address
from h1core.app.interface import App
from h1core.app.lifespan import StartupFailed
from h1core.config import SUMMARIES, Limits, Timeouts
from h1core.errors import LocalError

from ..app_interface import choose_interface, handler_of, runs_on_a_loop
from ..engine.options import Options
from ..net.listeners import CannotListen, bind, close_listener, describe
from .app_loader import AppFailed, call_factory, load
from .log_setup import LEVELS, log_to_stderr
from .signals import SignalHandling

if TYPE_CHECKING:
    from ..asyncio_driver import Server as AsyncioServer
    from ..selectors_driver import Server as SelectorsServer
    from ..trio_driver import Server as TrioServer

DEFAULT_ADDRESS: Final = "127.0.0.1:8000"

USAGE_STATUS: Final = 2
STARTUP_STATUS: Final = 3

EPILOG: Final = """\
addresses: HOST:PORT, [V6]:PORT, unix:PATH, or fd:N for an inherited listening socket.
exit status: 2 for a mistake before the start, 3 when the application's own startup fails, else see below.
signals: SIGTERM, SIGINT or SIGHUP stops accepting, finishes what is in flight within --drain-timeout, and exits with
status 0; a second one, or SIGQUIT, ends at once, with status 143, 130, 129 or 131, whatever the application does.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a driver needs to make a server."""

    handler: App
    listeners: list[socket.socket]
    loop: str
    options: Options


Running: TypeAlias = "SelectorsServer | AsyncioServer | TrioServer"


def _selectors_server(plan: Plan) -> Running:
    from ..selectors_driver import Server  # here and not above: only the driver that runs is loaded

    return Server(plan.handler, listeners=plan.listeners, **plan.options)


def _asyncio_server(plan: Plan) -> Running:
    from ..asyncio_driver import Server, loop_factory

    loop_factory(plan.loop)  # raises LocalError, before anything is served
    return Server(plan.handler, listeners=plan.listeners, loop=plan.loop, **plan.options)


def _trio_server(plan: Plan) -> Running:
    try:
        from ..trio_driver import Server
    except ModuleNotFoundError as error:
        if error.name != "trio":
            raise
        raise LocalError("the trio driver needs trio: pip install 'h1core[trio]'") from None
    return Server(plan.handler, listeners=plan.listeners, **plan.options)


DRIVERS: Final[dict[str, Callable[[Plan], Running]]] = {
    "selectors": _selectors_server,
    "asyncio": _asyncio_server,
    "trio": _trio_server,
}
"""The function that makes the server, for each --driver."""

LOOPS: Final = ("auto", "asyncio", "uvloop")
INTERFACES: Final = ("auto", "handler", "wsgi", "asgi")
MAX_THREADS: Final = 4096
"""More are a mistake: each costs memory and a share of the time of one interpreter."""

DEFAULT_THREADS: Final = {"wsgi": 4}
"""The default of --threads by interface; 0 for all others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `h1core` command and return its exit status, see EPILOG. Raises SystemExit(0) for --help and --version.

    Call it on the main thread, because it handles signals while the server runs.
    """
    with ExitStack() as at_exit:
        try:
            plan, make_server = _plan(_parser().parse_args(arguments), at_exit)
            server = make_server(plan)
        except LocalError as error:
            if isinstance(error, AppFailed):
                traceback.print_exception(error.__cause__)
            print(f"h1core: {error}", file=sys.stderr)
            return USAGE_STATUS
        return _run(server, plan)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise LocalError, to report one line; argparse would print the long usage before it."""
        raise LocalError(f"{message} (see h1core --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="h1core",
        usage="h1core MODULE:NAME [option]...",
        description="Serve a Python application over HTTP/1.1.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("app", metavar="MODULE:NAME", help="the application; the current folder is importable")
    add("--bind", metavar="ADDRESS", action="append", help=f"listen here; repeatable (default {DEFAULT_ADDRESS})")
    add(
        "--driver",
        choices=tuple(DRIVERS),
        help="what runs the application (default asyncio for ASGI and async handlers, else selectors)",
    )
    add("--loop", choices=LOOPS, default="auto", help="of --driver asyncio (default auto: uvloop if installed)")
    add("--interface", choices=INTERFACES, default="auto", help="of the application (default auto: by its arguments)")
    add(
        "--threads",
        metavar="N",
        type=int,
        help="worker threads; 0 is none, all on the loop (default 4 for WSGI, else 0)",
    )
    add("--root-path", metavar="PATH", default="", help="where a WSGI or ASGI application is mounted, as in /shop")
    add("--factory", action="store_true", help="MODULE:NAME is called, without arguments, to make the application")
    add("--access-log", action="store_true", help="log each request to stderr")
    add(
        "--log-level",
        choices=tuple(LEVELS),
        default="info",
        help="of the server's own lines, unless the application has set it (default info)",
    )
    add("--version", action="version", version=f"h1core {_version()}")
    kept = f"One connection keeps at most {Limits().connection_bytes} bytes by these defaults."
    _add_fields(parser.add_argument_group("limits", kept), Limits)
    _add_fields(parser.add_argument_group("timeouts", "Always on; a very large number is never."), Timeouts)
    return parser


def _add_fields(group: argparse._ArgumentGroup, kind: type[Limits] | type[Timeouts]) -> None:
    for field in fields(kind):
        unit = "BYTES" if field.name.endswith("_bytes") else "SECONDS" if field.name.endswith("_timeout") else "N"
        group.add_argument(
            _option(field.name),
            metavar=unit,
            type=type(field.default),
            default=field.default,
            help=f"{SUMMARIES[field.name]} (default {field.default:.12g})",
        )


def _option(field_name: str) -> str:
    return f"--{field_name.replace('_', '-')}"


def _version() -> str:
    try:
        return metadata.version("h1core")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _plan(options: argparse.Namespace, at_exit: ExitStack) -> tuple[Plan, Callable[[Plan], Running]]:
    """Return the plan, with bound listeners that `at_exit` closes, and its driver's function. Raises LocalError.

    Binding comes last: no client must wait in the backlog of a server that still imports its application.
    """
    addresses = [parse_address(text) for text in options.bind or [DEFAULT_ADDRESS]]
    limits, timeouts = _bounds(options)
    app = call_factory(load(options.app), options.app) if options.factory else load(options.app)
    at_exit.enter_context(log_to_stderr(options.log_level))  # after the application was imported: what it set stays
    interface = choose_interface(app, options.interface)
    threads = _threads(options.threads, interface)
    handler = handler_of(app, interface, threads=threads, root_path=options.root_path)
    make_server = _driver(options.driver, handler)
    server_options = Options(limits=limits, timeouts=timeouts, threads=threads, access_log=options.access_log)
    plan = Plan(handler, _bind(addresses, at_exit), options.loop, server_options)
    return plan, make_server


def _bounds(options: argparse.Namespace) -> tuple[Limits, Timeouts]:
    try:
        limits = Limits(**{field.name: getattr(options, field.name) for field in fields(Limits)})
        timeouts = Timeouts(**{field.name: getattr(options, field.name) for field in fields(Timeouts)})
    except LocalError as error:
        in_options = re.sub(rf"\b({'|'.join(SUMMARIES)})\b", lambda match: _option(match[0]), str(error))
        raise LocalError(in_options) from None
    return limits, timeouts


def _driver(asked: str | None, handler: App) -> Callable[[Plan], Running]:
    is_async = runs_on_a_loop(handler)
    if is_async and asked == "selectors":
        raise LocalError("an async application needs --driver asyncio or --driver trio")
    return DRIVERS[asked or ("asyncio" if is_async else "selectors")]


def _threads(asked: int | None, interface: str) -> int:
    threads = DEFAULT_THREADS.get(interface, 0) if asked is None else asked
    if not 0 <= threads <= MAX_THREADS:
        raise LocalError(f"--threads must be from 0 to {MAX_THREADS}, not {threads}")
    return threads


def _bind(addresses: Sequence[Address], at_exit: ExitStack) -> list[socket.socket]:
    listeners = []
    for address in addresses:
        # Two sockets of one descriptor would both close it; the system refuses all other duplicates.
        if isinstance(address, InheritedAddress) and addresses.count(address) > 1:
            raise LocalError(f"cannot listen on {address} twice; name it once")
        listener = bind(address)
        at_exit.callback(close_listener, listener)
        listeners.append(listener)
    return listeners


def _run(server: Running, plan: Plan) -> int:
    """Run the server; return the status: 0 after a drain (or its deadline), 128 + signal after a second one, or 3."""
    listeners = plan.listeners

    def announce() -> None:
        # Only once it serves: a program that reads these lines may send a request, or a signal, at once.
        for listener in listeners:
            print(f"h1core: listening on {describe(listener)}", file=sys.stderr, flush=True)

    def tidy() -> None:
        for listener in listeners:
            close_listener(listener)

    timeouts = plan.options.get("timeouts") or Timeouts()
    try:
        with SignalHandling(server, timeouts.drain_timeout, tidy) as signals:
            server.run(announce)
    except CannotListen as error:
        print(f"h1core: {error}", file=sys.stderr)
        return USAGE_STATUS
    except StartupFailed as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        elif error.details:
            print(error.details.rstrip(), file=sys.stderr)
        print(f"h1core: {error}", file=sys.stderr)
        return STARTUP_STATUS
    return signals.status
