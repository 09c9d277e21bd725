"""Listening sockets for the addresses of `--bind`; nothing about connections.

A server binds its addresses first, so that one that is in use is known at once, and listens when the application has
started: until then connections are refused, as a readiness probe expects. Both raise only `LocalError`, whose text
names the address and says what to do. The options of accepted sockets (TCP_NODELAY) are set in acceptor.py.
"""

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeAlias, assert_never
from weakref import WeakKeyDictionary

from h1core.addresses import Address, InheritedAddress, TcpAddress, UnixAddress
from h1core.errors import LocalError

DEFAULT_BACKLOG: Final = 1024

_FileIdentity: TypeAlias = tuple[int, int, int]

# Socket files made here: listener to (absolute path, identity). Not in a subclass of socket, which trio would refuse to
# wrap; weak, so that an entry goes with its listener, even if other code closed that.
_unix_files: Final[WeakKeyDictionary[socket.socket, tuple[str, _FileIdentity]]] = WeakKeyDictionary()


class CannotListen(LocalError):
    """An address cannot be had; the text is for the user."""


def listen(address: Address, backlog: int = DEFAULT_BACKLOG) -> socket.socket:
    """Return a socket that is bound and listens, see `bind` and `start_listening`. Raises LocalError."""
    sock = bind(address)
    try:
        start_listening([sock], backlog)
    except LocalError:
        close_listener(sock)
        raise
    return sock


def start_listening(listeners: Iterable[object], backlog: int = DEFAULT_BACKLOG) -> None:
    """Listen on sockets that are bound. Those that listen already, and listeners of other kinds, are left as they are.

    Raises LocalError when another server has been faster.
    """
    for sock in listeners:
        if not isinstance(sock, socket.socket) or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            continue
        path, identity = _unix_files.get(sock, (None, None))
        try:
            if path is not None and _file_identity(path) != identity:
                raise OSError(errno.EADDRINUSE, "another server has replaced the socket file")
            sock.listen(backlog)
        except OSError as error:
            raise _cannot_listen(describe(sock), error) from None


def bind(address: Address) -> socket.socket:
    """Return a bound socket, non-blocking and not inheritable. Close it with `close_listener`.

    A host name is looked up, which may block; only the first of its addresses that this machine has is bound. IPv6
    sockets accept IPv6 only, so that 0.0.0.0 and [::] can both be bound. The socket file of a server that has ended is
    replaced. An inherited socket listens already; its backlog is not changed.

    Raises LocalError; then nothing stays open or bound, except an inherited descriptor, which stays open.
    """
    match address:
        case TcpAddress():
            sock = _bind_tcp(address)
        case UnixAddress():
            sock = _bind_abstract(address) if address.path.startswith("@") else _bind_unix(address)
        case InheritedAddress():
            sock = _adopt_inherited(address)
        case _:
            assert_never(address)
    sock.setblocking(False)
    return sock


def _bind_tcp(address: TcpAddress) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError):
        raise LocalError(f"cannot listen on {address}: unknown host; give an address or a name that resolves") from None
    absent = OSError(errno.EADDRNOTAVAIL, "no such address")
    for family, _, protocol, _, sockaddr in found:
        try:
            return _bind(socket.socket(family, socket.SOCK_STREAM, protocol), sockaddr)
        except OSError as error:
            # Only an address that this machine lacks leads to the next one: if a port in use did, too, we would
            # listen on an address that nobody asked for, and some clients would reach the other server.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _cannot_listen(address, error) from None
            absent = error
    raise _cannot_listen(address, absent) from None


UNSENT_BYTES: Final = 128 * 1024
"""Unsent bytes in the kernel from which on a socket is not writable; on Linux, accepted sockets inherit it. With the
default of megabytes, a client that reads 32 KiB/s shows no progress within the write deadline."""


def _bind(sock: socket.socket, sockaddr: tuple[object, ...] | str) -> socket.socket:
    """Bind the socket; return it. Raises OSError; then it is closed."""
    try:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_abstract(address: UnixAddress) -> socket.socket:
    """Bind a name of Linux's own, which is no file and goes with its socket (unix(7)). Its text begins with an @."""
    if sys.platform != "linux":
        raise LocalError(f"cannot listen on {address}: only Linux has abstract sockets; name a file")
    try:
        return _bind(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), f"\0{address.path[1:]}")
    except OSError as error:
        raise _cannot_listen(address, error) from None


def _bind_unix(address: UnixAddress) -> socket.socket:
    path = os.path.abspath(address.path)
    try:
        _remove_stale(address)
        sock = _bind(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), address.path)
    except OSError as error:
        raise _cannot_listen(address, error) from None
    with suppress(OSError):  # the file is gone already: there is none to remove later
        _unix_files[sock] = path, _file_identity(path)
    return sock


def _remove_stale(address: UnixAddress) -> None:
    """Remove a socket file on which no server listens. Two servers started in the same instant may still race here.

    Raises LocalError when the file is not a socket, OSError when it is in use or cannot be checked.
    """
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LocalError(f"cannot listen on {address}: there is a file that is not a socket; move it or choose a path")
    # Non-blocking, because `connect` would wait if a backlog is full; instead it raises BlockingIOError.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(address.path)
            return
        except FileNotFoundError:
            return
        except PermissionError:
            raise
        except OSError:
            pass
    raise OSError(errno.EADDRINUSE, "somebody answers")


def _adopt_inherited(address: InheritedAddress) -> socket.socket:
    try:
        sock = socket.socket(fileno=address.fd)
    except OSError:
        raise LocalError(f"cannot listen on {address}: it is not an open socket; pass one on to this process") from None
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
            raise LocalError(f"cannot listen on {address}: it is not a TCP or unix stream socket; pass on such a one")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise LocalError(f"cannot listen on {address}: it is not listening; call listen() before passing it on")
        sock.set_inheritable(False)
    except (LocalError, OSError) as error:
        sock.detach()
        raise (error if isinstance(error, LocalError) else _cannot_listen(address, error)) from None
    return sock


_ADVICE: Final = {
    errno.EADDRINUSE: "it is already in use; stop the other server or choose another address",
    errno.EACCES: "permission denied; choose a port above 1023, or a path in a folder of your own",
    errno.EPERM: "permission denied; choose a port above 1023, or a path in a folder of your own",
    errno.EADDRNOTAVAIL: "this machine has no such address; 0.0.0.0 and [::] stand for all that it has",
    errno.EAFNOSUPPORT: "this machine does not speak that protocol; choose an address of another family",
    errno.ENOENT: "its folder does not exist; make it first",
    errno.ENOTDIR: "its folder is not a folder; choose another path",
}


def _cannot_listen(address: Address | str, error: OSError) -> LocalError:
    advice = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another address")
    return CannotListen(f"cannot listen on {address}: {advice}")


def describe(sock: socket.socket) -> str:
    """The address of a listening socket, as text: `http://127.0.0.1:8000`, `http://[::1]:8000`, `unix:/path`.

    Raises OSError when the socket is closed.
    """
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        # Linux reports an abstract name as bytes that begin with NUL; its tools write that NUL as @.
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{os.fsdecode(name[1:])}"
    return f"http://{TcpAddress(name[0], name[1])}"


def close_listener(sock: socket.socket) -> None:
    """Close the socket and remove the socket file that `listen` made for it, unless another one took its place.

    A second call does nothing. The file is also removed if the socket is already closed. Never raises.
    """
    path, identity = _unix_files.pop(sock, (None, None))
    if path is not None:
        with suppress(OSError):  # a file that stays is stale, and the next start replaces it
            if _file_identity(path) == identity:
                os.unlink(path)
    sock.close()


def _file_identity(path: str) -> _FileIdentity:
    """Device, inode and mtime; the inode alone is not enough: file systems reuse its number at once."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino, status.st_mtime_ns
