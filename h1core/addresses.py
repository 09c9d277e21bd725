"""Addresses to listen on, as `--bind` names them: `HOST:PORT`, `[V6]:PORT`, `unix:PATH` or `fd:N`."""

import ipaddress
import sys
from dataclasses import dataclass
from typing import Final, TypeAlias

from h1core.errors import LocalError

MAX_PORT: Final = 65535
MAX_FD: Final = 2**31 - 1

# sun_path holds 108 bytes on Linux and 104 on the BSDs and macOS, the NUL at its end included.
MAX_UNIX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, as IPv4 or IPv6 address or name, and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket file; relative to the current folder when it does not begin with a slash."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InheritedAddress:
    """A listening socket that the parent process left open, by its descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd:{self.fd}"


Address: TypeAlias = TcpAddress | UnixAddress | InheritedAddress


def parse_address(text: str) -> Address:
    """Parse `HOST:PORT`, `[V6]:PORT`, `unix:PATH` or `fd:N`. Names are not resolved here, but when listening begins.

    Raises LocalError with one sentence for anything else.
    """
    if text.startswith("unix:"):
        return _parse_unix(text, text.removeprefix("unix:"))
    if text.startswith("fd:"):
        return _parse_fd(text, text.removeprefix("fd:"))
    if "/" in text:
        raise LocalError(f"bad address {text!r}: an address is HOST:PORT, without a scheme or path, or unix:PATH")
    if text.startswith("["):
        return _parse_bracketed(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise LocalError(f"bad address {text!r}: the port is missing, as in 127.0.0.1:8000")
    if ":" in host:
        raise LocalError(f"bad address {text!r}: an IPv6 address stands in brackets, as in [::1]:8000")
    if not host:
        raise LocalError(f"bad address {text!r}: the host is missing; every interface is 0.0.0.0 or [::]")
    if not host.isprintable() or " " in host or "]" in host:
        raise LocalError(f"bad address {text!r}: the host is neither an address nor a name")
    return TcpAddress(host, _parse_port(text, port))


def _parse_unix(text: str, path: str) -> UnixAddress:
    if not path:
        raise LocalError(f"bad address {text!r}: the path is missing, as in unix:/run/app.sock")
    if "\0" in path:
        raise LocalError(f"bad address {text!r}: a path holds no NUL")
    if len(path.encode("utf-8", "surrogateescape")) > MAX_UNIX_PATH_BYTES:
        raise LocalError(f"bad address {text!r}: the path of a socket has at most {MAX_UNIX_PATH_BYTES} bytes here")
    return UnixAddress(path)


def _parse_fd(text: str, digits: str) -> InheritedAddress:
    number = _decimal(digits)
    if number is None or number > MAX_FD:
        raise LocalError(f"bad address {text!r}: fd: is followed by the number of an open descriptor, as in fd:3")
    return InheritedAddress(number)


def _parse_bracketed(text: str) -> TcpAddress:
    host, bracket, rest = text[1:].partition("]")
    if not bracket or (rest and not rest.startswith(":")):
        raise LocalError(f"bad address {text!r}: an IPv6 address is written [V6]:PORT, as in [::1]:8000")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise LocalError(f"bad address {text!r}: there is no IPv6 address in the brackets") from None
    if not rest:
        raise LocalError(f"bad address {text!r}: the port is missing, as in [::1]:8000")
    return TcpAddress(host, _parse_port(text, rest[1:]))


def _parse_port(text: str, digits: str) -> int:
    number = _decimal(digits)
    if number is None or number > MAX_PORT:
        raise LocalError(f"bad address {text!r}: the port is a number from 0 to {MAX_PORT}")
    return number


def _decimal(digits: str) -> int | None:
    """Parse ASCII digits, or return None: int() also accepts signs, spaces, underscores and digits of other scripts."""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else None
