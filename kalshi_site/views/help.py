"""Help that works offline: keys, guides, and a page for every error code. Open to all, as refusals link to it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from kalshi_site import guides
from kalshi_site.errors import REGISTRY

CONNECT = "connect-to-demo"  # has a page of its own, with the state of the connection


@login_not_required
@require_GET
def error(request: HttpRequest, code: str) -> HttpResponse:
    """What an error code means and what to do. 404 for a code that is not ours."""
    kind = REGISTRY.get(code.upper())
    if kind is None:
        raise Http404(f"no error code {code}")
    return render(request, "help/error.html", {"kind": kind, "layout": _layout(request)})


@login_not_required
@require_GET
def errors(request: HttpRequest) -> HttpResponse:
    """All error codes."""
    return render(request, "help/errors.html", {"kinds": REGISTRY.values(), "layout": _layout(request)})


@login_not_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Everything that can be read here."""
    found = {
        kind.replace("-", "_"): [guides.guide(name) for name in guides.names(kind) if name != CONNECT]
        for kind in (guides.HOW_TO, guides.REFERENCE)
    }
    return render(request, "help/index.html", {**found, "layout": _layout(request)})


@login_not_required
@require_GET
def guide(request: HttpRequest, name: str) -> HttpResponse:
    """One file of docs/how-to or docs/reference."""
    try:
        found = guides.guide(name)
    except guides.NoSuchGuide:
        raise Http404(f"no guide {name}") from None
    return render(request, "help/guide.html", {"guide": found, "layout": _layout(request)})


@login_not_required
@require_GET
def keys(request: HttpRequest) -> HttpResponse:
    """The keys, as a page for readers without scripts."""
    return render(request, "help/keys.html", {"layout": _layout(request)})


def _layout(request: HttpRequest) -> str:
    return "base.html" if request.user.is_authenticated else "door.html"
