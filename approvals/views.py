"""The queue, the proposal, and the two answers. Pages and fragments share their templates; every form works alone."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals.decisions import MayNotDecide, OwnProposal
from approvals.decisions import approve as approve_proposal
from approvals.decisions import decline as decline_proposal
from approvals.domain.lifecycle import DeadlinePassed, ProposalState, TermsChanged, WrongState
from approvals.forms import REASONS, ApproveForm, DeclineForm
from approvals.models import Decision, Proposal
from kalshi_site.errors import kind_of
from kalshi_site.models import User
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.limits import RiskLevel
from portfolio.risk import Denied

REFUSALS = (
    StaleVersion,
    TermsChanged,
    WrongState,
    DeadlinePassed,
    OwnProposal,
    MayNotDecide,
    Denied,
    risk.UnknownMarket,
)
SHOWN = 100
DENIED_SHOWN_FOR = timedelta(hours=1)
LEVELS = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)


@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """What waits for a decision, the nearest deadline first; `?show=decided` what became of the rest."""
    show = "decided" if request.GET.get("show") == "decided" else "waiting"
    level = request.GET.get("risk", "")
    rows = Proposal.objects.all()
    if level in LEVELS:
        rows = rows.filter(risk_level=level)
    if show == "waiting":
        found = list(rows.decidable()[:SHOWN])
    else:
        found = list(rows.exclude(state__in=[ProposalState.PENDING]).order_by("-updated_at", "-id")[:SHOWN])
    since = timezone.now() - DENIED_SHOWN_FOR
    denied = rows.filter(state=ProposalState.DENIED, created_at__gte=since).order_by("-created_at")[:5]
    context = {
        "proposals": found,
        "denied": list(denied) if show == "waiting" else [],
        "show": show,
        "level": level,
        "levels": LEVELS,
        "soon": sum(p.deadline_at <= timezone.now() + timedelta(seconds=90) for p in found if p.is_decidable),
        "path": request.get_full_path(),
        **_rights(request),
    }
    return render(request, _template("approvals/queue.html", "list", request), context)


@require_GET
def proposal(request: HttpRequest, public_id: str) -> HttpResponse:
    """One proposal: terms, deadline, stakes, effect, checks, reasons, rules, answers."""
    found = get_object_or_404(Proposal, public_id=public_id)
    return _page(request, found)


@require_POST
def approve(request: HttpRequest, public_id: str) -> HttpResponse:
    """Say yes to what was shown. MEDIUM and HIGH are asked once more unless the second yes came along."""
    found = get_object_or_404(Proposal, public_id=public_id)
    form = ApproveForm(request.POST, proposal=found)
    if found.is_decidable and form.asks_again:
        return _confirm(request, found, form)
    if not form.is_valid():
        return _confirm(request, found, form, status=422)
    try:
        fresh = approve_proposal(
            proposal=found,
            version=form.cleaned_data["version"],
            terms_hash=form.cleaned_data["terms_hash"],
            actor=_person(request),
            method="page",
        )
    except REFUSALS as refusal:
        return _refused(request, found, refusal, Decision.Verdict.APPROVE)
    return _done(
        request, fresh, "Approved. Execution sends the order once; it shows up under Orders.", "done"
    )


@require_http_methods(["GET", "POST"])
def decline(request: HttpRequest, public_id: str) -> HttpResponse:
    """Say no. GET asks for the reason where no script opens the dialog."""
    found = get_object_or_404(Proposal, public_id=public_id)
    if request.method == "GET":
        return render(
            request, "approvals/decline.html", {"proposal": found, "reasons": REASONS, **_rights(request)}
        )
    form = DeclineForm(request.POST)
    if not form.is_valid():
        return _page(
            request,
            found,
            status=422,
            refusal=_problem("E010", "the form came without what you saw: its version and terms"),
        )
    try:
        fresh = decline_proposal(
            proposal=found,
            version=form.cleaned_data["version"],
            terms_hash=form.cleaned_data["terms_hash"],
            actor=_person(request),
            method="page",
            reason=form.reason,
        )
    except REFUSALS as refusal:
        return _refused(request, found, refusal, Decision.Verdict.DECLINE)
    return _done(request, fresh, "Declined. Nothing is traded; the reason goes back to the proposer.", "")


def _person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise MayNotDecide
    return request.user


def _rights(request: HttpRequest) -> dict[str, Any]:
    return {
        "may_decide": request.user.has_perm("approvals.decide_proposal"),
        "me": request.user.get_username(),
    }


def _template(name: str, partial: str, request: HttpRequest) -> str:
    """The page, or its fragment when htmx asks."""
    return f"{name}#{partial}" if getattr(request, "htmx", False) else name


def _page(
    request: HttpRequest,
    found: Proposal,
    *,
    status: int = 200,
    refusal: dict[str, str] | None = None,
    **extra: Any,
) -> HttpResponse:
    facts = risk.market_facts([found.ticker]).get(found.ticker)
    now = timezone.now()
    context = {
        "proposal": found,
        "bid_now": None if facts is None else facts.book.bid(found.terms.side),
        "ask_now": None if facts is None else facts.book.ask(found.terms.side),
        "open": found.is_decidable and found.deadline_at > now,
        "late": found.is_decidable and found.deadline_at <= now,
        "own": found.proposer == request.user.get_username(),
        "events": found.events.all(),
        "reasons": REASONS,
        "refusal": refusal,
        **_rights(request),
        **extra,
    }
    return render(request, _template("approvals/proposal.html", "card", request), context, status=status)


def _confirm(request: HttpRequest, found: Proposal, form: ApproveForm, *, status: int = 200) -> HttpResponse:
    if getattr(request, "htmx", False):
        return _page(request, found, status=status, form=form)
    return render(
        request,
        "approvals/confirm.html",
        {"proposal": found, "form": form, **_rights(request)},
        status=status,
    )


def _problem(code: str, text: str) -> dict[str, str]:
    kind = kind_of(type("Coded", (Exception,), {"code": code})())
    return {"code": code, "title": kind.title, "text": text, "recovery": kind.recovery}


def _refused(
    request: HttpRequest, found: Proposal, refusal: Exception, sought: Decision.Verdict
) -> HttpResponse:
    """The refusal in plain words above the card as it is now; none where this person's first press did just that."""
    fresh = Proposal.objects.get(pk=found.pk)
    if fresh.decisions.filter(actor=_person(request), verdict=sought).exists():
        return _page(request, fresh)
    kind = kind_of(refusal)
    text = str(refusal)
    if isinstance(refusal, StaleVersion) and fresh.decided_by:
        text = (
            f"You decided on version {refusal.seen}; version {fresh.version} is {fresh.state} by {fresh.decided_by}"
            f" since {fresh.decided_at:%H:%M:%S} UTC."
        )
    shown = {"code": kind.code, "title": kind.title, "text": text, "recovery": kind.recovery}
    return _page(request, fresh, status=kind.status, refusal=shown)


def _done(request: HttpRequest, fresh: Proposal, text: str, tone: str) -> HttpResponse:
    if getattr(request, "htmx", False):
        response = _page(request, fresh)
        response["HX-Trigger"] = json.dumps({"say": {"text": text, "tone": tone}})
        return response
    messages.success(request, text)
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) and wanted.startswith("/"):
        return redirect(wanted)
    return redirect("proposal", public_id=fresh.public_id)
