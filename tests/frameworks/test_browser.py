"""Each framework's page in a browser, and its form posted back, served by the command line as users start it.

SCREENSHOTS=folder keeps a picture of every page:  SCREENSHOTS=/tmp ./test tests/frameworks/test_browser.py
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import chromium

if chromium.find() is None:
    pytest.skip("Chromium is not installed; on Debian: apt-get install chromium", allow_module_level=True)

from .chromium import PATIENCE_S, Browser, Page

PROJECT = Path(__file__).parents[2]

PAGES = ["flask_page:app", "starlette_page:app", "fastapi_page:app", "quart_page:app", "django_page:make --factory"]

FILE = b"0123456789" * 1000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@contextmanager
def served(application: str) -> Iterator[str]:
    """The URL of an example that is served. In the end no connection may be left, nor anything be said of an error."""
    options = f"examples.{application} --bind 127.0.0.1:0 --drain-timeout 1000"
    command = [sys.executable, "-m", "h1core", *options.split()]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            listening = re.fullmatch(r"h1core: listening on (http://\S+)\n", process.stderr.readline())
            assert listening is not None
            yield listening[1]
            process.terminate()
            said = process.communicate(timeout=PATIENCE_S)[1]
        finally:
            process.kill()  # nothing, when it has ended
    # Django warns that it has no icon for the browser.
    assert [line for line in said.splitlines() if not line.endswith("Not Found: /favicon.ico")] == []
    assert process.returncode == 0


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(Path(folder) / f"{name}.png")


@pytest.mark.parametrize("application", PAGES)
def test_a_page_opens_and_its_form_comes_back(application: str, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    name = application.partition(":")[0]
    with served(application) as url, browser.page() as page:
        page.open(url)
        assert "It works" in page.text
        keep(page, name)
        page.type("input[name=name]", "<b>ü</b>")
        page.choose_file("input[name=file]", tmp_path / "file")
        page.click("button")
        page.wait_for("document.body.innerText.includes('Hello, <b>ü</b>: 10000 bytes.')")
        keep(page, f"{name}_sent")


def test_events_appear_as_they_come_and_end_with_their_page(browser: Browser) -> None:
    with served("starlette_page:app") as url, browser.page() as page:
        page.open(url)
        page.wait_for("document.querySelectorAll('#events li').length >= 2")
        assert "tick 0" in page.text


def test_who_logs_in_sees_the_admin(browser: Browser) -> None:
    with served("django_page:make --factory") as url, browser.page() as page:
        page.open(f"{url}/admin/")
        page.type("#id_username", "admin")
        page.type("#id_password", "admin")
        page.click("input[type=submit]")
        page.wait_for("document.title.startsWith('Site administration') && document.readyState == 'complete'")
        assert (
            page.evaluate("getComputedStyle(document.querySelector('#header')).backgroundColor") != "rgba(0, 0, 0, 0)"
        )
        keep(page, "django_admin")
