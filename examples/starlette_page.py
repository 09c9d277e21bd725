"""A page with a form, an upload, server-sent events and a background task on Starlette, to try a server by hand.

pip install 'h1core[frameworks]'
h1core examples.starlette_page:app
curl -N http://127.0.0.1:8000/events
"""

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core and Starlette</title>
<h1>It works</h1>
<form method="post" action="/form" enctype="multipart/form-data">
  <p><label>Your name <input name="name"></label>
  <p><label>A file <input type="file" name="file"></label>
  <p><button>Send</button>
</form>
<h2>Events</h2>
<ol id="events"></ol>
<script>
  new EventSource("/events").onmessage = event => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("events").append(item);
  };
</script>
"""


async def index(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def form(request: Request) -> Response:
    async with request.form() as sent:
        name, file = sent.get("name", ""), sent.get("file")
        size = len(await file.read()) if isinstance(file, UploadFile) else 0
    text = f"<!doctype html>\n<title>Sent</title>\n<p>Hello, {html.escape(str(name))}: {size} bytes.\n"
    return HTMLResponse(text, background=BackgroundTask(print, "after the response:", name, size))


async def events(request: Request) -> Response:
    async def tick() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: tick {number}\n\n"
            await anyio.sleep(1)
            number += 1

    return StreamingResponse(tick(), media_type="text/event-stream")


async def state(request: Request) -> Response:
    return JSONResponse({"greeting": request.state.greeting})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    print("starting up")
    yield {"greeting": "hello from the lifespan"}
    print("shutting down")


app = Starlette(
    routes=[
        Route("/", index),
        Route("/form", form, methods=["POST"]),
        Route("/events", events),
        Route("/state", state),
    ],
    lifespan=lifespan,
)
