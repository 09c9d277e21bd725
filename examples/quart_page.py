"""A page with a form on Quart, to try a server by hand.

pip install 'h1core[frameworks]'
h1core examples.quart_page:app
"""

from quart import Quart, render_template_string, request

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core and Quart</title>
<h1>It works</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>Your name <input name="name"></label>
  <p><label>A file <input type="file" name="file"></label>
  <p><button>Send</button>
</form>
{% if name is defined %}<p>Hello, {{ name }}: {{ size }} bytes.{% endif %}
"""

app = Quart(__name__)


@app.get("/")
async def index() -> str:
    return await render_template_string(PAGE)


@app.post("/")
async def form() -> str:
    file = (await request.files).get("file")
    name = (await request.form)["name"]
    return await render_template_string(PAGE, name=name, size=len(file.read()) if file else 0)
