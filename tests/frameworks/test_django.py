"""Django, as it is: the admin, uploads, streams and files."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django", reason="Django is not installed; ./setup-venv does that")
pytest.importorskip("httpx", reason="httpx is not installed; ./setup-venv does that")

import django
import httpx
from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections

from ..drivers.test_pool import PATIENCE_S
from .conftest import MIB, Start

UPLOAD_BYTES = 50 * MIB
FILE = b"0123456789" * 100_000


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A project with an admin, made once: Django is configured once in a process."""
    folder = tmp_path_factory.mktemp("django")
    (folder / "file").write_bytes(FILE)
    middleware = """
        django.middleware.security.SecurityMiddleware
        django.contrib.sessions.middleware.SessionMiddleware
        django.middleware.common.CommonMiddleware
        django.middleware.csrf.CsrfViewMiddleware
        django.contrib.auth.middleware.AuthenticationMiddleware
        django.contrib.messages.middleware.MessageMiddleware
    """
    apps = "admin auth contenttypes sessions messages staticfiles"
    processors = """
        django.template.context_processors.request
        django.contrib.auth.context_processors.auth
        django.contrib.messages.context_processors.messages
    """
    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        FOLDER=str(folder),
        ROOT_URLCONF="tests.frameworks.django_project",
        INSTALLED_APPS=[f"django.contrib.{name}" for name in apps.split()],
        MIDDLEWARE=middleware.split(),
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": processors.split()},
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # quick, which is all it has to be
        STATIC_URL="/static/",
        FILE_UPLOAD_TEMP_DIR=str(folder),
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    User.objects.create_superuser("admin", "admin@example.org", "password")
    connections.close_all()
    yield StaticFilesHandler(get_wsgi_application())
    connections.close_all()


@pytest.fixture
def client(start: Start, application: Any) -> Iterator[httpx.Client]:
    host, port = start(application).address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def test_who_logs_in_sees_the_admin(client: httpx.Client) -> None:
    assert client.get("/admin/").headers["location"] == "/admin/login/?next=/admin/"
    page = client.get("/admin/login/?next=/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    fields = {"username": "admin", "password": "wrong", "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert "Please enter the correct username" in client.post("/admin/login/", data=fields).text
    response = client.post("/admin/login/", data={**fields, "password": "password"})
    assert (response.status_code, response.headers["location"]) == (302, "/admin/")
    assert "Site administration" in client.get("/admin/").text
    assert "admin@example.org" in client.get("/admin/auth/user/").text


def test_an_upload_of_fifty_megabytes(client: httpx.Client, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb+") as file:
        file.truncate(UPLOAD_BYTES)
        file.write(b"begin")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        response = client.post("/upload", files={"file": ("large.bin", file)})
    assert response.json() == {"name": "large.bin", "size": UPLOAD_BYTES, "digest": digest}


def test_a_stream(client: httpx.Client) -> None:
    response = client.get("/stream")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text.splitlines() == [f"line {number}" for number in range(1000)]


def test_a_file(client: httpx.Client) -> None:
    for _ in range(2):
        response = client.get("/download")
        assert response.content == FILE
        assert response.headers["content-length"] == str(len(FILE))
        assert response.headers["content-disposition"] == 'attachment; filename="x.bin"'
    head = client.head("/download")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(FILE)))


def test_static_files(client: httpx.Client) -> None:
    response = client.get("/static/admin/css/base.css")
    assert response.headers["content-type"] == "text/css"
    installed = Path(django.__file__).parent / "contrib" / "admin" / "static" / "admin" / "css" / "base.css"
    assert response.content == installed.read_bytes()
    since = {"If-Modified-Since": response.headers["last-modified"]}
    assert client.get("/static/admin/css/base.css", headers=since).status_code == 304
    assert client.get("/static/missing.css").status_code == 404


def test_what_has_no_content(client: httpx.Client) -> None:
    response = client.get("/empty")  # Django says Content-Length: 0 here, which HTTP forbids
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


def test_an_error_page(client: httpx.Client) -> None:
    response = client.get("/missing")
    assert response.status_code == 404
    assert "<h1>Not Found</h1>" in response.text
