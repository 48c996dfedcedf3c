"""Coming in: the one-time link, and how the pages look."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from kalshi_site import audit
from kalshi_site.identity import EntryRefused, peek_entry_code, spend_entry_code
from kalshi_site.models import User

BACKEND = "kalshi_site.signin.Backend"
YEAR = 365 * 24 * 3600


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def enter(request: HttpRequest, code: str) -> HttpResponse:
    """The one-time link. GET shows one button, so that a preview spends nothing; POST spends the code."""
    try:
        user = peek_entry_code(code) if request.method == "GET" else spend_entry_code(code)
    except EntryRefused as refusal:
        return render(request, "kalshi_site/enter.html", {"refusal": refusal}, status=410)
    if request.method == "GET":
        return render(request, "kalshi_site/enter.html", {"person": user})
    login(request, user, backend=BACKEND)
    audit.record(
        actor=user.get_username(), verb="entry.spent", object_type="user", object_id=user.get_username()
    )
    return redirect("/")


@login_not_required
@require_POST
def appearance(request: HttpRequest) -> HttpResponse:
    """Keep the theme: with the person when signed in, and as a cookie for the sign-in page of this machine."""
    theme = request.POST.get("theme", "")
    wanted = request.POST.get("next", "/")
    safe = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()})
    response = redirect(wanted if safe else "/")
    if theme in User.Theme.values:
        if isinstance(request.user, User):
            User.objects.filter(pk=request.user.pk).update(theme=theme)
        response.set_cookie("theme", theme, max_age=YEAR, samesite="Lax", httponly=True)
    return response
