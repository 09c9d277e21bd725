"""Responses, read the plainest way: by a client that knows what it asked for. The first of two independent parsers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\t -~]*")
FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t -~\x80-\xff]*)")


class Unreadable(Exception):
    """What came is no HTTP response."""


@dataclass(slots=True)
class Heard:
    """A final response."""

    status: int
    fields: dict[bytes, bytes]
    body: bytearray
    interim: list[int]
    is_complete: bool = False
    until_close: bool = False
    ends_at: int = 0
    """Where it ends in the stream, once it is complete."""
    framing: str = ""
    left: int = 0
    method: bytes = b""
    """Of its request."""

    @property
    def says_close(self) -> bool:
        return self.fields.get(b"connection", b"").lower() == b"close"


class Reader:
    """Feed it, and look at `responses`; the last may be incomplete. `method_of` knows the method of each request."""

    def __init__(self, method_of: Callable[[int], bytes]) -> None:
        self._method_of = method_of
        self.expected = 0
        """How many requests were begun."""
        self.responses: list[Heard] = []
        self.complete = 0
        self.continues = 0
        """How many 100 Continue came for the request that is not answered yet."""
        self._kept = bytearray()
        self._position = 0
        self._interim: list[int] = []
        self._current: Heard | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is part of a response."""
        return bool(self._kept) or self._current is not None

    def feed(self, data: bytes) -> None:
        """Raises Unreadable."""
        self._kept += data
        while self._kept:
            before = len(self._kept)
            if self._current is None:
                self._head()
            else:
                self._body(self._current)
            if len(self._kept) == before:
                return

    def end(self) -> None:
        """The stream has ended in order. Raises Unreadable when a response has not."""
        current = self._current
        if current is not None and current.until_close:
            self._finish(current)
        if self._kept or self._current is not None:
            raise Unreadable("the stream ends in the middle of a response")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        self._position += len(taken)
        return taken

    def _head(self) -> None:
        end = self._kept.find(b"\r\n\r\n")
        if end < 0:
            return
        status_line, *lines = self._take(end + 4)[:-4].split(b"\r\n")
        match = STATUS_LINE.fullmatch(status_line)
        if match is None:
            raise Unreadable(f"not a status line: {status_line!r}")
        fields: dict[bytes, bytes] = {}
        for line in lines:
            parts = FIELD_LINE.fullmatch(line)
            if parts is None:
                raise Unreadable(f"not a field line: {line!r}")
            name = parts[1].lower()
            if name in fields:
                raise Unreadable(f"{name!r} stands twice")
            fields[name] = parts[2]
        status = int(match[1])
        if status < 200:
            self._interim.append(status)
            self.continues += status == 100
            return
        self._begin(Heard(status, fields, bytearray(), self._interim))
        self._interim = []

    def _begin(self, heard: Heard) -> None:
        number = len(self.responses)
        if number >= self.expected:
            raise Unreadable(f"a response {heard.status} to no request")
        self.responses.append(heard)
        fields = heard.fields
        self._current = heard
        if b"transfer-encoding" in fields and b"content-length" in fields:
            raise Unreadable("two framings in one response")
        heard.method = self._method_of(number)
        if heard.method == b"HEAD" or heard.status in (204, 304):
            self._finish(heard)
        elif b"transfer-encoding" in fields:
            if fields[b"transfer-encoding"] != b"chunked":
                raise Unreadable("a transfer coding that is not chunked")
            heard.framing = "size"
        elif b"content-length" in fields:
            heard.framing = "length"
            heard.left = int(fields[b"content-length"])
            if not heard.left:
                self._finish(heard)
        else:
            heard.framing = "close"
            heard.until_close = True

    def _body(self, heard: Heard) -> None:
        match heard.framing:
            case "close":
                heard.body += self._take(len(self._kept))
            case "length" | "chunk":
                piece = self._take(heard.left)
                heard.body += piece
                heard.left -= len(piece)
                if not heard.left:
                    if heard.framing == "length":
                        self._finish(heard)
                    else:
                        heard.framing = "chunk end"
            case "chunk end":
                if len(self._kept) >= 2:
                    if self._take(2) != b"\r\n":
                        raise Unreadable("a chunk does not end in CR LF")
                    heard.framing = "size"
            case "size":
                end = self._kept.find(b"\r\n")
                if end >= 0:
                    heard.left = int(self._take(end + 2), 16)
                    heard.framing = "chunk" if heard.left else "last"
            case "last" if len(self._kept) >= 2:
                if self._take(2) != b"\r\n":
                    raise Unreadable("trailers that nobody sent")
                self._finish(heard)

    def _finish(self, heard: Heard) -> None:
        heard.is_complete = True
        heard.ends_at = self._position
        self.complete += 1
        self.continues = 0
        self._current = None
