"""A page with a form on FastAPI, and its description at /openapi.json, to try a server by hand.

pip install 'h1core[frameworks]'
h1core examples.fastapi_page:app
"""

import html
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, File, Form
from fastapi.responses import HTMLResponse

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core and FastAPI</title>
<h1>It works</h1>
<form method="post" action="/form" enctype="multipart/form-data">
  <p><label>Your name <input name="name"></label>
  <p><label>A file <input type="file" name="file"></label>
  <p><button>Send</button>
</form>
"""

app = FastAPI(title="h1core and FastAPI")


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return PAGE


@app.post("/form", response_class=HTMLResponse)
async def form(name: Annotated[str, Form()], file: Annotated[bytes, File()], tasks: BackgroundTasks) -> str:
    tasks.add_task(print, "after the response:", name, len(file))
    return f"<!doctype html>\n<title>Sent</title>\n<p>Hello, {html.escape(name)}: {len(file)} bytes.\n"
