"""A headless Chromium for tests: a page that is opened, typed into and clicked on, as somebody would.

It is spoken to by its DevTools protocol over two pipes, which takes no package: JSON, a zero byte after each message.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 60.0

FLAGS: Final = """
    --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync --disable-extensions --no-proxy-server
    --window-size=800,600 --remote-debugging-pipe
"""
"""Without those about the network, it looks for its makers' hosts at every start."""


def find() -> str | None:
    """Where it is installed, if it is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Pipe:
    """The protocol: commands and their results, in turn. Events are not asked for."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to_browser = to_browser
        self._from_browser = from_browser
        self._received = b""
        self._number = 0

    def command(self, method: str, session: str | None = None, /, **params: Any) -> Any:
        """The result of a command. Raises RuntimeError for an error of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self) -> bytes:
        while b"\0" not in self._received:
            if not select.select([self._from_browser], [], [], PATIENCE_S)[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._from_browser, 1 << 20)
            if not data:
                raise ConnectionError("Chromium has ended")
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        return message


class Page:
    """One page. Elements are told by CSS selectors."""

    def __init__(self, pipe: Pipe, session: str) -> None:
        self._pipe = pipe
        self._session = session

    def open(self, url: str) -> None:
        """Go there, and wait until the page and what it needs are loaded."""
        failed = self._command("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete'")

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self.click(selector)
        self._command("Input.insertText", text=text)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a field for one."""
        root = self._command("DOM.getDocument")["root"]["nodeId"]
        node = self._command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._command("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def click(self, selector: str) -> None:
        """Click on the middle of an element, with the mouse."""
        box = self.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._command("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def wait_for(self, condition: str) -> None:
        """Ask the page until something is so: it has no other way to tell. Raises TimeoutError."""
        until = time.monotonic() + PATIENCE_S
        while not self.evaluate(condition):
            if time.monotonic() > until:
                raise TimeoutError(f"{condition} did not come true; the page says: {self.text!r}")
            select.select([], [], [], 0.02)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript; None while one page gives way to the next."""
        try:
            result = self._command("Runtime.evaluate", expression=expression, returnByValue=True)
        except RuntimeError:
            return None
        return result["result"].get("value")

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the page."""
        path.write_bytes(base64.b64decode(self._command("Page.captureScreenshot")["data"]))

    def _command(self, method: str, /, **params: Any) -> Any:
        return self._pipe.command(method, self._session, **params)


class Browser:
    """A running browser."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A page, closed with the block: one that is only left is kept with its connections, for who goes back."""
        target = self._pipe.command("Target.createTarget", url="about:blank")["targetId"]
        yield Page(self._pipe, self._pipe.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        self._pipe.command("Target.closeTarget", targetId=target)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile. Ended with the block."""
    executable = find()
    assert executable is not None
    its_input, to_browser = os.pipe()
    from_browser, its_output = os.pipe()
    # The protocol has descriptors 3 and 4, which `subprocess` cannot give by number.
    shell = f'exec "$0" "$@" 3</dev/fd/{its_input} 4>/dev/fd/{its_output}'
    arguments = ["/bin/sh", "-c", shell, executable, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        arguments, pass_fds=(its_input, its_output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(its_input)
    os.close(its_output)
    try:
        pipe = Pipe(to_browser, from_browser)
        yield Browser(pipe)
        pipe.command("Browser.close")
        process.wait(PATIENCE_S)
    finally:
        os.close(to_browser)
        os.close(from_browser)
        process.kill()  # nothing, when it has ended
        process.wait()
