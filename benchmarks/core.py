"""One request in, one response out, without sockets: h1core beside h11, httptools and zttp.

python benchmarks/core.py [--rounds N] [--exchanges N] [--json FILE]

Every library is driven as a keep-alive server drives it: one read in, the whole request handed on, one response out,
the question whether the connection persists. Nothing is timed before each has been seen to do that. README.md says how
to read the table.
"""

import argparse
import email.utils
import gc
import http.client
import io
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

BODY = b"Hello, world!\n"
CONTENT_TYPE = (b"content-type", b"text/plain; charset=utf-8")
SERVER = (b"server", b"bench")
CONTENT_LENGTH = (b"content-length", b"%d" % len(BODY))
DATE = (b"date", email.utils.formatdate(usegmt=True).encode())  # servers format it once a second
RESPONSE_FIELDS = {"content-type", "server", "date", "content-length"}

JSON = json.dumps([{"id": number, "name": f"item number {number:02}"} for number in range(30)]).encode()[:1023] + b"]"


Buffer: TypeAlias = bytes | bytearray | memoryview
Answer: TypeAlias = tuple[bytes, bytes, int, bytes, Buffer]
"""What a server has in its hands after one exchange: the request for its application (method, target, number of fields,
body), and bytes for its socket. A plain tuple, for a named one would cost more than the floor."""

Exchange: TypeAlias = Callable[[bytes], Answer]
"""Bytes of one request → answer, on a connection that persists."""


# The libraries. Each function makes a connection.


def h1core() -> Exchange:
    from h1core import Conn, Data, Disposition, Limits, Request, Response

    limits = Limits(max_requests_per_connection=10**12)
    conn = Conn(limits, clock=time.monotonic, wall_clock=time.time)
    keep = Disposition.KEEP

    def exchange(data: bytes) -> Answer:
        events = conn.receive_data(data)
        request = events[0]
        assert type(request) is Request
        body = b"" if request.end_stream else b"".join([event.data for event in events if type(event) is Data])
        conn.send(Response(200, (CONTENT_TYPE, SERVER), BODY))
        output = conn.data_to_send()
        conn.data_sent(len(output))
        assert not conn.next_events()
        assert conn.disposition is keep
        assert conn.next_deadline
        return (request.method, request.target, len(request.headers), body, output)

    return exchange


def h11() -> Exchange:
    import h11

    conn = h11.Connection(h11.SERVER)

    def exchange(data: bytes) -> Answer:
        conn.receive_data(data)
        request = conn.next_event()
        assert type(request) is h11.Request
        pieces = []
        while (event := conn.next_event()) is not h11.PAUSED and event is not h11.NEED_DATA:
            if type(event) is h11.Data:
                pieces.append(event.data)
        response = h11.Response(status_code=200, headers=[CONTENT_TYPE, SERVER, DATE, CONTENT_LENGTH])
        output = b"".join([conn.send(response), conn.send(h11.Data(data=BODY)), conn.send(h11.EndOfMessage())])
        conn.start_next_cycle()
        return (request.method, request.target, len(request.headers), b"".join(pieces), output)

    return exchange


def httptools() -> Exchange:
    import httptools

    class Protocol:
        target = b""
        headers: list[tuple[bytes, bytes]]
        body: list[bytes]

        def on_message_begin(self) -> None:
            self.target = b""
            self.headers = []
            self.body = []

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.lower(), value))

        def on_body(self, body: bytes) -> None:
            self.body.append(body)

    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)

    def exchange(data: bytes) -> Answer:
        parser.feed_data(data)
        method = parser.get_method()
        assert parser.should_keep_alive()
        lines = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in (CONTENT_TYPE, SERVER, DATE, CONTENT_LENGTH):
            lines.extend([name, b": ", value, b"\r\n"])
        lines.append(b"\r\n")
        output = b"".join(lines) + BODY
        return (method, protocol.target, len(protocol.headers), b"".join(protocol.body), output)

    return exchange


def zttp() -> Exchange:
    import zttp

    conn = zttp.Connection(zttp.SERVER)

    def exchange(data: bytes) -> Answer:
        request = conn.receive_event(data)
        assert type(request) is zttp.Request
        pieces = []
        if not request.end_stream:
            while type(event := conn.next_event()) is zttp.Data:
                pieces.append(event.data)
            assert type(event) is zttp.EndOfMessage
        assert type(request.headers) is zttp.HeaderBlock
        headers = request.headers.to_list(lowercase_names=True)  # lazy until here; the others have done it
        conn.send_response(200, [CONTENT_TYPE, SERVER, DATE, CONTENT_LENGTH])
        conn.send_data(BODY)
        conn.end_message()
        output = conn.data_to_send()
        assert not conn.should_close()
        conn.start_next_cycle()
        return (request.method, request.target, len(headers), b"".join(pieces), output)

    return exchange


def floor() -> Exchange:
    """What no Python server is faster than: find the end of the head, join a response that was known before."""
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % field for field in (CONTENT_TYPE, SERVER, CONTENT_LENGTH))
    date = b"date: %b\r\n\r\n" % DATE[1]

    def exchange(data: bytes) -> Answer:
        assert data.find(b"\r\n\r\n") > 0
        return (b"", b"", 0, b"", b"".join((head, date, BODY)))

    return exchange


LIBRARIES = {"h1core": h1core, "h11": h11, "httptools": httptools, "zttp": zttp}
BASES = ("h11", "httptools")
FLOOR = "floor"


# The requests.

GET = b"GET /articles/index.html?page=2 HTTP/1.1\r\nHost: www.example.com\r\n"
POST = b"POST /articles HTTP/1.1\r\nHost: www.example.com\r\nContent-Type: application/json\r\n"

SMALL = GET + b"User-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n"
BROWSER = (
    b"GET /articles/2026/11/index.html?page=2&sort=date HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: max-age=0\r\n"
    b'sec-ch-ua: "Chromium";v="156", "Not)A;Brand";v="24", "Google Chrome";v="156"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b'sec-ch-ua-platform: "Linux"\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0"
    b" Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    b"application/signed-exchange;v=b3;q=0.7\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-User: ?1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Referer: http://www.example.com/articles/\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9,de;q=0.8\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n"
    b"\r\n"
)
LENGTH = POST + b"Content-Length: %d\r\n\r\n" % len(JSON) + JSON
CHUNKS = [JSON[at : at + 256] for at in range(0, len(JSON), 256)]
CHUNKED = (
    POST
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in CHUNKS)
    + b"0\r\n\r\n"
)


def cold_requests() -> Iterator[bytes]:
    """The browser's requests, where no line comes twice: what an attacker, or a crowd of first visits, sends."""
    lines = BROWSER.removesuffix(b"\r\n\r\n").replace(b"keep-alive", b"keep-alive, n").split(b"\r\n")
    lines[0] = lines[0].replace(b" HTTP", b"&n= HTTP")
    for number in itertools.count(100000):
        lines[0] = b"GET /articles/index.html?n=%d HTTP/1.1" % number
        yield (b"%d\r\n" % number).join([b"\r\n".join(lines[:2]), *lines[2:], b""]) + b"\r\n"


def other_targets(request: bytes) -> Iterator[bytes]:
    """One client's requests as they most often are: each for something else, and otherwise byte for byte the same."""
    for number in itertools.count(100000):
        yield request.replace(b"page=2", b"page=%d" % number, 1)


STREAMS: dict[str, Iterator[bytes]] = {
    "small": itertools.repeat(SMALL),
    "targets": other_targets(SMALL),
    "browser": itertools.repeat(BROWSER),
    "browsing": other_targets(BROWSER),
    "cold": cold_requests(),
    "post": itertools.repeat(LENGTH),
    "chunked": itertools.repeat(CHUNKED),
}


# Seeing that they do the same.


class Canned:
    """What http.client takes for a socket."""

    def __init__(self, output: bytes) -> None:
        self.output = output

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.output)


def check(name: str, exchange: Exchange, request: bytes) -> None:
    """Raise AssertionError unless the request was understood and answered."""
    method, target, fields, body, output = exchange(request)
    response = http.client.HTTPResponse(Canned(bytes(output)))  # type: ignore[arg-type]  # makefile is all it asks for
    response.begin()
    assert response.status == 200, (name, output)
    assert response.read() == BODY, (name, output)
    assert {field.lower() for field, _ in response.getheaders()} == RESPONSE_FIELDS, (name, output)
    if name != FLOOR:
        head, _, content = request.partition(b"\r\n\r\n")
        request_line, *field_lines = head.split(b"\r\n")
        assert [method, target] == request_line.split(b" ")[:2], (name, method, target)
        assert fields == len(field_lines), (name, fields, len(field_lines))
        assert body == (JSON if content else b""), (name, body)


# Timing.


def time_exchanges(exchange: Exchange, requests: list[bytes]) -> float:
    """Microseconds for one exchange."""
    gc.collect()
    gc.disable()  # as timeit does: a collection would fall upon whoever is being timed
    start = time.process_time()  # not of the wall: whoever is being timed may be made to wait
    for request in requests:
        exchange(request)
    elapsed_s = time.process_time() - start
    gc.enable()
    return elapsed_s / len(requests) * 1e6


def print_table(stream: str, medians: dict[str, float]) -> None:
    for name, median in medians.items():
        ratios = [f"{medians[base] / median:13.1f}" if base in medians else f"{'–':>13}" for base in BASES]
        print(f"{stream:10}{name:12}{median:9.2f}{''.join(ratios)}")
    print()


def connect() -> dict[str, Exchange]:
    """A connection of each library that is installed, the others named."""
    exchanges = {FLOOR: floor()}
    for name, library in LIBRARIES.items():
        try:
            exchanges[name] = library()
        except ImportError:
            print(f"{name} is left out: it is not installed here (pip install 'h1core[peers]')")
    return exchanges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each library has its turn (%(default)s)")
    parser.add_argument("--exchanges", type=int, default=1000, help="exchanges in a turn (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="where to keep what was found")
    options = parser.parse_args()

    exchanges = connect()
    for requests in STREAMS.values():
        for name, exchange in exchanges.items():
            for _ in range(3):
                check(name, exchange, next(requests))

    print(f"CPython {platform.python_version()}, {options.rounds} rounds of {options.exchanges} exchanges, medians\n")
    print(f"{'stream':10}{'library':12}{'µs':>9}{'× h11':>13}{'× httptools':>13}")
    kept = {}
    for stream, requests in STREAMS.items():
        found: dict[str, list[float]] = {name: [] for name in exchanges}
        for _ in range(options.rounds):
            batch = list(itertools.islice(requests, options.exchanges))
            for name, exchange in exchanges.items():
                found[name].append(time_exchanges(exchange, batch))
        kept[stream] = {name: statistics.median(times) for name, times in found.items()}
        print_table(stream, kept[stream])
    if options.json:
        import results  # only a program finds its neighbour

        microseconds = {stream: {name: round(us, 2) for name, us in row.items()} for stream, row in kept.items()}
        results.write(
            options.json, {"rounds": options.rounds, "exchanges": options.exchanges}, {"microseconds": microseconds}
        )


if __name__ == "__main__":
    main()
