"""The servers that are compared: floors, h1core, peers; what is run for each, and what must be installed for it."""

from dataclasses import dataclass

LONG = "3600"
ROOM = "6000"


@dataclass(frozen=True)
class Server:
    """A server, by what Python runs."""

    name: str
    kind: str
    """What it serves: `floor`, `handler`, `WSGI` or `ASGI`."""
    arguments: tuple[str, ...]
    """`{port}` stands for its port, `{answer}` for what a floor must do for a load."""
    needs: tuple[str, ...] = ()
    """What its interpreter must be able to import; for a peer, at least itself."""
    answers: tuple[str, ...] = ("canned", "closing", "large")
    holds_idle: bool = False
    """Whether it is measured beside idle connections: those that hold thousands by their nature."""

    @property
    def is_floor(self) -> bool:
        return self.kind == "floor"

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("h1core")

    @property
    def is_peer(self) -> bool:
        return not (self.is_floor or self.is_ours)

    def arguments_for(self, answer: str) -> tuple[str, ...]:
        """Those for a load. Only floors need to be told; all others are the same process for every load."""
        return tuple(argument.replace("{answer}", answer) for argument in self.arguments)


def floor(name: str, *needs: str, answers: tuple[str, ...] = Server.answers, holds_idle: bool = False) -> Server:
    return Server(f"floor: {name}", "floor", ("floors.py", name, "{port}", "{answer}"), needs, answers, holds_idle)


def ours(name: str, kind: str, app: str, *options: str, needs: tuple[str, ...] = (), holds_idle: bool = True) -> Server:
    roomy = ("--max-connections", ROOM, "--max-queued-requests", ROOM, "--keepalive-timeout", LONG)
    many = ("--max-requests-per-connection", "1000000000")
    arguments = ("-m", "h1core", app, "--bind", "127.0.0.1:{port}", *roomy, *many, *options)
    return Server(f"h1core {name}", kind, arguments, needs, holds_idle=holds_idle)


def uvicorn(http: str) -> Server:
    arguments = ("-m", "uvicorn", "apps:asgi", "--port", "{port}", "--loop", "uvloop", "--http", http)
    options = ("--no-access-log", "--timeout-keep-alive", LONG)
    return Server(
        f"uvicorn uvloop {http}", "ASGI", (*arguments, *options), ("uvicorn", "uvloop", http), holds_idle=True
    )


def granian(interface: str) -> Server:
    arguments = ("-m", "granian", f"apps:{interface}", "--interface", interface, "--port", "{port}", "--workers", "1")
    options = ("--no-access-log", "--log-level", "error", "--http", "1", "--backlog", ROOM, "--backpressure", ROOM)
    kind = interface.upper()
    return Server(f"granian {kind}", kind, (*arguments, *options), ("granian",), holds_idle=kind == "ASGI")


ASYNCIO = ("--driver", "asyncio", "--loop", "asyncio")
UVLOOP = ("--driver", "asyncio", "--loop", "uvloop")
TRIO = ("--driver", "trio")

SERVERS = {
    server.name: server
    for server in (
        floor("epoll", holds_idle=True),
        floor("pool", answers=("canned",)),
        floor("trio-stream", "trio", answers=("canned",)),
        floor("trio-direct", "trio"),
        floor("trio-epoll", "trio", holds_idle=True),
        ours("inline", "handler", "handlers:handler"),
        ours("4 threads", "handler", "handlers:handler", "--threads", "4", holds_idle=False),
        ours("asyncio", "handler", "handlers:async_handler", *ASYNCIO),
        ours("uvloop", "handler", "handlers:async_handler", *UVLOOP, needs=("uvloop",)),
        ours("trio", "handler", "handlers:async_handler", *TRIO, needs=("trio",)),
        ours("WSGI inline", "WSGI", "apps:wsgi", "--threads", "0", holds_idle=False),
        ours("WSGI 4 threads", "WSGI", "apps:wsgi", holds_idle=False),
        Server(
            "waitress",
            "WSGI",
            ("-m", "waitress", "--listen=127.0.0.1:{port}", "--threads=4", "apps:wsgi"),
            ("waitress",),
        ),
        Server(
            "cheroot",
            "WSGI",
            ("-m", "cheroot", "--bind", "127.0.0.1:{port}", "--threads", "4", "apps:wsgi"),
            ("cheroot",),
        ),
        Server(
            "gunicorn gthread",
            "WSGI",
            ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "4", "--log-level", "error", "apps:wsgi"),
            ("gunicorn",),
        ),
        granian("wsgi"),
        ours("ASGI asyncio", "ASGI", "apps:asgi", *ASYNCIO),
        ours("ASGI uvloop", "ASGI", "apps:asgi", *UVLOOP, needs=("uvloop",)),
        ours("ASGI trio", "ASGI", "apps:asgi", *TRIO, needs=("trio",)),
        Server(
            "hypercorn trio",
            "ASGI",
            *(
                ("-m", "hypercorn", "apps:asgi", "--bind", "127.0.0.1:{port}", "-k", "trio", "--keep-alive", LONG),
                ("hypercorn", "trio"),
            ),
            holds_idle=True,
        ),
        uvicorn("httptools"),
        uvicorn("zttp"),
        granian("asgi"),
    )
}

GROUPS = {
    "handlers": ("floor: epoll", "floor: pool", "h1core inline", "h1core 4 threads"),
    "trio": ("floor: trio-stream", "floor: trio-direct", "floor: trio-epoll", "h1core trio", "hypercorn trio"),
    "async": ("floor: trio-epoll", "h1core asyncio", "h1core uvloop", "h1core trio"),
    "wsgi": ("floor: epoll", "floor: pool", *(name for name, server in SERVERS.items() if server.kind == "WSGI")),
    "asgi": ("floor: trio-epoll", *(name for name, server in SERVERS.items() if server.kind == "ASGI")),
    "ours": tuple(name for name, server in SERVERS.items() if not server.is_peer),
    "all": tuple(SERVERS),
}
"""Which are measured together: `all` for ratios between any two, the others for a quick look at a part."""
