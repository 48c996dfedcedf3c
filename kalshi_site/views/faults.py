"""Error pages, in the frame where somebody is signed in, always with the request id."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from kalshi_site.errors import REGISTRY
from kalshi_site.observability import request_id


def _fault(request: HttpRequest, status: int, code: str, text: str = "") -> HttpResponse:
    """In the frame for people who are signed in; a broken page stands bare, because its frame could break again.

    What htmx asked for is a part of a page: it gets the words alone, and says them where it takes no answer like this.
    """
    user = getattr(request, "user", None)
    framed = status < 500 and user is not None and user.is_authenticated
    context = {
        "layout": "base.html" if framed else "door.html",
        "kind": REGISTRY[code],
        "status": status,
        "text": text,
        "request_id": request_id.get(),
    }
    if not getattr(request, "htmx", False):
        return render(request, "kalshi_site/fault.html", context, status=status)
    response = render(request, "kalshi_site/fault.html#note", context, status=status)
    if request.method != "GET":
        said = f"{code} {REGISTRY[code].title}. {REGISTRY[code].recovery}"
        response["HX-Trigger"] = json.dumps({"say": {"text": said, "tone": "bad"}})
    return response


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400."""
    return _fault(request, 400, "E001")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403: the role does not allow it."""
    return _fault(request, 403, "E104", str(exception or ""))


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form's proof of origin is missing or old."""
    return _fault(request, 403, "E106")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404."""
    return _fault(request, 404, "E021")


def broken(request: HttpRequest) -> HttpResponse:
    """500."""
    return _fault(request, 500, "E901")
