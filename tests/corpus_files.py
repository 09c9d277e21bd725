"""The wire corpus as values. The format is described in tests/corpus/README.md; what is not in it is an error here."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

CORPUS: Final = Path(__file__).parent / "corpus"

Kind: TypeAlias = Literal["valid", "invalid"]
Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
Table: TypeAlias = Mapping[str, object]
T = TypeVar("T")

KEYS: Final[Mapping[Kind, frozenset[str]]] = {
    "valid": frozenset({"source", "peers", "about", "requests", "rest"}),
    "invalid": frozenset({"source", "peers", "about", "requests", "status", "reason", "eof", "partial"}),
}
MESSAGE_KEYS: Final = frozenset({"method", "target", "version", "headers", "body", "trailers"})


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it must come out: whole, or its head and what surfaced of its body."""

    method: bytes
    target: bytes
    version: bytes
    headers: Fields
    body: bytes = b""
    trailers: Fields = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A .http file and its verdict. `reason` and `status` are those of an invalid one, and empty for a valid one."""

    name: str
    wire: bytes
    source: str
    peers: tuple[str, ...]
    about: str
    requests: tuple[Message, ...] = ()
    reason: str = ""
    status: int = 0
    eof: bool = False
    partial: Message | None = None
    closes: bool = False


def load(kind: Kind) -> list[Case]:
    """Every case of one kind, by name. Raises ValueError for a file that is misnamed, alone, or not in the format."""
    files = {path.name for path in (CORPUS / kind).iterdir()}
    names = sorted({name.partition(".")[0] for name in files})
    if odd := files ^ {name + suffix for name in names for suffix in (".http", ".toml")}:
        raise ValueError(f"{kind}: a case is NAME.http and NAME.toml, and nothing else stands there; see {sorted(odd)}")
    return [read_case(kind, name) for name in names]


def read_case(kind: Kind, name: str) -> Case:
    path = CORPUS / kind / name
    try:
        table = tomllib.loads(path.with_suffix(".toml").read_text("utf-8"))
        return make_case(kind, name, path.with_suffix(".http").read_bytes(), table)
    except ValueError as error:
        raise ValueError(f"{kind}/{name}: {error}") from error


def make_case(kind: Kind, name: str, wire: bytes, table: Table) -> Case:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError("a name is made of a-z, 0-9 and _")
    only(KEYS[kind], table)
    if take(str, table, "rest", "close") != "close":
        raise ValueError('rest is "close", or is left out')
    return Case(
        name=name,
        wire=wire,
        source=take(str, table, "source"),
        peers=tuple(as_a(str, row, "a row of peers") for row in take(list, table, "peers")),
        about=take(str, table, "about"),
        requests=tuple(make_message(as_a(dict, one, "a request")) for one in take(list, table, "requests", [])),
        reason=take(str, table, "reason") if kind == "invalid" else "",
        status=take(int, table, "status") if kind == "invalid" else 0,
        eof=take(bool, table, "eof", False),
        partial=make_message(take(dict, table, "partial")) if "partial" in table else None,
        closes="rest" in table,
    )


def make_message(table: Table) -> Message:
    only(MESSAGE_KEYS, table)
    method, target, version = (latin_1(table.get(key), key) for key in ("method", "target", "version"))
    body = latin_1(table.get("body", ""), "body")
    return Message(method, target, version, fields(table, "headers"), body, fields(table, "trailers", []))


def fields(table: Table, key: str, default: list[object] | None = None) -> Fields:
    pairs = [as_a(list, pair, f"a pair of {key}") for pair in take(list, table, key, default)]
    return tuple((latin_1(name, f"a name of {key}"), latin_1(value, f"a value of {key}")) for name, value in pairs)


def latin_1(value: object, what: str) -> bytes:
    return as_a(str, value, what).encode("latin-1")


def only(keys: frozenset[str], table: Table) -> None:
    if unknown := table.keys() - keys:
        raise ValueError(f"unknown keys: {sorted(unknown)}")


def take(kind: type[T], table: Table, key: str, default: T | None = None) -> T:
    return as_a(kind, table.get(key, default), key)


def as_a(kind: type[T], value: object, what: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{what} must be a {kind.__name__}, not {value!r}")
    return value
