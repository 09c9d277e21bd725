"""A page with a form on Flask, to try a server by hand.

pip install 'h1core[frameworks]'
h1core examples.flask_page:app
"""

from flask import Flask, render_template_string, request

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core and Flask</title>
<h1>It works</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>Your name <input name="name"></label>
  <p><label>A file <input type="file" name="file"></label>
  <p><button>Send</button>
</form>
{% if name is defined %}<p>Hello, {{ name }}: {{ size }} bytes.{% endif %}
"""

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


@app.post("/")
def form() -> str:
    file = request.files.get("file")
    return render_template_string(PAGE, name=request.form["name"], size=len(file.read()) if file else 0)
