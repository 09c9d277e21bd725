"""A page with a form, and the admin, on Django in one file, to try a server by hand.

pip install 'h1core[frameworks]'
h1core examples.django_page:make --factory

The admin is at /admin/; its user and its password are "admin". What it keeps is forgotten with the process.
"""

import atexit
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

PAGE = """\
<!doctype html>
<html lang="en">
<title>h1core and Django</title>
<h1>It works</h1>
<form method="post" enctype="multipart/form-data">{% csrf_token %}
  <p><label>Your name <input name="name"></label>
  <p><label>A file <input type="file" name="file"></label>
  <p><button>Send</button>
</form>
{% if name is not None %}<p>Hello, {{ name }}: {{ size }} bytes.{% endif %}
"""

MIDDLEWARE = """
    django.contrib.sessions.middleware.SessionMiddleware
    django.middleware.csrf.CsrfViewMiddleware
    django.contrib.auth.middleware.AuthenticationMiddleware
    django.contrib.messages.middleware.MessageMiddleware
"""

PROCESSORS = """
    django.template.context_processors.request
    django.contrib.auth.context_processors.auth
    django.contrib.messages.context_processors.messages
"""


def index(request: HttpRequest) -> HttpResponse:
    file: Any = request.FILES.get("file")
    context = {"name": request.POST.get("name"), "size": file.size if file else 0}
    return HttpResponse(engines["django"].from_string(PAGE).render(context, request))


def make() -> Any:
    """The application. Django is set up once in a process, so this is called once."""
    folder = tempfile.TemporaryDirectory(prefix="h1core-django-")
    atexit.register(folder.cleanup)
    settings.configure(
        SECRET_KEY="for a page to try, and nothing else",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[
            f"django.contrib.{name}" for name in "admin auth contenttypes sessions messages staticfiles".split()
        ],
        MIDDLEWARE=MIDDLEWARE.split(),
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": PROCESSORS.split()},
            }
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(folder.name) / "db.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        STATIC_URL="/static/",
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User  # only when Django is set up

    User.objects.create_superuser("admin", "admin@example.org", "admin")
    globals()["urlpatterns"] = [path("", index), path("admin/", admin.site.urls)]
    return StaticFilesHandler(get_wsgi_application())
