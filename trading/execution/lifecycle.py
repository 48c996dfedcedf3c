"""What happens to an order after its claim. The only place that writes an order's state.

Evidence may come twice, late and out of order: by the create answer, by the stream, by REST. Each verb here can be
repeated safely.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.identity import new_id
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio import ledger, risk
from trading.domain.orders import (
    OPEN,
    ORDER_TRANSITIONS,
    BookSide,
    OrderState,
    Side,
    TimeInForce,
    newest,
    require_move,
    state_from_counts,
)
from trading.domain.prices import MONEY_STEP, complement
from trading.exchange.outcomes import Accepted, NotSent, Refused, SubmitOutcome, Unknown
from trading.exchange.reports import FillReport, OrderReport
from trading.models import Fill, Market, Order, OrderEvent

log = logging.getLogger(__name__)

ZERO = Decimal(0)
_TRIES = 8  # two processes and a stream may write the same order within milliseconds
_EXTERNAL = "external"


class NotCancelable(Exception):
    """There is nothing left to cancel. Carries the state that the order is in."""

    code = "E212"

    def __init__(self, state: str) -> None:
        super().__init__(f"the order is {state.replace('_', ' ')}; there is nothing to cancel")
        self.state = state


def record_outcome(order: Order, outcome: SubmitOutcome) -> Order:
    """Write down what the one send proved (RELIABILITY.md 3.1, step 4). Anything unproven is `unknown`."""
    match outcome:
        case Accepted():
            return _accepted(order, outcome)
        case Refused():
            return advance(
                order,
                OrderState.REJECTED,
                evidence=f"HTTP {outcome.status}: {outcome.message}",
                code=outcome.exchange_code,
                remaining_quantity=ZERO,
            )
        case NotSent():
            return advance(order, OrderState.NOT_SENT, evidence=outcome.reason, remaining_quantity=ZERO)
        case Unknown():
            return mark_unknown(order, outcome.reason, code=outcome.exchange_code)


def _accepted(order: Order, outcome: Accepted) -> Order:
    state = state_from_counts(outcome.filled_quantity, outcome.remaining_quantity)
    if state is OrderState.FILLED and outcome.filled_quantity < order.quantity:
        state = OrderState.CANCELED  # the rest of an immediate-or-cancel order was dropped
    return advance(
        order,
        state,
        evidence=f"201, order id {outcome.order_id}",
        venue_order_id=outcome.order_id,
        acknowledged_at=timezone.now(),
        remaining_quantity=outcome.remaining_quantity,
        at_least_filled=outcome.filled_quantity,
    )


def mark_unknown(order: Order, reason: str, *, code: str = "") -> Order:
    """No proof either way. Exposure stays reserved and `reconcile` asks until there is proof."""
    return advance(order, OrderState.UNKNOWN, evidence=reason, code=code)


def record_report(order: Order, report: OrderReport) -> Order:
    """Take over what the exchange says of an order. A report older than what we know changes nothing."""
    state = report.state
    if state is OrderState.CANCELED and _has_expired(order):
        state = OrderState.EXPIRED
    if report.filled_quantity < order.filled_quantity and state in OPEN:
        return order
    return advance(
        order,
        state,
        evidence=f"exchange: {report.state.value}{f', {report.reason}' if report.reason else ''}",
        venue_order_id=report.order_id,
        acknowledged_at=order.acknowledged_at or timezone.now(),
        remaining_quantity=report.remaining_quantity,
        at_least_filled=report.filled_quantity,
    )


def _has_expired(order: Order) -> bool:
    asked = order.cancel_requested_at is not None
    return not asked and order.expires_at is not None and order.expires_at <= timezone.now()


def advance(
    order: Order,
    state: OrderState,
    *,
    evidence: str,
    actor: str = "exchange",
    at_least_filled: Decimal = ZERO,
    **changes: Any,
) -> Order:
    """Move an order, with history and announcement; when it is over, give back what it reserved.

    Evidence that does not change anything is dropped. A move that the table forbids raises IllegalMove.
    """

    def write(current: Order) -> Order:
        before = OrderState(current.state)
        if state is OrderState.UNKNOWN and before is not OrderState.SENDING:
            return current  # the stream, or a search, was quicker than the answer that never came
        after = newest(before, state)
        filled = max(current.filled_quantity, at_least_filled)
        if after is not state:
            changes.pop("remaining_quantity", None)  # as late as the state that it came with
        news = {key: value for key, value in changes.items() if getattr(current, key) != value}
        if before is after and filled == current.filled_quantity and not news:
            return current
        if before is not after:
            require_move(before, after)
        news |= _called_back(current, after)
        fresh = compare_and_set(
            current, state=after.value, filled_quantity=filled, evidence=evidence[:300], **news
        )
        _remember(fresh, before.value, actor, evidence)
        _release_when_over(fresh)
        return fresh

    return _retried(order, write)


def _called_back(order: Order, after: OrderState) -> dict[str, Any]:
    """An order judged absent is on the exchange after all: alarm, reserve for it again, and have its rest canceled."""
    if order.state != OrderState.ABSENT or after is OrderState.ABSENT:
        return {}
    log.error("order.absent.appeared", extra={"order": order.public_id, "state": after.value})
    audit.record(
        actor="exchange",
        actor_kind="system",
        verb="order.appeared",
        object_type="order",
        object_id=order.public_id,
    )
    if after not in OPEN:
        return {}
    if order.proposal is not None:
        risk.reserve_again(key=order.proposal.public_id)
    return {"cancel_requested_at": timezone.now(), "cancel_requested_by": "execution"}


def record_fill(venue: str, report: FillReport) -> Fill | None:
    """Book one execution, once: fill row, position, cash, the order's totals, in one transaction.

    None when it is booked already, or when an order of ours in this market still waits for its answer and the fill may
    be its own: the next reconcile brings it again.
    """
    order = _order_of(venue, report)
    if order is None and _may_be_ours(venue, report):
        return None
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                return _book(venue, report, order)
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
    side, action = (order.side, order.action) if order else _naming(report.book_side)
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
    state = _after_fill(OrderState(order.state), whole=filled >= order.quantity)
    closed = state not in OPEN
    fresh = compare_and_set(
        order,
        state=state.value,
        venue_order_id=fill.venue_order_id,
        filled_quantity=filled,
        remaining_quantity=ZERO if closed else order.quantity - filled,
        average_price=(paid / booked).quantize(MONEY_STEP),
        fees=sum((f.fee for f in fills), ZERO),
        evidence=f"fill {fill.trade_id}",
        **_called_back(order, state),
    )
    _remember(fresh, order.state, "exchange", f"fill of {fill.quantity} at {fill.price}")
    risk.consume(key=_reserved_as(fresh), book_side=BookSide(fill.book_side), count=fill.quantity)
    _release_when_over(fresh)


def _after_fill(known: OrderState, *, whole: bool) -> OrderState:
    """A fill is proof, whatever we believed. Where the table has no such move the belief was wrong: say so."""
    told = OrderState.FILLED if whole else OrderState.PARTIALLY_FILLED
    state = newest(known, told)
    if state is known or state in ORDER_TRANSITIONS[known]:
        return state
    log.error("order.fill.contradicts_state", extra={"state": known.value})
    return known


def _release_when_over(order: Order) -> None:
    """Give the reservation back once the order is over and all that filled is in the books."""
    if order.is_open:
        return
    booked = order.fills.aggregate(total=Sum("quantity"))["total"] or ZERO
    # Of an order found, earlier fills may be booked as nobody's: they will not come again.
    if order.proposal is None or booked >= order.filled_quantity:
        risk.release(key=_reserved_as(order))


def _reserved_as(order: Order) -> str:
    return order.public_id if order.proposal is None else order.proposal.public_id


def request_cancel(*, order: Order, actor: str, reason: str = "") -> Order:
    """Ask execution to cancel. Never gated. Raises NotCancelable once the order is over."""

    def write(current: Order) -> Order:
        if not current.is_open:
            raise NotCancelable(current.state)
        if current.cancel_requested_at is not None:
            return current
        fresh = compare_and_set(current, cancel_requested_at=timezone.now(), cancel_requested_by=actor)
        _remember(fresh, current.state, actor, reason or "cancel requested")
        audit.record(
            actor=actor,
            verb="order.cancel_requested",
            object_type="order",
            object_id=fresh.public_id,
            reason=reason,
        )
        return fresh

    return _retried(order, write)


def request_cancel_all(*, venue: str, actor: str, reason: str = "") -> list[Order]:
    """Ask execution to cancel every open order of the venue. Orders that end meanwhile are left out."""
    wanted = Order.objects.open().filter(venue=venue, cancel_requested_at=None)
    return _request_cancels(wanted, actor, reason)


def request_cancel_stopped(*, venue: str, kill_epoch: int) -> list[Order]:
    """Ask execution to cancel what was claimed before the last stop: trading may have been resumed in between."""
    wanted = Order.objects.open().filter(
        venue=venue, cancel_requested_at=None, proposal__isnull=False, kill_epoch__lt=kill_epoch
    )
    return _request_cancels(wanted, "execution", "trading was stopped")


@transaction.atomic
def _request_cancels(wanted: QuerySet[Order], actor: str, reason: str) -> list[Order]:
    # All rows are locked before the topic's number is: a fill takes them in this order, the other would deadlock.
    orders = list(wanted.select_for_update().order_by("pk"))
    return [request_cancel(order=order, actor=actor, reason=reason) for order in orders]


def adopt(venue: str, report: OrderReport) -> Order | None:
    """Give an order that stands on the exchange without a row of ours a row, labelled external.

    One that carries the id of an order of ours is no stranger: judged absent, it is taken back and canceled.
    """
    ours = Order.objects.filter(venue=venue, client_order_id=report.client_order_id or None)
    if known := ours.select_related("proposal").first():
        return _taken_back(known, report)
    market = Market.objects.filter(ticker=report.ticker).first()
    side, action = _naming(report.book_side)
    price = report.price if side == Side.YES else complement(report.price)
    try:
        with transaction.atomic():
            order = Order.objects.create(
                public_id=new_id("ord"),
                origin=_EXTERNAL,
                venue=venue,
                client_order_id=report.client_order_id or f"external-{report.order_id}",
                venue_order_id=report.order_id,
                state=report.state.value,
                evidence="found on the exchange",
                ticker=report.ticker,
                event_ticker=market.event_ticker if market else report.ticker,
                title=market.title if market else "",
                exchange_index=report.exchange_index,
                action=action,
                side=side,
                quantity=report.initial_quantity,
                limit_price=price,
                time_in_force=TimeInForce.GTC.value,
                expires_at=report.expires_at,
                filled_quantity=report.filled_quantity,
                remaining_quantity=report.remaining_quantity,
                attempts=0,
            )
            _remember(order, "", "exchange", "found on the exchange")
            risk.reserve_foreign(
                venue=venue, key=order.public_id, terms=order.terms, event_ticker=order.event_ticker
            )
            return order
    except IntegrityError:
        return None


def _taken_back(order: Order, report: OrderReport) -> Order | None:
    if order.state == OrderState.ABSENT:
        return record_report(order, report)
    if not order.is_open:
        log.error("order.closed.appeared", extra={"order": order.public_id, "state": order.state})
    return None  # an open one is still being sent or looked for


def knows_order(venue: str, report: FillReport) -> bool:
    """Whether a fill's order is known by the exchange's id, so that nobody need ask whose it is."""
    return Order.objects.filter(venue=venue, venue_order_id=report.order_id).exists() or _is_booked(
        venue, report
    )


def _order_of(venue: str, report: FillReport) -> Order | None:
    named = Q(venue_order_id=report.order_id)
    if report.client_order_id:
        named |= Q(client_order_id=report.client_order_id)
    return Order.objects.filter(named, venue=venue).select_related("proposal").first()


def _may_be_ours(venue: str, report: FillReport) -> bool:
    if report.client_order_id:
        return False  # our rows are older than our orders' first byte
    waiting = Order.objects.filter(
        venue=venue, ticker=report.ticker, state__in=(OrderState.SENDING, OrderState.UNKNOWN)
    )
    return waiting.exists()


def _is_booked(venue: str, report: FillReport) -> bool:
    return Fill.objects.filter(venue=venue, trade_id=report.trade_id, venue_order_id=report.order_id).exists()


def _naming(book_side: BookSide) -> tuple[str, str]:
    """How to name a deal that no order of ours explains: a bid buys YES, an ask buys NO."""
    return (Side.YES.value if book_side is BookSide.BID else Side.NO.value), "buy"


def _remember(order: Order, before: str, actor: str, reason: str) -> None:
    OrderEvent.objects.create(
        order=order,
        version=order.version,
        from_state=before,
        to_state=order.state,
        actor=actor,
        reason=reason,
        detail={
            "filled": str(order.filled_quantity),
            "remaining": str(order.remaining_quantity),
            "venue_order_id": order.venue_order_id or "",
        },
    )
    live.changed("orders", key=order.public_id, version=order.version, kind=order.state)


def _retried(order: Order, write: Callable[[Order], Order]) -> Order:
    """Run one guarded change, again on the fresh row when somebody was quicker."""
    current = order
    for attempt in range(_TRIES):
        try:
            with transaction.atomic():
                return write(current)
        except StaleVersion:
            if attempt == _TRIES - 1:
                raise
            current = Order.objects.select_related("proposal").get(pk=order.pk)
    raise AssertionError("unreachable")
