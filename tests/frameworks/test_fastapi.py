"""FastAPI, unmodified, on the trio driver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.requests import Request

from .kit import Site, complaints, run


class Item(BaseModel):
    name: str
    price: float


def make_app(life: list[str]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        life.append("up")
        yield {"pool": "a pool"}
        life.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.post("/items", status_code=201)
    async def create(item: Item) -> dict[str, object]:
        return {"name": item.name, "double": 2 * item.price}

    @app.post("/files")
    async def upload(file: UploadFile) -> dict[str, object]:
        return {"name": file.filename, "size": len(await file.read())}

    @app.get("/sync")
    def in_a_thread(request: Request) -> str:
        return str(request.state.pool)

    async def resource() -> AsyncIterator[str]:
        life.append("acquired")
        yield "a resource"
        life.append("released")

    @app.get("/resource")
    async def with_resource(tasks: BackgroundTasks, got: str = Depends(resource)) -> str:
        tasks.add_task(life.append, "task")
        return got

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number}\n"

        return StreamingResponse(lines())

    @app.delete("/items/{number}", status_code=204)
    async def delete(number: int) -> None: ...

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("mine")

    return app


def test_an_application_with_most_of_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    life: list[str] = []

    async def test(site: Site) -> None:
        http = site.http
        made = await http.post("/items", json={"name": "a", "price": 1.5})
        assert (made.status_code, made.json()) == (201, {"name": "a", "double": 3.0})
        wrong = await http.post("/items", json={"name": "a", "price": "much"})
        assert wrong.status_code == 422
        assert wrong.json()["detail"][0]["loc"] == ["body", "price"]
        sent = await http.post("/files", files={"file": ("a.bin", bytes(2_000_000))})
        assert sent.json() == {"name": "a.bin", "size": 2_000_000}
        assert (await http.get("/sync")).json() == "a pool"
        assert (await http.get("/stream")).text == "0\n1\n2\n"
        gone = await http.delete("/items/3")
        assert (gone.status_code, gone.content) == (204, b"")
        assert "content-length" not in gone.headers
        assert (await http.get("/openapi.json")).json()["info"]["title"] == "FastAPI"
        assert (await http.get("/fail")).status_code == 500
        assert (await http.get("/resource")).json() == "a resource"

    run(make_app(life), test)
    assert life == ["up", "acquired", "task", "released", "down"]
    assert complaints(caplog) == ["the handler failed on GET /fail HTTP/1.1"]
