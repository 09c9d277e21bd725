"""Applications as their frameworks' users write them, for test_asyncio.py: each function makes one."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

SCHEMA = "create table note (id integer primary key, text varchar)"


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def django_app() -> Any:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    def sync_view(request: Any) -> Any:
        return HttpResponse(f"sync {request.GET.get('q', '')}")

    async def async_view(request: Any) -> Any:
        await asyncio.sleep(0.01)
        return HttpResponse("async")

    async def stream(request: Any) -> Any:
        async def lines() -> AsyncIterator[str]:
            for number in range(1000):
                if number % 100 == 0:
                    await asyncio.sleep(0)
                yield f"line {number}\n"

        return StreamingHttpResponse(lines(), content_type="text/plain")

    async def upload(request: Any) -> Any:
        return HttpResponse(str(request.FILES["file"].size))

    async def slow(request: Any) -> Any:
        say("slow begins")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say("slow is cancelled")
            raise

    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(
            path("sync", sync_view),
            path("async", async_view),
            path("stream", stream),
            path("upload", csrf_exempt(upload)),
            path("slow", slow),
        ),
    )
    return get_asgi_application()


def fastapi_app() -> Any:
    from fastapi import BackgroundTasks, Depends, FastAPI
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
    from sqlalchemy.pool import StaticPool

    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    new_session = async_sessionmaker(engine)
    done: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.execute(text(SCHEMA))
        yield
        await engine.dispose()
        say("disposed")

    async def session() -> AsyncIterator[AsyncSession]:
        async with new_session() as found:
            yield found

    app = FastAPI(lifespan=lifespan)

    @app.post("/notes", status_code=201)
    async def create(note: dict[str, str], tasks: BackgroundTasks, db: Any = Depends(session)) -> dict[str, int]:
        made = await db.execute(text("insert into note (text) values (:text)"), note)
        await db.commit()
        tasks.add_task(done.append, note["text"])
        return {"id": made.lastrowid}

    @app.get("/notes")
    async def notes(db: Any = Depends(session)) -> list[str]:
        await asyncio.sleep(0.01)
        return [row[0] for row in await db.execute(text("select text from note order by id"))]

    @app.get("/done")
    def in_a_thread() -> list[str]:
        return done

    return app


def starlette_app() -> Any:
    import trio
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def echo(request: Request) -> Any:
        return JSONResponse({"got": await request.json(), "client": bool(request.client)})

    async def events(request: Request) -> Any:
        async def pieces() -> AsyncIterator[str]:
            try:
                while True:
                    yield "data: tick\n\n"
                    await asyncio.sleep(0.01)
            finally:
                say("events end")

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def on_asyncio(request: Request) -> Any:
        await asyncio.sleep(0.01)
        return JSONResponse("slept")

    async def on_trio(request: Request) -> Any:
        await trio.sleep(0.01)
        return JSONResponse("slept")

    routes = [
        Route("/echo", echo, methods=["POST"]),
        Route("/events", events),
        Route("/asyncio", on_asyncio),
        Route("/trio", on_trio),
    ]
    return Starlette(routes=routes)


def quart_app() -> Any:
    from quart import Quart, request

    app = Quart(__name__)

    @app.post("/size")
    async def size() -> str:
        total = 0
        async for piece in request.body:
            total += len(piece)
        return str(total)

    @app.get("/sleep")
    async def sleep() -> str:
        await asyncio.sleep(0.01)
        return "slept"

    return app


def litestar_app() -> Any:
    from litestar import Litestar, get, post
    from litestar.response import Stream

    @get("/hello/{name:str}")
    async def hello(name: str) -> dict[str, str]:
        await asyncio.sleep(0.01)
        return {"hello": name}

    @post("/sum")
    async def total(data: list[int]) -> int:
        return sum(data)

    @get("/stream")
    async def stream() -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"piece "

        return Stream(pieces())

    return Litestar([hello, total, stream])


def mcp_app() -> Any:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("adder")

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        await asyncio.sleep(0.01)
        return a + b

    return server.streamable_http_app()
