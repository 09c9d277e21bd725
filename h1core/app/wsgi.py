"""WSGI (PEP 3333): an application → a handler.

The application is called with a whole request. The head of its response is kept until the first block of body that is
not empty, or the end of the body: until then `start_response` may be called again with `exc_info`. A wrong argument
raises LocalError in the call, so that the traceback shows the application's own line; if the application does not
handle it, the client gets a 500.

`write` sends at once when the application runs in a worker thread, which can wait for the client. On the loop's own
thread the data is kept until the application returns, up to `MAX_KEPT_BYTES`.

The `close` of what the application returns is called once: here when the body is complete or something fails, else by
the driver at the end of the response.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from io import SEEK_SET
from itertools import chain
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeAlias
from wsgiref.types import ErrorStream, WSGIApplication

from h1core.app.handler import AsFile, FirstLook, ResponseWriter, WholeBody, WritingHandler, close_pieces
from h1core.app.wsgi_environ import EnvironMaker
from h1core.bounded_dict import BoundedDict
from h1core.errors import LocalError
from h1core.events import Request, Response
from h1core.http1.statuses import NO_LENGTH, PHRASES, WITHOUT_CONTENT

Field: TypeAlias = tuple[bytes, bytes]


class Unfinished(Protocol):
    """What `wsgi.errors` keeps until it is flushed."""

    text: str
    """The incomplete line of the thread that asks."""


class _NothingUnfinished:
    text = ""


class _Errors(NamedTuple):
    """`wsgi.errors`, and what it keeps. One request must not end the line of another, so each has its own `text`."""

    stream: ErrorStream
    unfinished: Unfinished


SMALL_BODY_BYTES: Final = 64 * 1024
"""Up to this size the blocks of a list are joined, and sent as one."""

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""How much `write` keeps when nothing can be sent before the application returns."""

UNDECLARED: Final = -1
"""The length of a body for which the application has set no Content-Length."""

MAX_LENGTH_DIGITS: Final = 18

MAX_CACHED: Final = 1024
MAX_CACHED_CHARACTERS: Final = 200

UNCACHED: Final = frozenset({"set-cookie", "etag", "location", "authorization"})
"""Fields that carry a secret, or a value that is rarely repeated."""

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110 §5.6.2
_CONTROLS: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])

_fields: BoundedDict[tuple[str, str], Field | int] = BoundedDict(MAX_CACHED)
"""Fields that were found valid before, Content-Length as a number; bounded, and without secrets."""

_statuses: BoundedDict[str, tuple[int, bytes | None]] = BoundedDict(MAX_CACHED)
"""The same for status lines: the status, and the reason phrase if it is another than the registered one."""


def wsgi_handler(
    app: WSGIApplication,
    *,
    root_path: str = "",
    multithread: bool = False,
    multiprocess: bool = False,
    errors: ErrorStream | None = None,
    unfinished: Unfinished | None = None,
    as_file: AsFile | None = None,
) -> "WsgiHandler":
    """A handler that runs a WSGI application.

    `root_path` is where the application is mounted, decoded: SCRIPT_NAME. `multithread`: several threads run it at
    once; `multiprocess`: several processes do. `errors` is `wsgi.errors`; stderr if it is not given. If it keeps
    incomplete lines, `unfinished` shows them: they are flushed at the end of each request. `as_file` decides which
    files of `wsgi.file_wrapper` are sent by reference; the others are read. Raises LocalError for a root path that does
    not begin with a slash.
    """
    its_errors = _Errors(errors or sys.stderr, unfinished or _NothingUnfinished())
    common = {
        "wsgi.errors": its_errors.stream,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.file_wrapper": FileWrapper,
    }
    return WsgiHandler(app, EnvironMaker(root_path, common), as_file, its_errors)


class WsgiHandler(WritingHandler):
    """The handler that `wsgi_handler` makes."""

    def __init__(self, app: WSGIApplication, environs: EnvironMaker, as_file: AsFile | None, errors: _Errors) -> None:
        self._app = app
        self.on_head: FirstLook | None = getattr(app, "on_head", None)
        self._errors = errors
        self._make_environ = environs.make
        self._as_file = as_file

    def __call__(self, request: Request, writer: ResponseWriter | None = None) -> Response:
        """Return the response, or the rest of it after what the application has written."""
        is_head = request.method == b"HEAD"
        call = _Call(None if is_head else writer, is_head, self._errors)
        try:
            result = self._app(self._make_environ(request), call.start_response)
            if self._as_file is not None and type(result) is FileWrapper:
                return call.file_response(result, self._as_file)
            return call.response(result)
        finally:
            if self._errors.unfinished.text:
                call.keep_line()


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable of blocks."""

    __slots__ = ("block_size", "file")

    # Any: whatever has `read`, and perhaps `close`
    def __init__(self, file: Any, block_size: int = 64 * 1024) -> None:
        self.file = file
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.file.read(self.block_size)
        if not block:
            raise StopIteration
        return block

    # For frameworks that answer a Range: they skip what is before it.

    def seekable(self) -> bool:
        """Whether the file can be read from any place."""
        seekable = getattr(self.file, "seekable", None)
        return seekable is not None and bool(seekable())

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a place in the file. Raises what its `seek` raises."""
        at: int = self.file.seek(offset, whence)
        return at

    def tell(self) -> int:
        """The place in the file. Raises what its `tell` raises."""
        at: int = self.file.tell()
        return at

    def close(self) -> None:
        """Close the file, if it can be."""
        close_pieces(self.file)


class _Call:
    """One call of the application, and its response so far."""

    __slots__ = (
        "_blocks",
        "_errors",
        "_fields",
        "_head_is_final",
        "_is_head",
        "_kept",
        "_length",
        "_reason",
        "_status",
        "_writer",
        "_written_bytes",
    )

    def __init__(self, writer: ResponseWriter | None, is_head: bool, errors: _Errors) -> None:
        self._writer = writer
        self._errors = errors
        self._blocks: _Blocks | None = None  # once the application has returned something else than a list
        self._is_head = is_head
        self._written_bytes = 0
        """Bytes that the application has written, unless the response has no body. With a writer they are sent."""
        self._status = 0  # none yet
        self._reason: bytes | None = None
        self._fields: list[Field] = []
        self._length = UNDECLARED
        self._head_is_final = False
        self._kept: list[bytes] = []
        """What the application has written and is not sent yet."""

    # For the application

    def start_response(
        self,
        status: str,
        response_headers: Iterable[tuple[str, str]],
        exc_info: Any = None,  # what sys.exc_info() gives
    ) -> Callable[[bytes], None]:
        """Set status and headers, or with `exc_info` replace them. Returns `write`. Raises LocalError."""
        if exc_info is not None and exc_info[1] is not None:
            try:
                if self._head_is_final:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # else this frame and the traceback would keep each other alive
        elif self._status:
            raise LocalError("start_response was called before; only exc_info allows for calling it again")
        try:
            start = _statuses.get(status) or _parse_status(status)
        except TypeError:  # it is not hashable, so not a str
            _raise_wrong_status(status)
        if type(response_headers) is not list:
            response_headers = _as_list(response_headers)
        try:
            self._take_fields(response_headers)
        except TypeError:  # a pair is not hashable: a list, or something in it
            self._take_fields(_hashable(response_headers))
        self._status, self._reason = start
        return self.write

    def write(self, data: bytes) -> None:
        """Send or keep a piece of body, before all that is returned. Raises LocalError, and Disconnected."""
        if not isinstance(data, bytes):
            raise LocalError(f"write takes bytes, not {type(data).__name__}")
        if not data:
            return
        if self._is_head or self._status in WITHOUT_CONTENT:
            self._head_is_final = True
            self._kept = [data]  # not sent, but it shows that there is a body
            return
        before = self._written_bytes
        if self._length != UNDECLARED and before + len(data) > self._length:
            raise LocalError(f"write goes beyond the Content-Length of {self._length}; this piece is not sent")
        if self._writer is None and before + len(data) > MAX_KEPT_BYTES:
            raise LocalError(
                f"without worker threads, write keeps what it is given, and {MAX_KEPT_BYTES} bytes at most;"
                " return an iterator, or run with threads"
            )
        self._head_is_final = True  # as far as the application can tell
        self._written_bytes += len(data)
        if self._writer is None:
            self._kept.append(data)
            return
        if not before:
            self._writer.begin(self._streamed(None))
        self._writer.write(data)

    def _take_fields(self, headers: list[tuple[str, str]]) -> None:
        """Check and encode the headers; the length is kept apart from the others. Raises LocalError."""
        known = _fields.get
        length = UNDECLARED
        fields: list[Field] = []
        for pair in headers:
            field = known(pair)
            if field is None:
                field = _new_field(pair)
            if type(field) is tuple:
                fields.append(field)
            elif length in (UNDECLARED, field):
                length = field  # type: ignore[assignment]  # mypy does not see that it is no tuple
            else:
                raise LocalError("a response has one Content-Length, not two that differ")
        self._fields = fields
        self._length = length

    # For the driver

    def response(self, result: Iterable[bytes]) -> Response:
        """The response for what the application has returned. Raises what that raises, or LocalError."""
        if (type(result) is list or type(result) is tuple) and not self._head_is_final:
            return self._listed(result)
        self._blocks = blocks = _Blocks(result, self._kept, self._errors)
        if self._written_bytes and self._writer is not None:
            return Response(self._status, (), blocks)  # the head is sent
        try:
            first = blocks.take_first_block()
            self._check_started()
            if not first or self._status in WITHOUT_CONTENT:
                blocks.close()
                return self._whole(first)
        except BaseException:
            blocks.close()
            raise
        self._head_is_final = True
        size = len(first)
        if self._length == size or (self._length == UNDECLARED and not self._kept and _is_single(result)):
            return self._with_body(WholeBody(first, blocks.finish))
        blocks.put_back(first)
        return self._streamed(blocks)

    def keep_line(self) -> None:
        """Flush an incomplete line on `wsgi.errors`, or keep it for the rest of the body."""
        if self._blocks is None or self._blocks.is_closed:
            self._errors.stream.flush()
        else:
            self._blocks.keep_line()

    def file_response(self, result: FileWrapper, as_file: AsFile) -> Response:
        """The response for a wrapped file. Raises like `response`.

        The application's file is closed at once, in the thread that has opened it: the body has its own.
        """
        may_send = self._status and not self._head_is_final and self._status not in WITHOUT_CONTENT
        body = as_file(result.file) if may_send else None
        if body is None:
            return self.response(result)
        try:
            result.close()
        except BaseException:
            body.close()
            raise
        if self._length != UNDECLARED:
            body.limit(count=self._length)
            self._add_length()
        return self._with_body(body)

    def _listed(self, blocks: list[bytes] | tuple[bytes, ...]) -> Response:
        """The response for a list or tuple of blocks: the length is known."""
        self._check_started()
        if len(blocks) == 1:
            body = blocks[0]
            if type(body) is not bytes:
                _check_block(body)
            return self._whole(body)
        for block in blocks:
            _check_block(block)
        size = sum(map(len, blocks))
        if size <= SMALL_BODY_BYTES or self._status in WITHOUT_CONTENT:
            return self._whole(b"".join(blocks))
        if self._length == UNDECLARED:
            self._length = size
        return self._streamed(iter(blocks))

    def _whole(self, body: bytes) -> Response:
        """A complete response. The server adds its length, unless the application has set another."""
        status = self._status
        if self._length != UNDECLARED and (self._length != len(body) or status == 304) and status not in NO_LENGTH:
            self._add_length()  # of a 304 it is that of the content which was not sent
        return Response(status, self._fields, body, self._reason)

    def _streamed(self, blocks: Iterator[bytes] | None) -> Response:
        if self._length != UNDECLARED:
            self._add_length()
        return self._with_body(blocks)

    def _with_body(self, body: bytes | Iterable[bytes] | None) -> Response:
        return Response(self._status, self._fields, body, self._reason)

    def _add_length(self) -> None:
        self._fields.append((b"content-length", b"%d" % self._length))

    def _check_started(self) -> None:
        if not self._status:
            raise LocalError("the application has not called start_response before its first block of body, or its end")


class _Blocks:
    """The iterable that an application has returned, for a driver: every block is checked, and it is closed once."""

    __slots__ = ("_blocks", "_errors", "_line", "_result", "is_closed")

    # Any: its type is checked here
    def __init__(self, result: Any, written: list[bytes], errors: _Errors) -> None:
        if isinstance(result, (str, bytes)) or not hasattr(result, "__iter__"):
            what = type(result).__name__
            raise LocalError(f"a WSGI application returns an iterable of bytes, such as a list, not {what}")
        self._result: object = result
        self._blocks: Iterator[bytes] = chain(written, result)
        self._errors = errors
        self._line = ""
        """The incomplete line on `wsgi.errors`, between two blocks: others may be asked for theirs in this thread."""
        self.is_closed = False

    def take_first_block(self) -> bytes:
        """The first block that is not empty, or an empty one when there is none."""
        for block in self._blocks:
            if block:
                _check_block(block)
                return block
        return b""

    def put_back(self, first: bytes) -> None:
        """Put a block before the rest."""
        self._blocks = chain((first,), self._blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._line:
            self._put_line_back()
        block = next(self._blocks)
        if type(block) is not bytes:
            _check_block(block)
        if self._errors.unfinished.text:
            self.keep_line()
        return block

    def keep_line(self) -> None:
        """Keep the incomplete line on `wsgi.errors` until the next block."""
        unfinished = self._errors.unfinished
        self._line, unfinished.text = unfinished.text, ""

    def _put_line_back(self) -> None:
        self._errors.unfinished.text, self._line = self._line, ""

    def finish(self) -> None:
        """Run the application's iterable to its end, and close it. Raises LocalError when a block is left."""
        try:
            if self._line:
                self._put_line_back()
            for block in self._blocks:
                if block:
                    raise LocalError("the body is longer than Content-Length said; what is too much was not sent")
        finally:
            self.close()

    def close(self) -> None:
        """Close the application's iterable. A second call does nothing."""
        if self._line:
            self._put_line_back()
        self.is_closed = True
        result, self._result = self._result, None
        try:
            close_pieces(result)
        finally:
            if self._errors.unfinished.text:
                self._errors.stream.flush()


def _is_single(result: object) -> bool:
    """Whether a result has a `len` of 1: then the length of its block is that of the body (PEP 3333)."""
    return hasattr(result, "__len__") and len(result) == 1


def _check_block(block: object) -> None:
    if not isinstance(block, bytes):
        hint = "; encode it" if isinstance(block, str) else ""
        raise LocalError(f"each block of a WSGI body is bytes, not {type(block).__name__}{hint}")


def _parse_status(status: str) -> tuple[int, bytes | None]:
    """The number of a status line, and its reason phrase if that is not the registered one. Raises LocalError."""
    if not isinstance(status, str):
        _raise_wrong_status(status)
    if status.encode("latin-1", "replace").translate(None, _CONTROLS).decode("latin-1") != status:
        raise LocalError(f"a status has no control bytes, and none but latin-1 characters: {status!r}")
    code, space, phrase = status.partition(" ")
    if not (len(code) == 3 and code.isascii() and code.isdigit()):
        raise LocalError(f"a status is three digits, a space and a reason, as in '200 OK', not {status!r}")
    if not "200" <= code <= "599":
        raise LocalError(f"a WSGI application answers with a final status, from 200 to 599, not {status!r}")
    has_own_phrase = space and phrase != PHRASES.get(int(code))
    start = int(code), phrase.encode("latin-1") if has_own_phrase else None
    if len(status) <= MAX_CACHED_CHARACTERS:
        _statuses[status] = start
    return start


def _as_list(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers in another iterable than a list. Raises LocalError."""
    if isinstance(headers, (str, bytes, dict)) or not isinstance(headers, Iterable):
        raise LocalError(f"headers are a list of tuples (name, value), not {type(headers).__name__}")
    return list(headers)


def _hashable(headers: list[Any]) -> list[tuple[str, str]]:
    """Headers of which some are lists instead of tuples. Raises LocalError for anything else that is no pair of str."""
    pairs = [tuple(pair) if isinstance(pair, list) else pair for pair in headers]
    for pair in pairs:
        _encoded(pair)
    return pairs


def _new_field(pair: tuple[str, str]) -> Field | int:
    """Check and encode a field that is not in `_fields`; a length becomes a number. Raises LocalError."""
    field: Field | int = _encoded(pair)
    name, value = pair
    lower = name.lower()
    if lower == "content-length":
        value = value.strip(" \t")
        if not (value.isdecimal() and len(value) <= MAX_LENGTH_DIGITS):
            raise LocalError(f"Content-Length must be one decimal number, not {value!r}")
        field = int(value)
    if len(name) + len(value) <= MAX_CACHED_CHARACTERS and lower not in UNCACHED:
        _fields[pair] = field
    return field


def _encoded(pair: Any) -> Field:
    """A field as bytes. Raises LocalError."""
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str)):
        raise LocalError(f"a header is a tuple of two str, (name, value), not {pair!r}")
    name, value = pair
    try:
        encoded = name.encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise LocalError(
            f"header names are ASCII and values latin-1, not {pair!r}; percent-encode the rest, or see RFC 8187"
        ) from None
    if not name or encoded[0].translate(None, _TOKEN):
        raise LocalError(f"a header name is a token without spaces or colons (RFC 9110 §5.1), not {name!r}")
    if len(encoded[1].translate(None, _CONTROLS)) != len(value):
        raise LocalError(f"a header value has no control bytes, CR and LF least of all: {pair!r}")
    return encoded


def _raise_wrong_status(status: object) -> NoReturn:
    raise LocalError(f"a status is a str, as in '200 OK', not {status!r}") from None
