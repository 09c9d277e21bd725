"""The same requests to the same Starlette application on h1core and on hypercorn: what differs in the answers.

python benchmarks/same_as_peers_asgi.py [--peers-python PYTHON]

Each request goes out as bytes on a connection of its own, and the answer is read until the server closes. Compared are
interim and final statuses, fields but Server and Date, and the body without its framing. docs/peers-asgi.md says why
what differs differs. Servers are started here, on ports of the system's choosing, and ended here.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE_S = 15.0
QUIET_S = 2.0
"""How long an answer may pause before it is taken for whole; hypercorn does not always close."""

IGNORED = {b"server", b"date"}


def make_app() -> Any:
    """The application; Starlette is imported only where it is served."""
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import (
        HTMLResponse,
        JSONResponse,
        PlainTextResponse,
        RedirectResponse,
        Response,
        StreamingResponse,
    )
    from starlette.routing import Mount, Route

    async def scope(request: Any) -> Any:
        names = ("method", "path", "root_path", "scheme", "http_version")
        shown = {name: request.scope[name] for name in names}
        shown["raw_path"] = request.scope["raw_path"].decode("latin-1")
        shown["query"] = request.scope["query_string"].decode("latin-1")
        shown["headers"] = [[part.decode("latin-1") for part in pair] for pair in request.scope["headers"]]
        return JSONResponse(shown)

    async def echo(request: Any) -> Any:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    async def stream(request: Any) -> Any:
        async def pieces() -> Any:
            for number in range(5):
                yield f"piece {number}\n"

        return StreamingResponse(pieces(), media_type="text/plain")

    async def form(request: Any) -> Any:
        async with request.form() as sent:
            return JSONResponse({name: str(value) for name, value in sent.items() if isinstance(value, str)})

    async def cookies(request: Any) -> Any:
        response = PlainTextResponse(str(sorted(request.cookies.items())))
        response.set_cookie("a", "b")
        response.set_cookie("c", "d", httponly=True)
        return response

    async def hints(request: Any) -> Any:
        await request.send_early_hints("</a.css>; rel=preload")
        return PlainTextResponse("hinted")

    async def status(request: Any) -> Any:
        return Response(status_code=int(request.path_params["status"]))

    async def no_content(request: Any) -> Any:
        return JSONResponse({"a": "body"}, status_code=204)

    async def fail(request: Any) -> Any:
        raise ValueError("mine")

    async def page(request: Any) -> Any:
        return HTMLResponse("<p>hello", background=BackgroundTask(lambda: None))

    async def unread(request: Any) -> Any:
        return PlainTextResponse("not read")

    async def go(request: Any) -> Any:
        return RedirectResponse("/page?x=%C3%BC")

    methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
    return Starlette(
        routes=[
            Route("/scope{rest:path}", scope, methods=methods),
            Route("/echo", echo, methods=["POST", "PUT"]),
            Route("/stream", stream),
            Route("/form", form, methods=["POST"]),
            Route("/cookies", cookies),
            Route("/hints", hints),
            Route("/status/{status}", status),
            Route("/no-content", no_content),
            Route("/fail", fail),
            Route("/unread", unread, methods=["POST"]),
            Mount("/sub", routes=[Route("/page", page)]),
            Route("/page", page),
            Route("/go", go),
        ]
    )


def request(line: str, *fields: str, body: bytes = b"", version: str = "1.1", close: bool = True) -> bytes:
    closing = ["Connection: close"] if close else []
    head = "\r\n".join([f"{line} HTTP/{version}", "Host: example.org", *closing, *fields, "", ""])
    return head.encode("latin-1") + body


MULTIPART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xc3\xbc\r\n--b--\r\n'

REQUESTS: dict[str, bytes] = {
    "a page": request("GET /page"),
    "a page's head": request("HEAD /page"),
    "a mounted page": request("GET /sub/page"),
    "a slash too many": request("GET /page/"),
    "not found": request("GET /nowhere"),
    "method not allowed": request("DELETE /page"),
    "redirect": request("GET /go"),
    "scope: query and escapes": request("GET /scope/a%20b%2Fc/%C3%BC?q=%20&r=%FF"),
    "scope: dots and slashes": request("GET /scope/a/../b//c/./"),
    "scope: not utf-8": request("GET /scope/%FF%FE"),
    "scope: absolute form": request("GET http://example.org/scope/x?y"),
    "scope: repeated fields": request("GET /scope", "X-A: 1", "x-a: 2", "X_B: 3"),
    "scope: latin-1 field": request("GET /scope", "X-A: \xfc"),
    "scope: lower-case method": request("get /scope"),
    "scope: HTTP/1.0": request("GET /scope", version="1.0", close=False),
    "scope: options": request("OPTIONS /scope"),
    "echo: length": request("POST /echo", "Content-Length: 5", "Content-Type: text/x", body=b"hello"),
    "echo: chunked": request("POST /echo", "Transfer-Encoding: chunked", body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "echo: empty": request("POST /echo", "Content-Length: 0"),
    "echo: 100 continue": request("POST /echo", "Content-Length: 2", "Expect: 100-continue", body=b"ok"),
    "echo: large": request("POST /echo", "Content-Length: 300000", body=bytes(300000)),
    "form: urlencoded": request(
        "POST /form", "Content-Length: 8", "Content-Type: application/x-www-form-urlencoded", body=b"a=b&c=%C"
    ),
    "form: multipart": request(
        "POST /form",
        f"Content-Length: {len(MULTIPART)}",
        "Content-Type: multipart/form-data; boundary=b",
        body=MULTIPART,
    ),
    "stream": request("GET /stream"),
    "stream's head": request("HEAD /stream"),
    "stream: HTTP/1.0": request("GET /stream", version="1.0", close=False),
    "cookies": request("GET /cookies", "Cookie: x=y; z=1"),
    "early hints": request("GET /hints"),
    "status 204": request("GET /status/204"),
    "status 304": request("GET /status/304"),
    "status 299": request("GET /status/299"),
    "204 with a body": request("GET /no-content"),
    "exception": request("GET /fail"),
    "body left unread": request("POST /unread", "Content-Length: 5", body=b"hello"),
    "two on one connection": request("GET /page", close=False) + request("GET /page"),
    "websocket": request(
        "GET /page",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        close=False,
    ),
    "another upgrade": request("GET /page", "Connection: Upgrade, close", "Upgrade: foo", close=False),
    "half-closed": request("GET /page", close=False),
}

Answer = tuple[bytes, list[tuple[bytes, bytes]], bytes]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def running(python: str, *arguments: str) -> Iterator[int]:
    """A server process that listens, and its port."""
    port = free_port()
    command = [python, *(argument.format(port=port) for argument in arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONHASHSEED": "0"}  # sets of methods in one order
    with subprocess.Popen(command, cwd=HERE, env=environment, **quiet) as process:  # type: ignore[call-overload]  # a dict of options
        try:
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            else:
                raise SystemExit(f"did not start: {' '.join(command)}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def ask(port: int, wire: bytes, half_close: bool) -> bytes:
    """All that comes of it, until the server closes, or nothing more comes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(wire)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(QUIET_S)
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                received += data
    return received


def answers(wire: bytes, is_head: bool) -> list[Answer]:
    """The answers on the wire: status line without its phrase, fields sorted, body without chunks."""
    found: list[Answer] = []
    while wire:
        head, end, wire = wire.partition(b"\r\n\r\n")
        if not end:
            return [*found, (b"cut: " + head[:60], [], b"")]
        line, *field_lines = head.split(b"\r\n")
        status = line.split(b" ")[1]
        pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in field_lines)]
        fields = dict(pairs)
        body = b""
        if not (is_head or status.startswith(b"1") or status in (b"204", b"304")):
            if fields.get(b"transfer-encoding") == b"chunked":
                body, wire = unchunked(wire)
            else:
                length = int(fields.get(b"content-length", len(wire)))
                body, wire = wire[:length], wire[length:]
        found.append((status, sorted(pair for pair in pairs if pair[0] not in IGNORED), body))
    return found


def unchunked(wire: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, wire = wire.partition(b"\r\n")
        length = int(size, 16) if size else 0
        if not length:
            return body, wire.partition(b"\r\n")[2]
        body += wire[:length]
        wire = wire[length + 2 :]


def differences(ours: list[Answer], theirs: list[Answer]) -> Iterator[str]:
    if [answer[0] for answer in ours] != [answer[0] for answer in theirs]:
        yield f"status {[answer[0].decode() for answer in ours]} / {[answer[0].decode() for answer in theirs]}"
        return
    for (_, our_fields, our_body), (_, their_fields, their_body) in zip(ours, theirs, strict=True):
        only_ours = [pair for pair in our_fields if pair not in their_fields]
        only_theirs = [pair for pair in their_fields if pair not in our_fields]
        if only_ours or only_theirs:
            yield f"fields {in_words(only_ours)} / {in_words(only_theirs)}"
        if our_body != their_body:
            yield f"body {our_body[:400]!r} / {their_body[:400]!r}"


def in_words(fields: list[tuple[bytes, bytes]]) -> str:
    return "; ".join(b": ".join(pair).decode("latin-1") for pair in fields) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has hypercorn")
    options = parser.parse_args()
    ours = (sys.executable, "-m", "h1core", "same_as_peers_asgi:make_app", "--factory", "--bind", "127.0.0.1:{port}")
    theirs = (options.peers_python, "-m", "hypercorn", "same_as_peers_asgi:make_app()", "--bind", "127.0.0.1:{port}")
    equal = 0
    with running(*ours) as our_port, running(*theirs, "--worker-class", "trio") as their_port:
        for name, wire in REQUESTS.items():
            is_head = wire.startswith(b"HEAD")
            both = [answers(ask(port, wire, name == "half-closed"), is_head) for port in (our_port, their_port)]
            found = list(differences(*both))
            equal += not found
            for difference in found:
                print(f"{name}: {difference}")
    print(f"{equal} of {len(REQUESTS)} the same; where not, h1core / hypercorn")


if __name__ == "__main__":
    main()
