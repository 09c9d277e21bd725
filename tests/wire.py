"""Answers as a client reads them, by the parser of the standard library, which shares nothing with ours."""

import http.client
import io
import socket
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    """Names in lower case."""
    body: bytes


class _Wire(io.BytesIO):
    """What HTTPResponse takes for a socket, and does not close between two responses."""

    def makefile(self, mode: str) -> "_Wire":
        return self

    def close(self) -> None:
        pass


def answers(wire: bytes | bytearray, *methods: str) -> list[Answer]:
    """The final responses in `wire`, to requests of `methods`, GET where these are too few.

    Interim ones are skipped. Raises what http.client raises when the last one is not whole.
    """
    stream = _Wire(bytes(wire))
    found: list[Answer] = []
    while stream.tell() < len(wire):
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        response = http.client.HTTPResponse(cast(socket.socket, stream), method=method)
        response.begin()
        body = response.read()
        found.append(Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body))
    return found


def statuses(wire: bytes | bytearray, *methods: str) -> list[int]:
    return [answer.status for answer in answers(wire, *methods)]
