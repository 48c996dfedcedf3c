"""The trading state of one scope: pause, stop and resume as plain forms; and the autonomy level."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain import scopes
from portfolio.domain.autonomy import MEANINGS, AutonomyLevel, is_raise
from portfolio.forms import AutonomyForm, ScopeForm
from portfolio.models import TradingState

CHANGED = "E204 The state changed meanwhile; look again."
NO_REASON = "Say why it is safe now; it stands in the record."


@require_POST
def trading_state(request: HttpRequest) -> HttpResponse:
    """Pause or stop at once; the safe direction asks for nothing. Resuming goes through its own page."""
    if not request.user.has_perm("portfolio.stop_trading"):
        raise PermissionDenied("Pausing and stopping need the role approver, risk or admin.")
    form = ScopeForm(request.POST)
    wanted = next_page(request.POST.get("next", ""))
    if not form.is_valid():
        return _refused(request, form, wanted)
    venue, actor, scope = settings.KALSHI_PROFILE, request.user.get_username(), form.cleaned_data["scope"]
    reason, named = request.POST.get("reason", "").strip()[:300], scopes.in_words(scope)
    of = "" if scope == scopes.ALL else f" for {named}"
    if request.POST.get("to") == "HALTED":
        risk.halt(venue=venue, actor=actor, reason=reason or "Stop pressed on the page", scope=scope)
        text = f"Trading is stopped{of}: nothing new goes out and working orders are canceled."
        messages.warning(request, text, extra_tags="bad")
    elif request.POST.get("to") == "REDUCING":
        row = risk.pause(venue=venue, actor=actor, reason=reason or "Pause pressed on the page", scope=scope)
        text, tone = f"Trading is paused{of}: working orders stay, only exits pass.", "care"
        if row.mode == TradingState.Mode.HALTED:
            text, tone = f"Trading is already stopped{of}: a pause loosens no stop.", "bad"
        messages.warning(request, text, extra_tags=tone)
    if doubt := risk.doubt_of(scope):
        messages.warning(request, f"But {doubt}.", extra_tags="care")
    return redirect(wanted)


def _refused(request: HttpRequest, form: ScopeForm, wanted: str) -> HttpResponse:
    """A scope that names nothing changes nothing; above all it does not stand for everything."""
    error = next(str(texts[0]) for texts in form.errors.values())
    messages.warning(request, f"Nothing was changed: {error}", extra_tags="bad")
    return redirect(wanted)


@require_http_methods(["GET", "POST"])
def resume(request: HttpRequest) -> HttpResponse:
    """Why it was stopped, and the question why it is safe now. The version seen must still be the one that stands."""
    if not request.user.has_perm("portfolio.resume_trading"):
        raise PermissionDenied("Resuming needs the role approver, risk or admin.")
    asked = request.POST if request.method == "POST" else request.GET
    form = ScopeForm({"scope": asked.get("scope", "")})
    if not form.is_valid():
        return _refused(request, form, "risk")
    scope = form.cleaned_data["scope"]
    venue, wanted = settings.KALSHI_PROFILE, next_page(asked.get("next") or "")
    context = {
        "state": risk.trading_state(venue, scope=scope),
        "named": scopes.in_words(scope),
        "next": wanted,
        "reason": request.POST.get("reason", "").strip()[:300],
        "error": "",
    }
    if request.method != "POST":
        return render(request, "portfolio/resume.html", context)
    reason = str(context["reason"])
    version = request.POST.get("version", "")
    if not reason or not version.isdigit():
        context["error"] = NO_REASON
        return render(request, "portfolio/resume.html", context, status=422)
    try:
        risk.resume(
            venue=venue, actor=request.user.get_username(), reason=reason, scope=scope, version=int(version)
        )
    except StaleVersion:
        context |= {"state": risk.trading_state(venue, scope=scope), "error": CHANGED}
        return render(request, "portfolio/resume.html", context, status=412)
    except (risk.ResumeRefused, risk.SecondPersonNeeded) as refused:
        context["error"] = f"{refused.code} {refused}"
        return render(request, "portfolio/resume.html", context, status=409)
    messages.success(
        request,
        "Trading is on again."
        if scope == scopes.ALL
        else f"Trading is on again for {scopes.in_words(scope)}.",
    )
    return redirect(wanted)


@require_http_methods(["GET", "POST"])
def autonomy(request: HttpRequest) -> HttpResponse:
    """Less room for the analyst is one press and never refused; more room asks why, and shows what it means."""
    if not request.user.has_perm("portfolio.stop_trading"):
        raise PermissionDenied("Changing the autonomy level needs the role approver, risk or admin.")
    venue = settings.KALSHI_PROFILE
    row = risk.autonomy(venue)
    form = AutonomyForm(
        request.POST if request.method == "POST" else {**request.GET.dict(), "version": row.version}
    )
    if not form.is_valid():
        return redirect("risk")
    level, reason = AutonomyLevel(form.cleaned_data["level"]), form.cleaned_data["reason"].strip()
    more = is_raise(AutonomyLevel(row.level), level)
    if more and not request.user.has_perm("portfolio.resume_trading"):
        raise PermissionDenied("More room for the analyst needs the role approver, risk or admin.")
    context: dict[str, Any] = {"row": row, "level": level, "meaning": MEANINGS[level], "error": ""}
    if request.method == "GET":
        return render(request, "portfolio/autonomy.html", context)
    context["reason"] = reason
    try:
        risk.set_autonomy(
            venue=venue,
            level=level,
            actor=request.user.get_username(),
            reason=reason,
            version=form.cleaned_data["version"],
        )
    except (risk.ReasonMissing, StaleVersion, risk.SecondPersonNeeded) as refused:
        known = {risk.ReasonMissing: (NO_REASON, 422), StaleVersion: (CHANGED, 412)}
        text, status = known.get(type(refused), (f"{refused.code} {refused}", 409))
        context |= {"row": risk.autonomy(venue), "error": text}
        return render(request, "portfolio/autonomy.html", context, status=status)
    messages.success(request, f"The autonomy level is {level.value}: {MEANINGS[level]}.")
    return redirect("risk")


@require_POST
def attend(request: HttpRequest) -> HttpResponse:
    """The page of the queue says that a person who may decide has it open."""
    if request.user.has_perm("approvals.decide_proposal"):
        risk.attend(venue=settings.KALSHI_PROFILE, actor=request.user.get_username())
    return HttpResponse(status=204)


def next_page(wanted: str) -> str:
    """Only an address of our own; anything else leads home."""
    return (
        wanted
        if wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
        else "/"
    )
