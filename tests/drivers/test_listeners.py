"""Bind specs and the sockets they become: real sockets on loopback, real files, nothing that waits."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h1core.drivers.net import listeners
from h1core.drivers.net.listeners import close_listener, describe, listen

from h1core.addresses import MAX_UNIX_PATH_BYTES, Address, InheritedAddress, TcpAddress, UnixAddress, parse_address
from h1core.errors import LocalError

Listen = Callable[[Address], socket.socket]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def opened() -> Iterator[Listen]:
    """`listen`, and the end of everything it opened."""
    sockets: list[socket.socket] = []

    def open_one(address: Address) -> socket.socket:
        sockets.append(listen(address))
        return sockets[-1]

    yield open_one
    for sock in sockets:
        close_listener(sock)


def failure(address: Address) -> str:
    with pytest.raises(LocalError) as caught:
        listen(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_answers(sock: socket.socket) -> None:
    with socket.socket(sock.family) as client:
        client.connect(sock.getsockname())
        accepted, _ = sock.accept()
        accepted.close()


# What a spec means.

GOOD_SPECS: list[tuple[str, Address]] = [
    ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
    ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
    ("localhost:65535", TcpAddress("localhost", 65535)),
    ("[::1]:8000", TcpAddress("::1", 8000)),
    ("[::]:0", TcpAddress("::", 0)),
    ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
    ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
    ("unix:relative:odd", UnixAddress("relative:odd")),
    ("unix:" + "x" * MAX_UNIX_PATH_BYTES, UnixAddress("x" * MAX_UNIX_PATH_BYTES)),
    ("fd:0", InheritedAddress(0)),
    ("fd:2147483647", InheritedAddress(2**31 - 1)),
]


@pytest.mark.parametrize(("text", "address"), GOOD_SPECS)
def test_a_spec_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


BAD_SPECS = [
    ("", "port is missing"),
    ("8000", "port is missing"),
    ("localhost", "port is missing"),
    ("localhost:", "port is a number from 0 to 65535"),
    ("localhost:http", "port is a number"),
    ("localhost:65536", "port is a number"),
    ("localhost:-1", "port is a number"),
    ("localhost:+1", "port is a number"),
    ("localhost: 1", "port is a number"),
    ("localhost:8_0", "port is a number"),
    ("localhost:٨٠", "port is a number"),
    ("localhost:80\n", "port is a number"),
    ("localhost:" + "9" * 5000, "port is a number"),
    (":8000", "host is missing"),
    ("a b:80", "neither an address nor a name"),
    ("a\0b:80", "neither an address nor a name"),
    ("::1:8000", "stands in brackets"),
    ("::1", "stands in brackets"),
    ("[::1]", "port is missing"),
    ("[::1]:", "port is a number"),
    ("[::1]8000", r"written \[V6\]:PORT"),
    ("[::1:8000", r"written \[V6\]:PORT"),
    ("[]:80", "no IPv6 address in the brackets"),
    ("[127.0.0.1]:80", "no IPv6 address in the brackets"),
    ("::1]:80", "stands in brackets"),
    ("http://127.0.0.1:8000", "without a scheme"),
    ("127.0.0.1:8000/", "without a scheme"),
    ("/run/app.sock", "unix:PATH"),
    ("unix:", "path is missing"),
    ("unix:a\0b", "no NUL"),
    ("unix:" + "x" * (MAX_UNIX_PATH_BYTES + 1), f"at most {MAX_UNIX_PATH_BYTES} bytes"),
    ("unix:" + "ü" * (MAX_UNIX_PATH_BYTES // 2 + 1), "at most"),
    ("fd:", "number of an open descriptor"),
    ("fd:-1", "number of an open descriptor"),
    ("fd:x", "number of an open descriptor"),
    ("fd:2147483648", "number of an open descriptor"),
]


@pytest.mark.parametrize(("text", "says"), BAD_SPECS, ids=[repr(text)[:30] for text, _ in BAD_SPECS])
def test_a_bad_spec_is_told_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(LocalError, match=says) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


# TCP.


def test_a_tcp_listener_is_ready_for_a_loop(opened: Listen) -> None:
    sock = opened(TcpAddress("127.0.0.1", 0))
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert describe(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    assert_answers(sock)


@needs_ipv6
def test_an_ipv6_listener_is_described_in_brackets(opened: Listen) -> None:
    sock = opened(TcpAddress("::1", 0))
    assert describe(sock) == f"http://[::1]:{sock.getsockname()[1]}"
    assert_answers(sock)


@needs_ipv6
def test_both_wildcards_share_a_port(opened: Listen) -> None:
    port = opened(TcpAddress("::", 0)).getsockname()[1]
    assert describe(opened(TcpAddress("0.0.0.0", port))) == f"http://0.0.0.0:{port}"


def test_a_name_is_looked_up(opened: Listen) -> None:
    assert_answers(opened(TcpAddress("localhost", 0)))


def test_a_port_in_use_is_named(opened: Listen) -> None:
    port = opened(TcpAddress("127.0.0.1", 0)).getsockname()[1]
    said = failure(TcpAddress("127.0.0.1", port))
    assert said.startswith(f"cannot listen on 127.0.0.1:{port}: it is already in use")


def test_an_address_of_another_machine_is_refused() -> None:
    assert "this machine has no such address" in failure(TcpAddress("240.0.0.1", 0))


@pytest.mark.parametrize("host", ["name.invalid", "a..b", "x" * 70 + ".invalid", "a\0b"])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host == "name.invalid":  # the one that would ask a name server
        monkeypatch.setattr(socket, "getaddrinfo", raising(socket.gaierror(socket.EAI_NONAME, "unknown")))
    assert "unknown host" in failure(TcpAddress(host, 80))


def raising(error: OSError) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise error

    return fail


def resolving(*hosts: str) -> Callable[..., list[tuple[int, int, int, str, tuple[str, int]]]]:
    return lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]


def test_an_address_that_is_not_here_leads_to_the_next(opened: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving("240.0.0.1", "127.0.0.1", "127.0.0.2"))
    assert opened(TcpAddress("some.name", 0)).getsockname()[0] == "127.0.0.1"


def test_a_name_whose_every_address_is_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving("240.0.0.1", "240.0.0.2"))
    assert "this machine has no such address" in failure(TcpAddress("some.name", 0))


def test_a_port_in_use_does_not_lead_to_the_next(opened: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    port = opened(TcpAddress("127.0.0.1", 0)).getsockname()[1]
    monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.1", "127.0.0.2"))
    assert "already in use" in failure(TcpAddress("some.name", port))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied; choose a port above 1023"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError("odd"), "odd"),
    ],
)
def test_other_errors_of_the_system_are_one_line(error: OSError, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "bind", raising(error))
    assert failure(TcpAddress("127.0.0.1", 80)).startswith(f"cannot listen on 127.0.0.1:80: {says}")


# Unix sockets.


def test_a_unix_listener_makes_its_file_and_takes_it_away(tmp_path: Path, opened: Listen) -> None:
    path = tmp_path / "app.sock"
    sock = opened(UnixAddress(str(path)))
    assert path.is_socket()
    assert not sock.getblocking()
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert describe(sock) == f"unix:{path}"
    assert_answers(sock)
    close_listener(sock)
    assert sock.fileno() == -1
    assert not path.exists()
    close_listener(sock)


def test_a_relative_path_is_taken_away_from_another_folder(
    tmp_path: Path, opened: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sock = opened(UnixAddress("app.sock"))
    assert describe(sock) == "unix:app.sock"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir("sub")
    close_listener(sock)
    assert not (tmp_path / "app.sock").exists()


def test_a_listener_closed_by_its_loop_still_loses_its_file(tmp_path: Path, opened: Listen) -> None:
    sock = opened(UnixAddress(str(tmp_path / "app.sock")))
    sock.close()
    close_listener(sock)
    assert list(tmp_path.iterdir()) == []


def stale_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
    assert path.is_socket()


def test_a_stale_file_is_replaced(tmp_path: Path, opened: Listen) -> None:
    path = tmp_path / "app.sock"
    stale_file(path)
    assert_answers(opened(UnixAddress(str(path))))


def test_a_live_server_is_left_alone(tmp_path: Path, opened: Listen) -> None:
    path = tmp_path / "app.sock"
    first = opened(UnixAddress(str(path)))
    assert failure(UnixAddress(str(path))).startswith(f"cannot listen on unix:{path}: it is already in use")
    first.accept()[0].close()  # the question whether anybody answers
    assert_answers(first)


def test_a_live_server_with_a_full_backlog_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    sock = listen(UnixAddress(str(path)), backlog=0)
    waiting: list[socket.socket] = []
    try:
        with pytest.raises(BlockingIOError):  # noqa: PT012 - it is not known which of them is one too many
            while len(waiting) < 10:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(path))
        assert "already in use" in failure(UnixAddress(str(path)))
    finally:
        for client in waiting:
            client.close()
        close_listener(sock)


def test_a_datagram_socket_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        assert "already in use" in failure(UnixAddress(str(path)))
    assert path.is_socket()


@pytest.mark.parametrize("make", [lambda path: path.write_text("dear"), Path.mkdir, lambda path: path.symlink_to("x")])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "app.sock"
    make(path)
    before = os.lstat(path)
    assert "a file that is not a socket" in failure(UnixAddress(str(path)))
    assert os.lstat(path).st_ino == before.st_ino


def test_a_file_that_vanishes_while_it_is_asked_is_no_error(
    tmp_path: Path, opened: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "app.sock"
    stale_file(path)

    def vanish(sock: socket.socket, name: str) -> None:
        os.unlink(name)
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(socket.socket, "connect", vanish)
    opened(UnixAddress(str(path)))
    assert path.is_socket()


def test_a_server_that_may_not_be_asked_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.sock"
    stale_file(path)
    monkeypatch.setattr(socket.socket, "connect", raising(PermissionError(errno.EACCES, "Permission denied")))
    assert "permission denied" in failure(UnixAddress(str(path)))
    assert path.is_socket()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "its folder does not exist" in failure(UnixAddress(str(tmp_path / "none" / "app.sock")))
    (tmp_path / "file").touch()
    assert "its folder is not a folder" in failure(UnixAddress(str(tmp_path / "file" / "app.sock")))


@pytest.mark.parametrize("replace", [stale_file, Path.touch])
def test_a_file_that_took_our_place_is_kept(tmp_path: Path, opened: Listen, replace: Callable[[Path], None]) -> None:
    path = tmp_path / "app.sock"
    sock = opened(UnixAddress(str(path)))
    sock.close()  # so that its inode is free for the next
    path.unlink()
    replace(path)
    close_listener(sock)
    assert path.exists()


def test_a_file_that_somebody_removed_is_no_error(tmp_path: Path, opened: Listen) -> None:
    path = tmp_path / "app.sock"
    sock = opened(UnixAddress(str(path)))
    path.unlink()
    close_listener(sock)
    assert sock.fileno() == -1


def test_a_forgotten_listener_is_not_remembered_here(tmp_path: Path) -> None:
    sock = listen(UnixAddress(str(tmp_path / "app.sock")))
    before = len(listeners._unix_files)
    sock.close()
    del sock
    assert len(listeners._unix_files) == before - 1


# Inherited descriptors.


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_an_inherited_listener_is_taken_over(family: int, tmp_path: Path, opened: Listen) -> None:
    path = tmp_path / "app.sock"
    theirs = socket.socket(family)
    theirs.bind(str(path) if family == socket.AF_UNIX else ("127.0.0.1", 0))
    theirs.listen()
    theirs.set_inheritable(True)
    ours = opened(InheritedAddress(theirs.detach()))
    assert not ours.getblocking()
    assert not ours.get_inheritable()
    assert_answers(ours)
    close_listener(ours)
    assert ours.fileno() == -1
    assert path.exists() == (family == socket.AF_UNIX)  # the file is the owner's


def test_a_socket_that_does_not_listen_stays_with_its_owner() -> None:
    with socket.socket() as theirs:
        assert "call listen()" in failure(InheritedAddress(theirs.fileno()))
        theirs.listen()


@pytest.mark.parametrize(("family", "kind"), [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_DGRAM)])
def test_a_datagram_socket_stays_with_its_owner(family: int, kind: int) -> None:
    with socket.socket(family, kind) as theirs:
        assert "not a TCP or unix stream socket" in failure(InheritedAddress(theirs.fileno()))
        assert theirs.type == kind


def test_a_descriptor_that_is_no_socket_stays_with_its_owner(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as theirs:
        assert "not an open socket" in failure(InheritedAddress(theirs.fileno()))
        theirs.write("still open")
        theirs.flush()


def test_a_socket_that_cannot_be_asked_stays_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        monkeypatch.setattr(socket.socket, "getsockopt", raising(OSError(errno.ENOPROTOOPT, "Protocol not available")))
        assert "Protocol not available" in failure(InheritedAddress(theirs.fileno()))
        assert theirs.getsockname()


def test_a_closed_descriptor_is_refused() -> None:
    sock = socket.socket()
    number = sock.fileno()
    sock.close()
    assert failure(InheritedAddress(number)).startswith(f"cannot listen on fd:{number}: it is not an open socket")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")
def test_an_abstract_name_is_written_with_an_at(opened: Listen) -> None:
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(f"\0h1core-test-{os.getpid()}")
        theirs.listen()
        ours = opened(InheritedAddress(os.dup(theirs.fileno())))
        assert describe(ours) == f"unix:@h1core-test-{os.getpid()}"


def test_a_child_does_not_keep_the_port(opened: Listen) -> None:
    sock = opened(TcpAddress("127.0.0.1", 0))
    ask = f"import os\ntry: os.fstat({sock.fileno()})\nexcept OSError: print('closed')"
    done = subprocess.run([sys.executable, "-c", ask], close_fds=False, capture_output=True, text=True, check=True)
    assert done.stdout == "closed\n"
