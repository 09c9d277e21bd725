"""A Starlette application, and what is asked of it by same_as_peers.py."""

from typing import Any


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
HALF_CLOSES = frozenset({"half-closed"})
"""After which requests the client closes its writing side; most others ask the server to close."""
