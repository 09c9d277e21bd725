"""Answers as a client reads them, by the parser of the standard library, which shares no code with h1core."""

import http.client
import io
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Answer:
    """A final response."""

    status: int
    headers: list[tuple[str, str]]
    """Names in lower case, in their order."""
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The headers by name, the last one where a name comes twice."""
        return dict(self.headers)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()


class _Wire(io.BytesIO):
    """A socket for HTTPResponse, which must not close it between two responses."""

    def makefile(self, mode: str) -> "_Wire":
        return self

    def close(self) -> None:
        pass


def answers(wire: bytes | bytearray, *methods: str) -> list[Answer]:
    """The final responses in `wire`, to requests of `methods`, GET where these are too few.

    Interim ones are skipped. Raises what http.client raises when the last one is incomplete.
    """
    stream = _Wire(bytes(wire))
    found: list[Answer] = []
    while stream.tell() < len(wire):
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        response = http.client.HTTPResponse(cast(Any, stream), method=method)
        response.begin()
        body = response.read()
        headers = [(name.lower(), value) for name, value in response.getheaders()]
        found.append(Answer(response.status, headers, body))
    return found
