"""Markets, orders, the ways out (cancel, cancel all, close), a proposal's repeat. Every form works without a script."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from approvals.models import Proposal
from approvals.proposals import NobodyBids, NothingHeld
from portfolio.models import Position
from portfolio.risk import Denied, UnknownMarket
from trading.domain.fees import FeeType, UnknownFee
from trading.domain.markets import MarketStatus, TopOfBook
from trading.domain.prices import count_text, dollars_text
from trading.execution import repeats
from trading.execution.cancels import NotCancelable, request_cancel, request_cancel_all
from trading.execution.decreases import NotDecreasable, request_decrease
from trading.execution.exits import ExitWorking, close_position
from trading.execution.wake import wake
from trading.forms import TABS, MarketFilter
from trading.market_data.charts import history
from trading.models import Fill, Market, Order, Quote
from trading.models.fee_change import FeeBook
from trading.templatetags.trading_format import span

CANNOT_REPEAT = (repeats.NotRepeatable, UnknownMarket, UnknownFee, Denied)
CANNOT_CLOSE = (ExitWorking, NothingHeld, NobodyBids, UnknownMarket, UnknownFee, Denied)
SHOWN = 100
LEVELS_SHOWN = 10
MINUTES_SHOWN = 120


def _template(name: str, partial: str, request: HttpRequest) -> str:
    """The page, or its fragment when htmx asks."""
    return f"{name}#{partial}" if getattr(request, "htmx", False) else name


@require_GET
def markets(request: HttpRequest) -> HttpResponse:
    """The open markets with their touch; search and category in the address."""
    form = MarketFilter(request.GET)
    wanted = form.cleaned_data if form.is_valid() else {"q": "", "category": ""}
    now = timezone.now()
    rows = Market.objects.open(now).select_related("quote").order_by("close_at", "event_ticker", "ticker")
    categories = sorted(set(Market.objects.open(now).values_list("category", flat=True)) - {""})
    if wanted["q"]:
        rows = rows.filter(Q(ticker__icontains=wanted["q"]) | Q(title__icontains=wanted["q"]))
    if wanted["category"]:
        rows = rows.filter(category=wanted["category"])
    held = dict(Position.objects.held(settings.KALSHI_PROFILE).values_list("ticker", "quantity"))
    context = {
        "rows": [{"market": row, "top": _top(row), "held": held.get(row.ticker)} for row in rows[:SHOWN]],
        "found": rows.count(),
        "categories": categories,
        "wanted": wanted,
        "path": request.get_full_path(),
    }
    return render(request, "trading/markets.html", context)


@require_GET
def market(request: HttpRequest, ticker: str) -> HttpResponse:
    """One market: rules, book, our position, orders and proposals."""
    found = get_object_or_404(Market.objects.select_related("quote"), pk=ticker)
    quote = getattr(found, "quote", None)
    venue, now = settings.KALSHI_PROFILE, timezone.now()
    context = {
        "market": found,
        "quote": quote,
        "top": _top(found),
        "levels": [] if quote is None or not quote.trusted else _ladder(quote.levels),
        "position": Position.objects.held(venue).filter(ticker=ticker).first(),
        "orders": list(Order.objects.open().filter(venue=venue, ticker=ticker).order_by("-id")[:20]),
        "proposals": list(Proposal.objects.decidable().filter(venue=venue, ticker=ticker)[:10]),
        "fills": list(Fill.objects.filter(venue=venue, ticker=ticker).order_by("-at", "-id")[:10]),
        "now": now,
        "candles": history(ticker, 1, now, MINUTES_SHOWN),
        "outcome": _outcome(found),
        **_fees(found, now),
        **_rights(request),
    }
    return render(request, _template("trading/market.html", "live", request), context)


def _top(row: Market) -> TopOfBook:
    """The touch as last proven; unknown where the feed has not spoken of this market yet."""
    quote: Quote | None = getattr(row, "quote", None)
    return TopOfBook(None, None) if quote is None else quote.top


def _outcome(row: Market) -> str:
    """What the market's result means now: determined is not yet paid, and may be disputed until it is final."""
    if not row.result:
        return ""
    pays = "" if row.settlement_value is None else f", YES pays {dollars_text(row.settlement_value)}"
    if row.status == MarketStatus.FINALIZED:
        return f"settled {row.result.upper()}{pays}"
    if row.status in (MarketStatus.DISPUTED, MarketStatus.AMENDED):
        return f"{row.status}: {row.result.upper()}{pays} if it stands; nothing is paid yet"
    wait = span(timedelta(seconds=row.settlement_seconds))
    return f"determined {row.result.upper()}{pays} once it is final, {wait} after the determination"


def _fees(row: Market, now: datetime) -> dict[str, Any]:
    """The fees in force, the next announced change, and a waiver that still runs."""
    book = FeeBook.of_markets([row])
    fees = book.of_market(row, now)
    waiver = row.fee_waiver_until
    return {
        "fees": None if fees.fee_type is FeeType.FLAT else fees,
        "fee_next": book.next(row.series_ticker, row.event_ticker, now),
        "waiver": waiver if waiver and waiver > now else None,
    }


def _ladder(levels: dict[str, list[list[str]]]) -> list[dict[str, Any]]:
    """Bids and asks side by side, best first, with running sums and the share of the deepest sum for the bars."""
    sides = {name: _summed(levels.get(name, [])) for name in ("bids", "asks")}
    deepest = max((row["sum"] for rows in sides.values() for row in rows), default=Decimal(1)) or Decimal(1)
    for rows in sides.values():
        for row in rows:
            row["share"] = f"{row['sum'] / deepest * 100:.1f}"
            row["rest"] = f"{100 - row['sum'] / deepest * 100:.1f}"
    depth = max(len(sides["bids"]), len(sides["asks"]))

    def at(name: str, n: int) -> dict[str, Any] | None:
        return sides[name][n] if n < len(sides[name]) else None

    return [{"bid": at("bids", n), "ask": at("asks", n)} for n in range(depth)]


def _summed(levels: list[list[str]]) -> list[dict[str, Any]]:
    total, rows = Decimal(0), []
    for price, count in levels[:LEVELS_SHOWN]:
        total += Decimal(count)
        rows.append({"price": Decimal(price), "count": Decimal(count), "sum": total})
    return rows


@require_GET
def orders(request: HttpRequest) -> HttpResponse:
    """Orders by state, newest first."""
    tab = request.GET.get("tab", "working")
    tab = tab if tab in TABS else "all"
    mine = Order.objects.filter(venue=settings.KALSHI_PROFILE)
    counts = mine.aggregate(
        **{name: Count("id", filter=Q(state__in=states)) for name, (_, states) in TABS.items()},
        all=Count("id"),
    )
    rows = mine if tab == "all" else mine.filter(state__in=TABS[tab][1])
    context = {
        "tab": tab,
        "tabs": [(name, words, counts[name]) for name, (words, _) in TABS.items()]
        + [("all", "All", counts["all"])],
        "orders": list(rows.select_related("proposal").order_by("-id")[:SHOWN]),
        "found": counts[tab],
        "working": counts["working"],
        "path": request.get_full_path(),
        **_rights(request),
    }
    return render(request, _template("trading/orders.html", "list", request), context)


@require_GET
def order(request: HttpRequest, public_id: str) -> HttpResponse:
    """One order with its time line and fills."""
    found = get_object_or_404(Order.objects.select_related("proposal"), public_id=public_id)
    context = {
        "order": found,
        "events": list(found.events.all()),
        "fills": list(found.fills.order_by("at", "id")),
        **_rights(request),
    }
    return render(request, _template("trading/order.html", "live", request), context)


@require_POST
@permission_required("trading.cancel_order", raise_exception=True)
def cancel(request: HttpRequest, public_id: str) -> HttpResponse:
    """Ask execution to cancel one order. Never gated."""
    found = get_object_or_404(Order, public_id=public_id)
    try:
        request_cancel(order=found, actor=request.user.get_username(), reason="canceled on the page")
    except NotCancelable as refusal:
        messages.warning(request, f"E212 {str(refusal).capitalize()}.", extra_tags="care")
    else:
        wake()
        messages.success(request, f"Cancel asked for: {found}.")
    return redirect("orders")


@require_POST
@permission_required("trading.cancel_order", raise_exception=True)
def decrease(request: HttpRequest, public_id: str) -> HttpResponse:
    """Ask execution to leave fewer contracts resting."""
    found = get_object_or_404(Order, public_id=public_id)
    try:
        remaining = Decimal(request.POST.get("remaining", ""))
        request_decrease(order=found, actor=request.user.get_username(), remaining=remaining)
    except InvalidOperation:
        messages.warning(request, "E011 Say how many contracts shall rest.", extra_tags="care")
    except NotDecreasable as refusal:
        messages.warning(request, f"{refusal.code} {str(refusal).capitalize()}.", extra_tags="care")
    else:
        wake()
        messages.success(request, f"Decrease to {count_text(remaining)} asked for: {found}.")
    return redirect("order", public_id)


@require_POST
@permission_required("trading.cancel_order", raise_exception=True)
def cancel_all(request: HttpRequest) -> HttpResponse:
    """Ask execution to cancel every working order."""
    asked = request_cancel_all(
        venue=settings.KALSHI_PROFILE, actor=request.user.get_username(), reason="all canceled on the page"
    )
    wake()
    messages.success(request, f"Cancel asked for {len(asked)} order{'' if len(asked) == 1 else 's'}.")
    return redirect("orders")


@require_POST
@permission_required("portfolio.close_position", raise_exception=True)
def close(request: HttpRequest, ticker: str) -> HttpResponse:
    """A person's own way out: sell the whole holding at once, a little below the best bid at worst."""
    try:
        proposal = close_position(
            venue=settings.KALSHI_PROFILE, ticker=ticker, actor=request.user.get_username()
        )
    except CANNOT_CLOSE as refusal:
        messages.warning(request, f"{refusal.code} {refusal}.", extra_tags="care")
        return redirect("positions")
    wake()
    sold = f"{count_text(proposal.quantity)} {proposal.side.upper()}"
    messages.success(request, f"Closing {sold} {ticker}: the order goes out now.")
    return redirect("positions")


@require_POST
@permission_required("approvals.decide_proposal", raise_exception=True)
def propose_again(request: HttpRequest, public_id: str) -> HttpResponse:
    """Put a proposal before people once more, of which nothing was ever at the exchange."""
    found = get_object_or_404(Proposal, venue=settings.KALSHI_PROFILE, public_id=public_id)
    try:
        made = repeats.propose_again(proposal=found, actor=request.user.get_username())
    except CANNOT_REPEAT as refusal:
        messages.warning(request, f"{refusal.code} {refusal}.", extra_tags="care")
        return redirect("proposal", public_id)
    messages.success(request, "Proposed again. Nothing is sent until somebody approves it.")
    return redirect("proposal", made.public_id)


def _rights(request: HttpRequest) -> dict[str, Any]:
    return {
        "may_cancel": request.user.has_perm("trading.cancel_order"),
        "may_close": request.user.has_perm("portfolio.close_position"),
    }
