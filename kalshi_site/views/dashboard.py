"""The first page: how the books stand, what waits, what happened."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals.models import Proposal
from kalshi_site.models import AuditEntry
from portfolio import ledger
from portfolio.domain.limits import PAPER_LIMITS
from portfolio.models import CashEntry, EquityPoint, Position, Reservation
from portfolio.risk import limits
from trading.domain.orders import OrderState
from trading.models import Fill, Order

NEAREST = 3
FILLS_SHOWN = 6
EVENTS_SHOWN = 9


@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    """Key figures, the nearest deadlines, last fills, what happened. Unknown figures stay unknown."""
    venue = settings.KALSHI_PROFILE
    waiting = list(Proposal.objects.filter(venue=venue).decidable()[: NEAREST + 1])
    context = {
        **_books(venue),
        "waiting": waiting[:NEAREST],
        "more": len(waiting) > NEAREST,
        "fills": list(
            Fill.objects.filter(venue=venue).select_related("order").order_by("-at", "-id")[:FILLS_SHOWN]
        ),
        "events": _happened(),
        "curve": _curve(venue),
        "now": timezone.now(),
        "mode": venue,
        "may_decide": request.user.has_perm("approvals.decide_proposal"),
        "me": request.user.get_username(),
    }
    name = "kalshi_site/dashboard.html"
    return render(request, f"{name}#live" if getattr(request, "htmx", False) else name, context)


def _happened() -> list[dict[str, Any]]:
    """The last deeds, each with the proposal or order that it was done to."""
    entries = list(AuditEntry.objects.order_by("-id")[:EVENTS_SHOWN])
    order_ids = {
        e.pk: e.object_id if e.object_type == "order" else e.detail.get("order", "") for e in entries
    }
    proposals = {
        row.public_id: row for row in Proposal.objects.filter(public_id__in=[e.object_id for e in entries])
    }
    orders = {row.public_id: row for row in Order.objects.filter(public_id__in=order_ids.values())}
    return [
        {"entry": e, "proposal": proposals.get(e.object_id), "order": orders.get(order_ids[e.pk])}
        for e in entries
    ]


def _books(venue: str) -> dict[str, Any]:
    """The figures of the top row, each from the ledger."""
    start = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    today = CashEntry.objects.filter(venue=venue, at__gte=start).aggregate(
        realized=Sum("realized"), fees=Sum("fee"), fills=Count("id", filter=Q(kind=CashEntry.Kind.FILL))
    )
    orders = (
        Order.objects.open()
        .filter(venue=venue)
        .aggregate(working=Count("id"), partly=Count("id", filter=Q(state=OrderState.PARTIALLY_FILLED)))
    )
    held = Position.objects.filter(venue=venue).aggregate(cost=Sum("cost"))["cost"] or Decimal(0)
    reserved = list(
        Reservation.objects.standing(venue).values_list("signed_quantity", "unit_cost", "unit_fee")
    )
    risked = sum((abs(count) * cost for count, cost, _ in reserved), Decimal(0))
    limit = limits()["total_exposure"]
    return {
        "opened": CashEntry.objects.filter(venue=venue).exists(),
        "valuation": ledger.valuation(venue),
        "realized_today": (today["realized"] or Decimal(0)) - (today["fees"] or Decimal(0)),
        "fees_today": today["fees"] or Decimal(0),
        "fills_today": today["fills"],
        "exposure": held + risked,
        "exposure_limit": limit,
        "exposure_label": PAPER_LIMITS["total_exposure"].label,
        "exposure_share": (held + risked) / limit if limit else None,
        "reserved_cash": sum((abs(count) * (cost + fee) for count, cost, fee in reserved), Decimal(0)),
        "working": orders["working"],
        "partly": orders["partly"],
    }


def _curve(venue: str) -> dict[str, Any] | None:
    """The equity of the last 24 hours as a line in a box of 1000 × 100; None before there are two points."""
    since = timezone.now() - timedelta(hours=24)
    points = list(
        EquityPoint.objects.filter(venue=venue, at__gte=since).order_by("at").values_list("at", "equity")
    )
    if len(points) < 2:
        return None
    low, high = min(equity for _, equity in points), max(equity for _, equity in points)
    room = max(high - low, Decimal(1))
    low, high = low - room / 10, high + room / 10
    first, last = points[0][0], points[-1][0]

    def place(at: datetime, equity: Decimal) -> str:
        x = (at - first) / (last - first) * 1000
        return f"{x:.0f},{(high - equity) / (high - low) * 100:.1f}"

    return {
        "line": " ".join(place(at, equity) for at, equity in points),
        "low": low,
        "high": high,
        "first": first,
        "last": last,
        "from": points[0][1],
        "to": points[-1][1],
        "rows": points[-12:],
    }
