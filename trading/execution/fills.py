"""Our executions: each is booked once, in one transaction with the position, the cash and its order's totals."""

from __future__ import annotations

import logging
from collections.abc import Collection

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from kalshi_site import audit
from kalshi_site.identity import new_id
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio import ledger, risk
from trading.domain.orders import (
    OPEN,
    ORDER_TRANSITIONS,
    BookSide,
    OrderState,
    newest,
    plain_words,
)
from trading.domain.prices import MONEY_STEP
from trading.exchange.reports import FillReport
from trading.execution.changes import (
    TRIES,
    WATCHED_FOR,
    ZERO,
    called_back,
    release_when_over,
    remember,
    reserve_as_told,
    reserved_as,
)
from trading.execution.checkpoints import reached
from trading.models import Fill, Market, Order

log = logging.getLogger(__name__)


def record_fill(venue: str, report: FillReport) -> Fill | None:
    """Book one execution, once: fill row, position, cash, the order's totals, in one transaction.

    None when it is booked already, or when an order of ours in this market still waits for its answer, or was judged
    absent, and the fill may be its own: the next reconcile brings it again.
    """
    order = _order_of(venue, report)
    if order is None and _may_be_ours(venue, report):
        return None
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                fill = _book(venue, report, order)
            reached("booked")
            return fill
        except IntegrityError:
            if _is_booked(venue, report):
                return None
            raise
        except StaleVersion:
            order = _order_of(venue, report)
    raise StaleVersion(order or Order(), 0, order)


def _book(venue: str, report: FillReport, order: Order | None) -> Fill | None:
    if _is_booked(venue, report):
        return None
    at = report.at or timezone.now()
    side, action = (order.side, order.action) if order else plain_words(report.book_side)
    fill = Fill.objects.create(
        public_id=new_id("fil"),
        venue=venue,
        order=order,
        trade_id=report.trade_id,
        venue_order_id=report.order_id,
        ticker=report.ticker,
        action=action,
        side=side,
        book_side=report.book_side.value,
        quantity=report.quantity,
        yes_price=report.price,
        fee=report.fee,
        is_taker=report.is_taker,
        at=at,
    )
    reached("booking")
    if order is not None:
        _add_to_order(order, fill)
    market = Market.objects.filter(ticker=report.ticker).first()
    ledger.book_fill(
        venue=venue,
        ticker=report.ticker,
        event_ticker=order.event_ticker if order else market.event_ticker if market else report.ticker,
        title=order.title if order else market.title if market else "",
        book_side=report.book_side,
        count=report.quantity,
        yes_price=report.price,
        fee=report.fee,
        reference=f"{report.trade_id}:{report.order_id}",
        at=at,
    )
    audit.record(
        actor="exchange",
        actor_kind="system",
        verb="order.fill",
        object_type="fill",
        object_id=fill.public_id,
        order=order.public_id if order else "",
        quantity=str(report.quantity),
        yes_price=str(report.price),
        fee=str(report.fee),
    )
    return fill


def _add_to_order(order: Order, fill: Fill) -> None:
    fills = list(order.fills.all())
    booked = sum((f.quantity for f in fills), ZERO)
    paid = sum((f.quantity * f.price for f in fills), ZERO)
    filled = max(order.filled_quantity, booked)
    # What was taken off may have been given back, or more put there: only its own word ends such an order sooner.
    state = _after_fill(OrderState(order.state), whole=filled >= max(order.quantity, order.total_quantity))
    closed = state not in OPEN
    fresh = compare_and_set(
        order,
        state=state.value,
        venue_order_id=fill.venue_order_id,
        filled_quantity=filled,
        remaining_quantity=ZERO if closed else max(order.total_quantity - filled, ZERO),
        average_price=(paid / booked).quantize(MONEY_STEP),
        fees=sum((f.fee for f in fills), ZERO),
        evidence=f"fill {fill.trade_id}",
        **called_back(order, state),
    )
    remember(fresh, order.state, "exchange", f"fill of {fill.quantity} at {fill.price}")
    reserve_as_told(order, fresh)  # more filled than was known to stand: it had been given back
    risk.consume(key=reserved_as(fresh), book_side=BookSide(fill.book_side), count=fill.quantity)
    release_when_over(fresh)


def _after_fill(known: OrderState, *, whole: bool) -> OrderState:
    """A fill is proof, whatever we believed. Where the table has no such move the belief was wrong: say so."""
    told = OrderState.FILLED if whole else OrderState.PARTIALLY_FILLED
    state = newest(known, told)
    if state is known or state in ORDER_TRANSITIONS[known]:
        return state
    log.error("order.fill.contradicts_state", extra={"state": known.value})
    return known


def booked_of(venue: str, reports: Collection[FillReport]) -> set[tuple[str, str]]:
    """Which of these executions are booked, as (trade id, order id), in one question."""
    told = Fill.objects.filter(venue=venue, trade_id__in={report.trade_id for report in reports})
    return set(told.values_list("trade_id", "venue_order_id")) if reports else set()


def is_explained(venue: str, report: FillReport) -> bool:
    """Whether the order of an execution has a row, so that nobody need ask the exchange whose it is."""
    return _order_of(venue, report) is not None


def _order_of(venue: str, report: FillReport) -> Order | None:
    named = Q(venue_order_id=report.order_id)
    if report.client_order_id:
        # Beside another id of the exchange's the same client id is another order's: it was used again.
        named |= Q(client_order_id=report.client_order_id, venue_order_id=None)
    return Order.objects.filter(named, venue=venue).select_related("proposal").first()


def _may_be_ours(venue: str, report: FillReport) -> bool:
    if report.client_order_id:
        return False  # our rows are older than our orders' first byte
    here = Order.objects.filter(venue=venue, ticker=report.ticker)
    # One that was judged absent may appear by its fill, before any word of the order itself.
    watched = Q(state=OrderState.ABSENT, updated_at__gt=timezone.now() - WATCHED_FOR)
    return here.filter(Q(state__in=(OrderState.SENDING, OrderState.UNKNOWN)) | watched).exists()


def _is_booked(venue: str, report: FillReport) -> bool:
    return Fill.objects.filter(venue=venue, trade_id=report.trade_id, venue_order_id=report.order_id).exists()
