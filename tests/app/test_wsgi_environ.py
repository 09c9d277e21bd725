"""What a WSGI application is told of a request."""

import io
from pathlib import Path
from typing import Any

import pytest

from h1core import Endpoints, LocalError, Request, Response
from h1core.app import wsgi_environ
from h1core.app.handler import SpooledRequest
from h1core.app.wsgi import wsgi_handler
from h1core.app.wsgi_environ import EnvironMaker

HOST = (b"host", b"example.org")


def environ_of(request: Request, **options: Any) -> dict[str, Any]:
    """What the application is given."""
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    assert wsgi_handler(app, **options)(request) == Response(200, [], b"")
    [environ] = seen
    return environ


def get(target: bytes = b"/", *fields: tuple[bytes, bytes], **more: Any) -> Request:
    return Request(b"GET", target, [HOST, *fields], **more)


def post(body: bytes, *fields: tuple[bytes, bytes]) -> Request:
    return Request(b"POST", b"/", [HOST, *fields], body, end_stream=False)


# The request line.


def test_the_request_line_is_told_in_parts() -> None:
    environ = environ_of(get(b"/a/b?c=d&e=%20?"))
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a/b"
    assert environ["QUERY_STRING"] == "c=d&e=%20?"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a/b?c=d&e=%20?"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_an_old_version_is_told() -> None:
    assert environ_of(get(version=b"1.0"))["SERVER_PROTOCOL"] == "HTTP/1.0"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"//a//b/", "//a//b/", ""),
        (b"/a;b=c/..", "/a;b=c/..", ""),
        (b"/a%20b%2Fc", "/a b/c", ""),
        (b"/%e4%bd%a0", "/\xe4\xbd\xa0", ""),
        (b"/%c3%a9%zz%", "/\xc3\xa9%zz%", ""),
        (b"/\xff%41", "/\xffA", ""),
        (b"http://h", "/", ""),
        (b"http://h?q", "/", "q"),
        (b"http://h/", "/", ""),
        (b"http://u@h:80/a%2f/b?q=http://x/", "/a//b", "q=http://x/"),
        (b"/a?b=http://c/d", "/a", "b=http://c/d"),
        (b"*", "", ""),
    ],
)
def test_the_path_is_decoded_and_the_query_is_not(target: bytes, path: str, query: str) -> None:
    environ = environ_of(get(target))
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["RAW_URI"] == target.decode("latin-1")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/shop", ""),
        (b"/shop/", "/"),
        (b"/shop/a?b", "/a"),
        (b"/sh%6fp/a", "/a"),
        (b"http://h/shop/a", "/a"),
        (b"/shopping", "/shopping"),
        (b"/a", "/a"),
        (b"/a/shop/", "/a/shop/"),
        (b"/", "/"),
    ],
)
@pytest.mark.parametrize("root_path", ["/shop", "/shop/"])
def test_where_it_is_mounted_is_taken_off_the_path(root_path: str, target: bytes, path: str) -> None:
    environ = environ_of(get(target), root_path=root_path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", path)


def test_a_root_path_is_carried_like_any_path() -> None:
    environ = environ_of(get(b"/%C3%A9/a"), root_path="/\xe9")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/\xc3\xa9", "/a")
    assert environ_of(get(), root_path="/")["SCRIPT_NAME"] == ""


def test_a_root_path_begins_with_a_slash() -> None:
    with pytest.raises(LocalError, match=r"^a root path begins with a slash, as in /shop, not 'shop'$"):
        wsgi_handler(lambda environ, start_response: [], root_path="shop")


# Who talks to whom.


def test_both_ends_are_told() -> None:
    environ = environ_of(get(endpoints=Endpoints(("192.0.2.1", 40000), ("192.0.2.2", 8000))))
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.1", "40000")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("192.0.2.2", "8000")
    assert environ["wsgi.url_scheme"] == "http"


def test_addresses_of_version_6_are_told() -> None:
    environ = environ_of(get(endpoints=Endpoints(("2001:db8::1", 40000), ("::1", 8000))))
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"]) == ("2001:db8::1", "[::1]")


@pytest.mark.parametrize("server", [None, ("/run/web.sock", None)])
def test_without_addresses_the_variables_that_must_be_there_are(server: Any) -> None:
    environ = environ_of(get(endpoints=Endpoints(None, server)))
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


def test_a_secure_scheme_is_told() -> None:
    environ = environ_of(get(endpoints=Endpoints(scheme="https")))
    assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", "443")


def test_an_address_asked_for_before_is_not_taken_for_another() -> None:
    make = EnvironMaker("", {}).make
    for port in (1, 2, 1):
        for scheme in ("http", "https"):
            environ = make(get(endpoints=Endpoints(None, ("a", port), scheme)))
            assert (environ["SERVER_PORT"], environ["wsgi.url_scheme"]) == (str(port), scheme)


# Fields.


def test_fields_are_told_under_their_names() -> None:
    fields = [(b"x-a-b", b"1"), (b"content-type", b"text/plain"), (b"content-length", b"0"), (b"x-latin", b"\xe9")]
    environ = environ_of(get(b"/", *fields))
    assert environ["HTTP_HOST"] == "example.org"
    assert environ["HTTP_X_A_B"] == "1"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "0"
    assert environ["HTTP_X_LATIN"] == "\xe9"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_fields_that_come_several_times_are_joined() -> None:
    fields = [(b"x-a", b"1"), (b"cookie", b"a=b"), (b"x-a", b"2, 3"), (b"cookie", b"c=d"), (b"x-a", b"")]
    environ = environ_of(get(b"/", *fields))
    assert environ["HTTP_X_A"] == "1, 2, 3, "
    assert environ["HTTP_COOKIE"] == "a=b; c=d"


def test_a_name_with_an_underscore_is_not_taken_for_one_with_a_hyphen() -> None:
    fields = [(b"x-user", b"me"), (b"x_user", b"root"), (b"content_length", b"7"), (b"a_b", b"c")]
    environ = environ_of(get(b"/", *fields))
    assert environ["HTTP_X_USER"] == "me"
    assert {key for key in environ if "USER" in key or "A_B" in key or "CONTENT" in key} == {"HTTP_X_USER"}


def test_no_field_can_take_the_place_of_another_variable() -> None:
    names = b"request-method path-info wsgi.input server-name remote-addr script-name".split()
    environ = environ_of(get(b"/", *((name, b"evil") for name in names)))
    assert [key for key, value in environ.items() if value == "evil"] == [
        f"HTTP_{name.decode().upper().replace('-', '_')}" for name in names
    ]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_environ, "MAX_CACHED_NAMES", 3)
    monkeypatch.setattr(wsgi_environ, "MAX_TEMPLATES", 2)
    maker = EnvironMaker("", {})
    for number in range(10):
        name = b"x-%d" % number
        endpoints = Endpoints(None, ("a", number))
        environ = maker.make(get(b"/", (name, b"yes"), (b"x" * 100, b"long"), endpoints=endpoints))
        assert environ[f"HTTP_X_{number}"] == "yes"
        assert environ["HTTP_" + "X" * 100] == "long"
        assert len(maker._keys) <= 3
        assert len(maker._templates) <= 2


# The body.


def spooled(body: bytes, path: Path, *fields: tuple[bytes, bytes]) -> SpooledRequest:
    path.write_bytes(body)
    return SpooledRequest(post(b"", *fields), path.open("rb"))


BODY = b"first\nsecond\nthird"


@pytest.mark.parametrize("is_spooled", [False, True])
def test_the_body_is_a_file_that_ends_with_it(is_spooled: bool, tmp_path: Path) -> None:
    fields = [(b"content-length", b"%d" % len(BODY))]
    request = spooled(BODY, tmp_path / "body", *fields) if is_spooled else post(BODY, *fields)

    def body() -> Any:
        return environ_of(request)["wsgi.input"]

    assert body().read() == BODY
    assert body().read(-1) == BODY
    assert body().readline() == b"first\n"
    assert body().readline(3) == b"fir"
    assert body().readlines() == [b"first\n", b"second\n", b"third"]
    assert body().readlines(1) == [b"first\n"]
    assert list(body()) == [b"first\n", b"second\n", b"third"]
    file = body()
    assert [file.read(6), file.readline(), file.read(100), file.read(100), file.readline(), list(file)] == [
        b"first\n",
        b"second\n",
        b"third",
        b"",
        b"",
        [],
    ]
    assert environ_of(request)["CONTENT_LENGTH"] == "18"
    if isinstance(request, SpooledRequest):
        request.close()


def test_without_a_body_its_file_is_empty_and_has_no_length() -> None:
    environ = environ_of(get())
    assert environ["wsgi.input"].read() == b""
    assert "CONTENT_LENGTH" not in environ


@pytest.mark.parametrize("is_spooled", [False, True])
def test_a_body_in_chunks_is_told_by_its_length_like_any_other(is_spooled: bool, tmp_path: Path) -> None:
    coding = (b"transfer-encoding", b"chunked")
    request = spooled(BODY, tmp_path / "body", coding) if is_spooled else post(BODY, coding)
    environ = environ_of(request)
    assert environ["CONTENT_LENGTH"] == "18"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.input"].read() == BODY
    if isinstance(request, SpooledRequest):
        request.close()


# The rest.


def test_the_server_is_told() -> None:
    environ = environ_of(get(), multithread=True, multiprocess=False)
    assert environ["SERVER_SOFTWARE"] == "h1core"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ_of(get(), multiprocess=True)["wsgi.multiprocess"] is True
    assert environ_of(get())["wsgi.multithread"] is False


def test_errors_go_where_they_are_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    mine = io.StringIO()
    print("mine", file=environ_of(get(), errors=mine)["wsgi.errors"])
    print("nobody's", file=environ_of(get())["wsgi.errors"])
    assert mine.getvalue() == "mine\n"
    assert capsys.readouterr().err == "nobody's\n"


def test_each_request_has_a_dict_of_its_own() -> None:
    make = EnvironMaker("", {"wsgi.errors": io.StringIO()}).make
    request = get(b"/", (b"x-a", b"1"))
    first = make(request)
    assert type(first) is dict
    before = dict(first)
    first["HTTP_X_A"] = first["mine"] = "changed"
    del first["SERVER_NAME"]
    second = make(request)
    del before["wsgi.input"], second["wsgi.input"]
    assert second == before
