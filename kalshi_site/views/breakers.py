"""The circuit breakers as a fragment: the health page shows it, and any page may load it by its address."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from kalshi_site import breakers
from kalshi_site.errors import NotFound

FRAGMENT = "kalshi_site/_breakers.html"
RIGHT = "portfolio.resume_trading"  # closing one by hand lets orders go again, as resuming does


@require_GET
def panel(request: HttpRequest) -> HttpResponse:
    """Every breaker with its state; a button where one may be reset."""
    return _panel(request)


@require_POST
def reset(request: HttpRequest, name: str) -> HttpResponse:
    """Close one by hand."""
    if not request.user.has_perm(RIGHT):
        raise PermissionDenied("Resetting a breaker needs the role approver, risk or admin.")
    try:
        done = breakers.reset(name, request.user.get_username(), "on the health page")
    except NotFound as error:
        raise Http404(str(error)) from error
    except breakers.Unshared as error:
        told = f"{error.code} {error}"
        if request.headers.get("HX-Request"):
            return _panel(request, error=told, status=503)
        messages.warning(request, told)
        return redirect("health")
    if request.headers.get("HX-Request"):
        return _panel(request)
    messages.success(request, f"{done.label}: the breaker is closed.")
    return redirect("health")


def _panel(request: HttpRequest, *, error: str = "", status: int = 200) -> HttpResponse:
    context = {"breakers": breakers.states(), "may_reset": request.user.has_perm(RIGHT), "error": error}
    return render(request, FRAGMENT, context, status=status)
