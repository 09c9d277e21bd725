"""docs/testing.md says what is true: its snippets run."""

import re
from pathlib import Path
from typing import Any

import h1core.testing
from h1core import Request, Response
from h1core.testing import Client

PAGE = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text("utf-8")


def app(request: Request) -> Response:
    return Response(200, (), b"%d bytes" % len(request.body))


def test_the_snippets_run() -> None:
    names: dict[str, Any] = {"app": app}
    with_client, with_peer = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(with_client, names)
    with Client(app) as names["client"]:
        exec(with_peer, names)
        assert names["peer"].answers() == []  # the one answer was asked for in the snippet


def test_had_it_stalled_longer_the_answer_would_be_a_408() -> None:
    with Client(app) as client:
        peer = client.connect()
        peer.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        client.wait(90)
        assert peer.answer().status == 408
    assert "Had it stalled for 90, the answer would be a 408" in PAGE


def test_it_names_what_there_is() -> None:
    for name in ("FakeClock", "MemoryNetwork", "FakeWorkers"):
        assert f"`{name}`" in PAGE
        assert hasattr(h1core.testing, name)
