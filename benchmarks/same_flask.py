"""A Flask application, and what is asked of it by same_as_peers.py."""

from pathlib import Path
from typing import Any


def make_app() -> Any:
    """The application; Flask is imported only where it is served."""
    import flask

    app = flask.Flask(__name__)
    app.secret_key = "not a secret"
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]

    @app.route("/echo", methods=methods)
    def echo() -> Any:
        request = flask.request
        told = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "CONTENT_LENGTH")
        names = [*told, *sorted(name for name in request.environ if name.startswith(("HTTP_", "CONTENT_TYPE")))]
        lines = [f"{name}={request.environ.get(name)!r}" for name in names if name != "HTTP_HOST"]
        return flask.Response("\n".join([*lines, repr(request.get_data())]), mimetype="text/plain")

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(iter(["one ", "", "two"]), mimetype="text/plain")

    @app.get("/status/<int:code>")
    def status(code: int) -> Any:
        return "body" if code not in (204, 304) else "", code

    @app.get("/cookies")
    def cookies() -> Any:
        response = flask.Response("two")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/reason")
    def reason() -> Any:
        return flask.Response("own words", status="200 Fine by me")

    @app.get("/short")
    def short() -> Any:
        return flask.Response(iter(["four"]), headers={"Content-Length": "9"}, mimetype="text/plain")

    @app.get("/long")
    def long() -> Any:
        return flask.Response(iter(["four", "more"]), headers={"Content-Length": "4"}, mimetype="text/plain")

    @app.get("/hop")
    def hop() -> Any:
        return flask.Response("x", headers={"Connection": "close"})

    @app.get("/fails")
    def fails() -> Any:
        raise ValueError("the application's own")

    @app.get("/file")
    def file() -> Any:
        return flask.send_file(Path(__file__).with_name("README.md"), mimetype="text/plain", etag=False)

    return app


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    head = "".join(f"{each}\r\n" for each in (f"{line} HTTP/1.1", "Host: example", *fields, ""))
    return head.encode("latin-1") + body


CHUNKS = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
REQUESTS = {
    "GET": request("GET /echo"),
    "GET, query": request("GET /echo?a=b%20c&d"),
    "GET, escapes in the path": request("GET /ech%6F?x"),
    "GET, two slashes": request("GET //echo"),
    "GET, absolute target": request("GET http://example/echo?a"),
    "GET, HTTP/1.0": b"GET /echo HTTP/1.0\r\n\r\n",
    "GET, HTTP/1.0 keep-alive": b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET, close": request("GET /echo", "Connection: close"),
    "GET, a field twice": request("GET /echo", "X-A: 1", "X-A: 2"),
    "GET, cookies twice": request("GET /echo", "Cookie: a=b", "Cookie: c=d"),
    "GET, underscore in a name": request("GET /echo", "X_A: 1"),
    "GET, latin-1 in a value": request("GET /echo", "X-A: \xe9"),
    "HEAD": request("HEAD /echo"),
    "OPTIONS": request("OPTIONS /echo"),
    "OPTIONS *": request("OPTIONS *"),
    "POST": request("POST /echo", "Content-Length: 5", "Content-Type: text/plain", body=b"hello"),
    "POST, empty": request("POST /echo", "Content-Length: 0"),
    "POST, chunked": request("POST /echo", "Transfer-Encoding: chunked", body=CHUNKS),
    "POST, 100-continue": request("POST /echo", "Content-Length: 5", "Expect: 100-continue", body=b"hello"),
    "method unknown": request("BREW /echo"),
    "not found": request("GET /missing"),
    "stream": request("GET /stream"),
    "stream, HTTP/1.0": b"GET /stream HTTP/1.0\r\n\r\n",
    "stream, HEAD": request("HEAD /stream"),
    "204": request("GET /status/204"),
    "304": request("GET /status/304"),
    "205": request("GET /status/205"),
    "418": request("GET /status/418"),
    "cookies": request("GET /cookies"),
    "own reason": request("GET /reason"),
    "file": request("GET /file"),
    "body too short": request("GET /short"),
    "body too long": request("GET /long"),
    "hop-by-hop field": request("GET /hop"),
    "application fails": request("GET /fails"),
    "no Host": b"GET /echo HTTP/1.1\r\n\r\n",
    "not HTTP": b"hello\r\n\r\n",
}
HALF_CLOSES = frozenset(name for name in REQUESTS if "close" not in name)
"""After which requests the client closes its writing side, so that the answer ends when it is whole."""
