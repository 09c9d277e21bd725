"""The views of a Django project, for test_django.py, which has the settings: Django imports this when it has them."""

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def upload(request: Any) -> Any:
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for block in file.chunks():
        digest.update(block)
    return JsonResponse({"name": file.name, "size": file.size, "digest": digest.hexdigest()})


def stream(request: Any) -> Any:
    return StreamingHttpResponse((f"line {number}\n" for number in range(1000)), content_type="text/plain")


def download(request: Any) -> Any:
    return FileResponse((Path(settings.FOLDER) / "file").open("rb"), as_attachment=True, filename="x.bin")


def empty(request: Any) -> Any:
    return HttpResponse(status=204)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("upload", csrf_exempt(upload)),
    path("stream", stream),
    path("download", download),
    path("empty", empty),
]
