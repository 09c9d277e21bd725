"""Flask, as it is."""

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

pytest.importorskip("flask", reason="Flask is not installed; ./setup-venv does that")
pytest.importorskip("httpx", reason="httpx is not installed; ./setup-venv does that")

import flask
import httpx

from h1core.app.wsgi import FileWrapper

from ..drivers.test_pool import PATIENCE_S
from .conftest import MIB, Start


def make_app(folder: Path) -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "not a secret"

    @app.get("/json")
    def json() -> Any:
        return flask.jsonify(path=flask.request.path, url=flask.request.url, arguments=flask.request.args.to_dict())

    @app.post("/form")
    def form() -> Any:
        return flask.jsonify(flask.request.form.to_dict(flat=False))

    @app.post("/upload")
    def upload() -> Any:
        file = flask.request.files["file"]
        digest = hashlib.sha256(file.stream.read()).hexdigest()
        return {"name": file.filename, "digest": digest, "note": flask.request.form["note"]}

    @app.post("/raw")
    def raw() -> Any:
        return flask.request.get_data()

    @app.get("/stream")
    def stream() -> Any:
        def lines() -> Iterator[str]:
            for number in range(1000):
                yield f"line {number}\n"

        return flask.Response(lines(), mimetype="text/plain")

    @app.get("/count")
    def count() -> str:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return str(flask.session["count"])

    @app.get("/fails")
    def fails() -> str:
        raise ValueError("the application's own")

    @app.get("/nothing")
    def nothing() -> Any:
        return "", 204

    @app.get("/file")
    def file() -> Any:
        return flask.send_file(folder / "file", conditional=True)

    @app.get("/é")
    def accented() -> str:
        return "in latin-1 and UTF-8: é"

    return app


@pytest.fixture
def client(start: Start, tmp_path: Path) -> Iterator[httpx.Client]:
    (tmp_path / "file").write_bytes(b"0123456789" * 100_000)
    running = start(make_app(tmp_path))
    host, port = running.address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def test_json_and_the_url(client: httpx.Client) -> None:
    response = client.get("/json?a=b%20c")
    assert response.json() == {"path": "/json", "url": f"{client.base_url}/json?a=b%20c", "arguments": {"a": "b c"}}
    assert response.headers["content-length"] == str(len(response.content))
    assert client.get("/é").text == "in latin-1 and UTF-8: é"


def test_a_form(client: httpx.Client) -> None:
    assert client.post("/form", data={"a": ["1", "2"], "b": "é"}).json() == {"a": ["1", "2"], "b": ["é"]}


def test_an_upload(client: httpx.Client) -> None:
    content = bytes(range(256)) * 4 * 5 * 1024
    response = client.post("/upload", files={"file": ("x.bin", content)}, data={"note": "n"})
    assert len(content) == 5 * MIB
    assert response.json() == {"name": "x.bin", "digest": hashlib.sha256(content).hexdigest(), "note": "n"}


def test_a_body_in_chunks(client: httpx.Client) -> None:
    assert client.post("/raw", content=iter([b"one", b"two"])).content == b"onetwo"


def test_a_stream(client: httpx.Client) -> None:
    response = client.get("/stream")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text.splitlines() == [f"line {number}" for number in range(1000)]


def test_a_session(client: httpx.Client) -> None:
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_error_pages(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    missing, wrong, failed = client.get("/missing"), client.post("/json"), client.get("/fails")
    assert [response.status_code for response in (missing, wrong, failed)] == [404, 405, 500]
    assert "was not found" in missing.text
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "Internal Server Error" in failed.text
    assert "the application's own" in caplog.text


def test_what_has_no_content(client: httpx.Client) -> None:
    response = client.get("/nothing")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers
    head = client.head("/json")
    assert (head.status_code, head.content, int(head.headers["content-length"]) > 0) == (200, b"", True)
    assert client.options("/json").status_code == 200


def test_a_file_and_a_range_of_it(client: httpx.Client) -> None:
    whole = client.get("/file")
    assert whole.content == b"0123456789" * 100_000
    part = client.get("/file", headers={"Range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, b"5678901234")
    unchanged = client.get("/file", headers={"If-None-Match": whole.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_the_end_of_a_large_file(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 << 30
    with (tmp_path / "file").open("wb") as file:
        file.truncate(size)  # it has holes, and takes no room
    blocks: list[bytes] = []
    read = FileWrapper.__next__

    def counted(wrapper: FileWrapper) -> bytes:
        blocks.append(block := read(wrapper))
        return block

    monkeypatch.setattr(FileWrapper, "__next__", counted)
    response = client.get("/file", headers={"Range": f"bytes={size - 10}-"})
    assert (response.status_code, response.content) == (206, bytes(10))
    assert response.headers["content-range"] == f"bytes {size - 10}-{size - 1}/{size}"
    assert len(blocks) <= 1, "what is before the range is not read"
    head = client.head("/file")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
    unchanged = client.get("/file", headers={"If-None-Match": head.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_all_on_one_connection_of_http_client(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    running = start(make_app(tmp_path))
    connection = http.client.HTTPConnection(running.address[0], running.address[1], timeout=PATIENCE_S)
    for target in ("/json", "/stream", "/file", "/nothing", "/missing", "/count"):
        for method in ("GET", "HEAD"):
            connection.request(method, target)
            response = connection.getresponse()
            assert (bool(response.read()), response.will_close) == (method == "GET" and target != "/nothing", False)
    connection.close()


def test_wsgiref_finds_nothing_wrong_with_the_server(start: Start, tmp_path: Path) -> None:
    # It wants no Content-Type for 204 and 304, and read() with a size, which werkzeug's forms do without.
    (tmp_path / "file").write_bytes(b"hello")
    running = start(validator(make_app(tmp_path)))
    host, port = running.address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S, trust_env=False) as client:
        assert client.get("/json").status_code == 200
        assert client.get("/stream").status_code == 200
        assert client.head("/json").status_code == 200
        assert client.get("/file").content == b"hello"
