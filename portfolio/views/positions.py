"""Positions: what is held, marked at what it would fetch now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from portfolio import risk
from portfolio.domain.pnl import mark_price
from portfolio.models import Position
from trading.domain.markets import MarketFacts

SETTLED_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One position on the page. Prices on the held side's own scale; None where nobody bids or nothing is known."""

    position: Position
    side: str
    mark: Decimal | None
    unrealized: Decimal | None
    close_at: datetime | None

    @property
    def worth(self) -> Decimal | None:
        return None if self.mark is None else abs(self.position.quantity) * self.mark

    @property
    def pays_yes(self) -> Decimal:
        return max(self.position.quantity, Decimal(0))

    @property
    def pays_no(self) -> Decimal:
        return max(-self.position.quantity, Decimal(0))


@require_GET
def positions(request: HttpRequest) -> HttpResponse:
    """What is held, marked at what it would fetch now; `?show=settled` what was paid out."""
    venue = settings.KALSHI_PROFILE
    show = "settled" if request.GET.get("show") == "settled" else "open"
    context: dict[str, Any] = {
        "show": show,
        "path": request.get_full_path(),
        "may_close": request.user.has_perm("portfolio.close_position"),
    }
    if show == "settled":
        rows = Position.objects.filter(venue=venue).exclude(settled_at=None).order_by("-settled_at")
        context["settled"] = list(rows[:SETTLED_SHOWN])
    else:
        context |= _open(venue)
    name = "portfolio/positions.html"
    return render(request, f"{name}#list" if getattr(request, "htmx", False) else name, context)


def _open(venue: str) -> dict[str, Any]:
    held = list(Position.objects.held(venue).order_by("event_ticker", "ticker"))
    facts = risk.market_facts([row.ticker for row in held])
    lines = [_line(row, facts.get(row.ticker)) for row in held]
    marked = all(line.mark is not None for line in lines)
    return {
        "lines": lines,
        "worth": sum((line.worth or Decimal(0) for line in lines), Decimal(0)) if marked else None,
        "unrealized": sum((line.unrealized or Decimal(0) for line in lines), Decimal(0)) if marked else None,
        "cost": sum((row.cost for row in held), Decimal(0)),
        "fees": sum((row.fees for row in held), Decimal(0)),
        "next_close": min((line.close_at for line in lines if line.close_at), default=None),
        "events": len({row.event_ticker for row in held}),
    }


def _line(row: Position, facts: MarketFacts | None) -> Line:
    holding = row.holding
    mark = mark_price(holding, None if facts is None else facts.book)
    side = "" if holding.side is None else holding.side.value
    return Line(row, side, mark, holding.unrealized(mark), None if facts is None else facts.close_at)
