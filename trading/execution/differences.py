"""What still differs once everything that the exchange told is booked: positions, cash, orders without an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db.models import F, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from kalshi_site.models.fields import CountField
from portfolio import ledger
from portfolio.models import Position
from trading.domain.orders import CLOSED, OrderState
from trading.exchange.reports import BalanceReport, OrderReport, PositionReport
from trading.execution.adoption import EXTERNAL
from trading.execution.changes import ELSEWHERE
from trading.execution.comparison import Reconciled
from trading.execution.lifecycle import is_reduced_elsewhere
from trading.models import Order, WorkKind

ALARM_AFTER: Final = timedelta(seconds=30)  # an order without an answer
URGENT_AFTER: Final = timedelta(minutes=5)
FILL_LAG: Final = timedelta(seconds=60)  # a fill that an order's count includes is listed until then
ZERO: Final = Decimal(0)


def of_positions(venue: str, told: Sequence[PositionReport], found: Reconciled) -> None:
    """Positions, market by market. One that the exchange does not list is zero there: its list is complete."""
    theirs = {report.ticker: report for report in told}
    ours = dict(Position.objects.held(venue).values_list("ticker", "quantity"))
    for ticker in sorted(theirs.keys() | ours.keys()):
        report = theirs.get(ticker)
        their, our = (report.quantity if report else ZERO), ours.get(ticker, ZERO)
        if their != our:
            found.position_drift[ticker] = f"exchange {their}, ours {our}"
            found.add(
                WorkKind.POSITION_DRIFT,
                ticker,
                theirs=_plain(their),
                ours=_plain(our),
                ticker=ticker,
                their_cost=report.exposure if report else ZERO,
            )
    found.compared["positions"] += len(theirs.keys() | ours.keys())


def of_cash(venue: str, told: BalanceReport, found: Reconciled) -> None:
    """Cash, to the last digit."""
    ours = ledger.cash(venue)
    found.drift = told.cash - ours
    found.compared["cash"] += 1
    if found.drift:
        found.add(WorkKind.CASH_DRIFT, "cash", theirs=_plain(told.cash), ours=_plain(ours))


def of_orders(venue: str, found: Reconciled) -> None:
    """Orders whose outcome has been unknown for too long, and those whose fills were counted but never told."""
    now = timezone.now()
    unknown = Order.objects.filter(
        venue=venue, state=OrderState.UNKNOWN, signed_at__lt=now - ALARM_AFTER
    ).values_list("public_id", "ticker", "signed_at", "evidence")
    for public_id, ticker, signed_at, evidence in unknown:
        found.add(
            WorkKind.UNKNOWN_ORDER,
            public_id,
            detail=evidence,
            ticker=ticker,
            order=public_id,
            is_urgent=signed_at is not None and signed_at < now - URGENT_AFTER,
        )
    for public_id, ticker, told, booked in _underbooked(venue):
        found.add(
            WorkKind.MISSING_FILL,
            public_id,
            theirs=_plain(told),
            ours=_plain(booked),
            ticker=ticker,
            order=public_id,
        )


def of_terms(ours: Sequence[Order], on_book: Mapping[str, OrderReport], found: Reconciled) -> None:
    """Orders of ours that rest at another price or for another quantity than was approved."""
    for order in ours:
        report = on_book.get(order.venue_order_id or "")
        if report is None or order.proposal_id is None:
            continue
        if theirs := _changed_to(order, report):
            found.add(
                WorkKind.CHANGED_ELSEWHERE,
                order.public_id,
                theirs=_told(*theirs),
                ours=_told(order.quantity, order.terms.yes_price),
                ticker=order.ticker,
                order=order.public_id,
            )


def _changed_to(order: Order, report: OrderReport) -> tuple[Decimal, Decimal] | None:
    """Quantity and price that somebody else gave an order of ours; None when it stands as we left it."""
    total = report.filled_quantity + report.remaining_quantity
    if order.decrease_requested_by == ELSEWHERE or is_reduced_elsewhere(order, report):
        return total, report.price
    # A decrease of ours leaves the first count as it was; each renewal after one names the total of then.
    is_ours = order.standing_quantity <= report.initial_quantity <= order.quantity
    is_as_left = is_ours and total <= order.standing_quantity and report.price == order.terms.yes_price
    return None if is_as_left else (report.initial_quantity, report.price)


def _told(quantity: Decimal, yes_price: Decimal) -> str:
    return f"{quantity:.2f} at {yes_price:.4f} YES"


def of_ended(venue: str, on_book: dict[str, OrderReport], found: Reconciled) -> None:
    """Orders that the exchange lists as resting and that are over in our records."""
    over = Order.objects.filter(venue=venue, venue_order_id__in=on_book, state__in=CLOSED)
    for public_id, state, ticker in over.values_list("public_id", "state", "ticker"):
        found.add(
            WorkKind.ENDED_ORDER_RESTS,
            public_id,
            theirs="resting",
            ours=state,
            ticker=ticker,
            order=public_id,
        )


def of_unplaced(venue: str, strangers: Sequence[OrderReport], found: Reconciled) -> None:
    """Orders that rest under the id of one of ours which, by our records, never came to rest: they are wrong."""
    named = {report.client_order_id: report for report in strangers if report.client_order_id}
    if not named:
        return
    over = Order.objects.filter(venue=venue, venue_order_id=None, client_order_id__in=named, state__in=CLOSED)
    for public_id, client_order_id, state, ticker in over.values_list(
        "public_id", "client_order_id", "state", "ticker"
    ):
        found.add(
            WorkKind.ENDED_ORDER_RESTS,
            public_id,
            theirs="resting",
            ours=state,
            detail=f"the exchange calls it {named[client_order_id].order_id}",
            ticker=ticker,
            order=public_id,
            is_sure=True,
        )


def _plain(number: Decimal) -> str:
    """Without the zeros that only the scale of its column adds."""
    return f"{number.normalize():f}"


def _underbooked(venue: str) -> list[tuple[str, str, Decimal, Decimal]]:
    """Of an order that was placed elsewhere, fills from before our account was opened are never booked."""
    nothing = Value(ZERO, CountField())
    filled = Order.objects.filter(
        venue=venue, filled_quantity__gt=ZERO, updated_at__lt=timezone.now() - FILL_LAG
    ).exclude(origin=EXTERNAL)
    counted = filled.annotate(booked=Coalesce(Sum("fills__quantity"), nothing, output_field=CountField()))
    short = counted.filter(booked__lt=F("filled_quantity"))
    return list(short.values_list("public_id", "ticker", "filled_quantity", "booked"))
