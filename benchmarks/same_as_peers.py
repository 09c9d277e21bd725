"""The same requests to h1core and to its peers, around the same application: what differs in the answers.

python benchmarks/same_as_peers.py [PEER]... [--driver selectors|asyncio|trio] [--peers-python PYTHON]

waitress    a Flask application (same_flask.py); docs/peers.md explains each line of the output
hypercorn   a Starlette application (same_starlette.py), hypercorn's on trio; docs/peers-asgi.md

Each request goes out as raw bytes on a connection of its own, and the answer is read until the server closes or nothing
more comes. Compared are interim and final statuses, fields but Server and Date and the case of their names, and the
body without its framing. A difference that is not explained is a bug here or there.
"""

import argparse
import contextlib
import importlib
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

from serving import PATIENCE_S, Running, is_installed, running

QUIET_S = 2.0
"""How long an answer may pause before it is taken for whole; hypercorn does not always close."""

IGNORED = {b"server", b"date"}


class Peer(NamedTuple):
    """A server to compare with."""

    module: str
    """Has the application, as `make_app`, and the requests."""
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    with_reasons: bool
    """Whether the application gives reason phrases, which are compared then."""


PEERS = {
    "waitress": Peer(
        "same_flask",
        ("-m", "waitress", "--listen=127.0.0.1:{port}", "--call", "same_flask:make_app"),
        ("waitress", "flask"),
        with_reasons=True,
    ),
    "hypercorn": Peer(
        "same_starlette",
        ("-m", "hypercorn", "same_starlette:make_app()", "--bind", "127.0.0.1:{port}", "--worker-class", "trio"),
        ("hypercorn", "trio", "starlette", "multipart"),
        with_reasons=False,
    ),
}


class Answer(NamedTuple):
    status: str
    fields: list[tuple[bytes, bytes]]
    body: bytes


def ask(server: Running, wire: bytes, half_closes: bool) -> bytes:
    """All that comes of it, until the server closes, or nothing more comes."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
        client.sendall(wire)
        if half_closes:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(QUIET_S)
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                received += data
    return received


def answers(wire: bytes, is_head: bool, with_reasons: bool) -> list[Answer]:
    """The answers on the wire: fields sorted, body without chunks."""
    found: list[Answer] = []
    while wire:
        head, end, wire = wire.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1."):
            return [*found, Answer(f"no answer: {head[:60]!r}", [], b"")]
        line, *field_lines = head.split(b"\r\n")
        _, status, *reason = line.decode("latin-1").split(" ", 2)
        pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(b":") for field in field_lines)]
        fields = dict(pairs)
        body = b""
        if not (is_head or status.startswith("1") or status in ("204", "304")):
            if fields.get(b"transfer-encoding") == b"chunked":
                body, wire = unchunked(wire)
            else:
                length = int(fields.get(b"content-length", len(wire)))
                body, wire = wire[:length] + b" (cut)" * (length > len(wire)), wire[length:]
        said = " ".join([status, *reason]) if with_reasons else status
        found.append(Answer(said, sorted(pair for pair in pairs if pair[0] not in IGNORED), body))
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
    """What is not the same, ours first."""
    our_statuses, their_statuses = ([answer.status for answer in each] for each in (ours, theirs))
    if our_statuses != their_statuses:
        yield f"status: {', '.join(our_statuses)} | {', '.join(their_statuses)}"
    if len(ours) != len(theirs):
        return  # nothing says which belongs to which
    for mine, other in zip(ours, theirs, strict=True):
        only_mine = [pair for pair in mine.fields if pair not in other.fields]
        only_other = [pair for pair in other.fields if pair not in mine.fields]
        if only_mine or only_other:
            yield f"fields: {in_words(only_mine)} | {in_words(only_other)}"
        if mine.body != other.body:
            my_lines, other_lines = mine.body.splitlines(), other.body.splitlines()
            only_my_lines = b" ".join(line for line in my_lines if line not in other_lines)
            only_other_lines = b" ".join(line for line in other_lines if line not in my_lines)
            yield f"body: {only_my_lines[:300]!r} | {only_other_lines[:300]!r}"


def in_words(fields: list[tuple[bytes, bytes]]) -> str:
    return "; ".join(b": ".join(pair).decode("latin-1") for pair in fields) or "–"


def compare(name: str, driver: list[str], python: str) -> None:
    peer = PEERS[name]
    asked = importlib.import_module(peer.module)
    ours = ("-m", "h1core", f"{peer.module}:make_app", "--factory", "--bind", "127.0.0.1:{port}", *driver)
    same = []
    print(f"h1core | {name}")
    with (  # sets, of methods for example, come in one order
        running(ours, python=python, PYTHONHASHSEED="0") as our_server,
        running(peer.arguments, python=python, PYTHONHASHSEED="0") as their_server,
    ):
        for request, wire in asked.REQUESTS.items():
            received = [ask(server, wire, request in asked.HALF_CLOSES) for server in (our_server, their_server)]
            both = [answers(each, wire.startswith(b"HEAD"), peer.with_reasons) for each in received]
            found = list(differences(*both))
            for line in found:
                print(f"  {request}: {line}")
            if not found:
                same.append(request)
    print(f"  the same: {len(same)} of {len(asked.REQUESTS)}: {'; '.join(same)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"{', '.join(PEERS)} (default all)")
    parser.add_argument("--driver", choices=("selectors", "asyncio", "trio"), help="of h1core (default: as it chooses)")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has peers and frameworks")
    options = parser.parse_args()
    for name in options.peers or PEERS:
        if is_installed(PEERS[name].needs, options.peers_python):
            compare(name, ["--driver", options.driver] if options.driver else [], options.peers_python)
        else:
            print(f"{name} is left out: {', '.join(PEERS[name].needs)} must be installed")


if __name__ == "__main__":
    main()
