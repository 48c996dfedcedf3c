"""Error pages, in the frame where somebody is signed in, always with the request id."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from kalshi_site.errors import REGISTRY
from kalshi_site.observability import request_id


def _fault(request: HttpRequest, status: int, code: str, text: str = "") -> HttpResponse:
    """In the frame for people who are signed in; a broken page stands bare, because its frame could break again.

    A press that htmx sent keeps the page as it is, with the words above it.
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
    pressed = getattr(request, "htmx", False) and request.method != "GET"
    return render(request, f"kalshi_site/fault.html{'#note' if pressed else ''}", context, status=status)


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
