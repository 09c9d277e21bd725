"""A request → the environ of a WSGI application. PEP 3333, RFC 3875 §4.1.

The part that is the same for every request is prepared once, and copied.
"""

from io import SEEK_END, BytesIO
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from h1core.bounded_dict import BoundedDict
from h1core.errors import LocalError
from h1core.events import Endpoints, Request

# Any: PEP 3333 allows values of many types, and an application may add its own.
Environ: TypeAlias = dict[str, Any]

DROPPED: Final = ""
"""The key of a field that is not passed to the application."""

MAX_CACHED_NAMES: Final = 1024
MAX_CACHED_NAME_BYTES: Final = 64
MAX_TEMPLATES: Final = 256
"""One for each address of the server that clients have used; a machine may have the addresses of a whole network."""

_UNPREFIXED: Final = frozenset({b"content-type", b"content-length"})


class EnvironMaker:
    """Makes an environ for each request. `common` is what all of them have, such as wsgi.errors."""

    __slots__ = ("_common", "_keys", "_root_path", "_templates")

    def __init__(self, root_path: str, common: Environ) -> None:
        self._root_path = _script_name(root_path)
        self._common = common
        self._keys: BoundedDict[bytes, str] = BoundedDict(MAX_CACHED_NAMES)
        self._templates: BoundedDict[tuple[object, str], Environ] = BoundedDict(MAX_TEMPLATES)

    def make(self, request: Request) -> Environ:
        """A new environ, which the application may change."""
        endpoints = request.endpoints
        template = self._templates.get((endpoints.server, endpoints.scheme)) or self._new_template(endpoints)
        environ = template.copy()
        environ["REQUEST_METHOD"] = request.method.decode("latin-1")
        target = request.target.decode("latin-1")
        environ["RAW_URI"] = environ["REQUEST_URI"] = target
        path, _, environ["QUERY_STRING"] = target.partition("?")
        if path[:1] != "/":
            path = _path_of(path)
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        root_path = self._root_path
        if root_path and f"{path}/".startswith(f"{root_path}/"):
            path = path[len(root_path) :]
        environ["PATH_INFO"] = path
        if request.version != b"1.1":
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        if endpoints.client is not None:
            environ["REMOTE_ADDR"], port = endpoints.client
            environ["REMOTE_PORT"] = str(port)
        known = self._keys.get
        for name, value in request.headers:
            key = known(name)
            if key is None:
                key = self._new_key(name)
            if key in environ:  # a repeated field: no key of a field is in the template
                separator = "; " if key == "HTTP_COOKIE" else ", "  # RFC 6265 §5.4, RFC 9110 §5.3
                environ[key] += separator + value.decode("latin-1")
            elif key is not DROPPED:
                environ[key] = value.decode("latin-1")
        if request.end_stream:
            environ["wsgi.input"] = BytesIO()
        else:
            _add_body(request, environ)
        return environ

    def _new_template(self, endpoints: Endpoints) -> Environ:
        """The part that is the same for every request to one address."""
        host, port = endpoints.server or ("", None)
        if port is None:  # a unix socket, or unknown; the variables must not be empty
            host, port = "localhost", 443 if endpoints.scheme == "https" else 80
        template: Environ = {
            "SCRIPT_NAME": self._root_path,
            "SERVER_NAME": f"[{host}]" if ":" in host else host,  # RFC 3875 §4.1.14
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "h1core",
            "REMOTE_ADDR": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": endpoints.scheme,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            **self._common,
        }
        self._templates[(endpoints.server, endpoints.scheme)] = template
        return template

    def _new_key(self, name: bytes) -> str:
        """The key of a field by its lower-case name, or DROPPED."""
        # `a_b` and `a-b` would have the same key, and a proxy filters the second only (CVE-2024-45614).
        if b"_" in name:
            return DROPPED
        key = name.decode("latin-1").upper().replace("-", "_")
        if name not in _UNPREFIXED:
            key = f"HTTP_{key}"
        if len(name) <= MAX_CACHED_NAME_BYTES:
            self._keys[name] = key
        return key


def _add_body(request: Request, environ: Environ) -> None:
    """Add the body, and its length, which is known even when it came in chunks.

    Frameworks do not read a body without CONTENT_LENGTH. A decoded body has no Transfer-Encoding (RFC 9112 §7.1.3).
    """
    body = environ["wsgi.input"] = request.open_body()
    if "CONTENT_LENGTH" not in environ:
        environ["CONTENT_LENGTH"] = str(body.seek(0, SEEK_END))
        body.seek(0)
        environ.pop("HTTP_TRANSFER_ENCODING", None)


def _path_of(target: str) -> str:
    """The path of a target that does not begin with a slash, given without its query. RFC 9112 §3.2.2, §3.2.4."""
    _, is_absolute, rest = target.partition("://")
    if not is_absolute:
        return ""  # the asterisk: it names no resource of the application
    return "/" + rest.partition("/")[2]


def _script_name(root_path: str) -> str:
    """SCRIPT_NAME for a root path. Raises LocalError when it does not begin with a slash."""
    if root_path and not root_path.startswith("/"):
        raise LocalError(f"a root path begins with a slash, as in /shop, not {root_path!r}")
    return root_path.rstrip("/").encode().decode("latin-1")  # PEP 3333: bytes as latin-1 text
