"""The page Risk: limits and their use, what would reach one next, trading state by scope, autonomy, what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals.models import Proposal
from kalshi_site import breakers
from kalshi_site.models import AuditEntry
from portfolio import risk
from portfolio.domain import scopes
from portfolio.domain.autonomy import MEANINGS, AutonomyLevel, is_raise
from portfolio.domain.limits import PAPER_LIMITS
from trading.models import Market

NEAREST: Final = 5
WEIGHED: Final = 25  # waiting proposals judged on fresh numbers, the nearest deadlines first
CHANGES: Final = 12
OBJECTS: Final = ("trading_state", "autonomy", "risk_limit", "wish", "liquidation")
WORDS: Final[Mapping[str, str]] = {
    "trading.resume": "Trading",
    "trading.pause": "Paused",
    "trading.halt": "Stopped",
    "trading.resume_asked": "Asks to resume",
    "trading.liquidate": "Liquidating",
    "liquidation.done": "Liquidation ended",
    "autonomy.asked": "Asks for autonomy",
    "build.accepted": "Accepted build",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history: what, from what to what, by whom, why."""

    at: datetime
    actor: str
    what: str
    before: str
    after: str
    reason: str


@require_GET
def risk_page(request: HttpRequest) -> HttpResponse:
    """The whole page, or with `?part=` one of its live pieces."""
    venue = settings.KALSHI_PROFILE
    context = {
        **_limits(venue),
        **_state(venue),
        **_autonomy(venue),
        **_rights(request),
        "changes": _changes(),
    }
    part = request.GET.get("part", "")
    if part in {"limits", "state", "changes"}:
        return render(request, f"kalshi_site/risk.html#{part}", context)
    context |= {"breakers": breakers.states(), "may_reset": request.user.has_perm("portfolio.resume_trading")}
    return render(request, "kalshi_site/risk.html", context)


def _limits(venue: str) -> dict[str, Any]:
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    unattended = Proposal.objects.all().unattended_notional(venue, today)
    uses = risk.limit_use(venue, unattended=unattended)
    return {
        "uses": uses,
        "near": sum(use.is_near for use in uses),
        "nearest": risk.nearest(venue, shown=NEAREST),
        "refused": _would_be_refused(venue),
    }


def _would_be_refused(venue: str) -> list[dict[str, Any]]:
    """Waiting proposals that an approval would not bring through now, with the first reason."""
    found = []
    for proposal in Proposal.objects.filter(venue=venue).decidable()[:WEIGHED]:
        try:
            report = risk.check_order(
                venue=venue,
                terms=proposal.terms,
                reduce_only=proposal.reduce_only,
                strategy=proposal.strategy,
            )
        except Exception as error:  # no verdict is a no: the approval would say the same
            found.append({"proposal": proposal, "code": "E302", "text": str(error)})
            continue
        if report.blocks:
            first = report.blocks[0]
            found.append({"proposal": proposal, "code": first.code, "text": f"{first.label}: {first.text}"})
    return found


def _state(venue: str) -> dict[str, Any]:
    now = timezone.now()
    open_markets = Market.objects.open(now)
    return {
        "state": risk.trading_state(venue),
        "standing": [(row, scopes.in_words(row.scope)) for row in risk.standing(venue) if row.scope],
        "kinds": scopes.KINDS,
        "known": sorted(
            {
                *open_markets.values_list("series_ticker", flat=True),
                *open_markets.values_list("ticker", flat=True)[:200],
                *Proposal.objects.filter(venue=venue).values_list("strategy", flat=True).distinct()[:50],
            }
            - {""}
        ),
    }


def _autonomy(venue: str) -> dict[str, Any]:
    row = risk.autonomy(venue)
    now = AutonomyLevel(row.level)
    levels = [
        {"level": level, "meaning": MEANINGS[level], "current": level is now, "more": is_raise(now, level)}
        for level in AutonomyLevel
    ]
    return {"autonomy": row, "levels": levels}


def _rights(request: HttpRequest) -> dict[str, bool]:
    return {
        "may_stop": request.user.has_perm("portfolio.stop_trading"),
        "may_resume": request.user.has_perm("portfolio.resume_trading"),
        "may_limit": request.user.has_perm("portfolio.change_risklimit"),
        "is_live": settings.KALSHI_PROFILE == "live",
        "may_close": request.user.has_perm("portfolio.close_position"),
    }


def _changes() -> list[Change]:
    return [
        _change(entry)
        for entry in AuditEntry.objects.filter(object_type__in=OBJECTS).order_by("-id")[:CHANGES]
    ]


def _change(entry: AuditEntry) -> Change:
    before, after = (str(entry.detail.get(name, "")) for name in ("before", "after"))
    what = WORDS.get(entry.verb, "Autonomy" if entry.object_type == "autonomy" else entry.verb)
    if entry.object_type == "trading_state":
        scope = entry.object_id.partition(" ")[2]
        what = f"{what}: {scopes.in_words(scope)}" if scope else what
    if entry.object_type == "risk_limit" and entry.object_id in PAPER_LIMITS:
        limit = PAPER_LIMITS[entry.object_id]
        what = limit.label
        before, after = (limit.in_words(Decimal(amount)) if amount else "" for amount in (before, after))
    if entry.object_type == "wish":
        what, after = (
            f"Asks for a second person: {entry.object_id.partition(' ')[2]}",
            str(entry.detail.get("wanted", "")),
        )
    return Change(entry.at, entry.actor, what, before, after, entry.reason)
