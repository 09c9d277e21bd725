"""The same requests to h1core and to its peers, around the same application: what differs.

python benchmarks/same_as_peers.py

Each request goes as raw bytes over a connection of its own. Status, fields and body of every answer are compared,
Server, Date and the case of names left aside. docs/peers.md explains each line of the output; a difference that is not
explained there is a bug here or there. A peer is an entry in PEERS, an interface one in APPS.
"""

import contextlib
import functools
import http.client
import importlib.util
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

PATIENCE_S = 20.0
LEFT_ASIDE = {"server", "date"}


class Peer(NamedTuple):
    """A server to compare with: its interface, what to run, what must be installed."""

    interface: str
    arguments: tuple[str, ...]
    needs: str


OURS = ("-m", "h1core", "{app}", "--bind", "127.0.0.1:{port}")
APPS = {"wsgi": "same_as_peers:flask_app"}
PEERS = {
    "waitress": Peer("wsgi", ("-m", "waitress", "--listen=127.0.0.1:{port}", "{app}"), "waitress"),
}


def flask_app(environ: dict[str, Any], start_response: Any) -> Any:
    return make_flask_app()(environ, start_response)


@functools.cache
def make_flask_app() -> Any:
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


class Answer(NamedTuple):
    status: str
    fields: dict[str, str]
    body: str


@contextlib.contextmanager
def running(arguments: tuple[str, ...], app: str) -> Iterator[int]:
    """A server process, and its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    command = [sys.executable, *(argument.format(port=port, app=app) for argument in arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=Path(__file__).parent, env=dict(os.environ), **cast(Any, quiet))
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if time.monotonic() > give_up_at or process.poll() is not None:
                raise SystemExit(f"{command} did not start")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class _Wire(io.BytesIO):
    """What HTTPResponse takes for a socket."""

    def makefile(self, mode: str) -> "_Wire":
        return self


def ask(port: int, name: str) -> Answer:
    """Send a request, read until the answer is whole or the server closes or a second is over, and take it apart."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        sock.sendall(REQUESTS[name])
        with contextlib.suppress(OSError):
            if "close" not in name:
                sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(1 << 16):
                received += data
    method = "HEAD" if "HEAD" in name else "GET"
    response = http.client.HTTPResponse(cast(socket.socket, _Wire(received)), method=method)
    try:
        response.begin()
    except (http.client.HTTPException, OSError) as error:
        return Answer(f"no answer ({type(error).__name__})", {}, "")
    try:
        body = response.read().decode("latin-1")
    except http.client.IncompleteRead as error:
        body = f"{error.partial.decode('latin-1')} (cut)"
    fields: dict[str, str] = {}
    for name_as_sent, value in response.getheaders():
        field = name_as_sent.lower()
        if field not in LEFT_ASIDE:
            fields[field] = f"{fields[field]}, {value}" if field in fields else value
    return Answer(f"{response.status} {response.reason}", fields, body)


def differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    """What is not the same, ours first."""
    if ours.status != theirs.status:
        yield f"status: {ours.status} | {theirs.status}"
    for field in sorted({*ours.fields, *theirs.fields}):
        mine, other = ours.fields.get(field, "–"), theirs.fields.get(field, "–")
        if mine != other:
            yield f"{field}: {mine} | {other}"
    if ours.body != theirs.body:
        mine_lines, other_lines = ours.body.splitlines(), theirs.body.splitlines()
        only_mine = " ".join(line for line in mine_lines if line not in other_lines)
        only_other = " ".join(line for line in other_lines if line not in mine_lines)
        yield f"body: {only_mine[:100]!r} | {only_other[:100]!r}"


def main() -> None:
    for name, peer in PEERS.items():
        if importlib.util.find_spec(peer.needs) is None:
            print(f"{name} is not installed")
            continue
        app = APPS[peer.interface]
        with running(OURS, app) as our_port, running(peer.arguments, app) as their_port:
            same = []
            print(f"h1core | {name}")
            for asked in REQUESTS:
                found = list(differences(ask(our_port, asked), ask(their_port, asked)))
                for line in found:
                    print(f"  {asked}: {line}")
                if not found:
                    same.append(asked)
            print(f"  the same: {len(same)} of {len(REQUESTS)}: {'; '.join(same)}")


if __name__ == "__main__":
    main()
