"""Orders that stand on the exchange without a row of ours: strangers get one, and our own lost ones are taken back."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from kalshi_site.identity import new_id
from kalshi_site.prepared import insert, prepared
from kalshi_site.versioning import compare_and_set
from portfolio import risk
from trading.domain.orders import OrderState, Side, TimeInForce, plain_words
from trading.domain.prices import complement
from trading.exchange.reports import OrderReport
from trading.execution import work_items
from trading.execution.changes import ZERO, remember, retried
from trading.execution.checkpoints import reached
from trading.execution.claims import mark_of
from trading.execution.lifecycle import record_report
from trading.models import Market, Order, WorkKind

log = logging.getLogger(__name__)

EXTERNAL: Final = "external"  # placed elsewhere: by hand, or by another program
ORPHAN: Final = "orphan"  # it carries our mark, and no approval of this database sent it


def adopt(venue: str, report: OrderReport) -> Order | None:
    """Give an order that the exchange knows and we do not a row, labelled by where it came from, and count its risk.

    One that carries the id of an order of ours is no stranger: judged absent, it is taken back and canceled. One that
    carries our mark alone is an orphan: people are told, and trading is paused. An id that a row has which the exchange
    calls otherwise was used again: that is another order, and gets a name of its own.
    """
    known = Order.of_client_id(venue, report.client_order_id) if report.client_order_id else None
    if known is not None and known.may_be(report.order_id):
        return _taken_back(known, report)
    name = f"external-{report.order_id}" if known or not report.client_order_id else report.client_order_id
    origin = ORPHAN if report.client_order_id.startswith(mark_of(venue)) else EXTERNAL
    try:
        with transaction.atomic():
            if origin == ORPHAN:
                risk.trading_state(venue, lock=True)  # before the topics' numbers, as a claim does
            order = _insert(venue, report, origin, name)
            if origin == ORPHAN:
                work_items.report(venue, _orphaned(order, report))
            remember(order, "", "exchange", "found on the exchange")
            if order.is_open:
                risk.reserve_foreign(
                    venue=venue, key=order.public_id, terms=order.terms, event_ticker=order.event_ticker
                )
            reached("adopting")
            return order
    except IntegrityError:
        return None


@prepared
def _named(ticker: str) -> QuerySet[Market, tuple[str, str]]:
    return Market.objects.filter(ticker=ticker).values_list("event_ticker", "title")


def _insert(venue: str, report: OrderReport, origin: str, client_order_id: str) -> Order:
    event_ticker, title = _named.first(report.ticker) or (report.ticker, "")
    side, action = plain_words(report.book_side)
    found = Order(
        public_id=new_id("ord"),
        origin=origin,
        venue=venue,
        client_order_id=client_order_id,
        venue_order_id=report.order_id,
        state=report.state.value,
        evidence="found on the exchange",
        ticker=report.ticker,
        event_ticker=event_ticker,
        title=title,
        exchange_index=report.exchange_index,
        subaccount=report.subaccount or 0,
        action=action,
        side=side,
        quantity=report.initial_quantity,
        limit_price=_own_price(report.price, Side(side)),
        time_in_force=TimeInForce.GTC.value,
        expires_at=report.expires_at,
        filled_quantity=report.filled_quantity,
        remaining_quantity=report.remaining_quantity,
        acknowledged_at=report.created_at or timezone.now(),
        attempts=0,
    )
    return insert(found)


def followed(order: Order, report: OrderReport) -> Order:
    """The row of an order that nobody here approved, with the terms that it has been given elsewhere since.

    What it may cost is reserved anew. An order of ours is never followed: its terms are what was approved.
    """
    if order.proposal_id is not None or _has_terms_of(order, report):
        return order

    def write(current: Order) -> Order:
        if _has_terms_of(current, report):
            return current
        fresh = compare_and_set(
            current,
            quantity=report.initial_quantity,
            limit_price=_own_price(report.price, Side(current.side)),
            expires_at=report.expires_at,
        )
        booked = fresh.fills.aggregate(total=Sum("quantity"))["total"] or ZERO
        risk.reserve_foreign_anew(key=fresh.public_id, terms=fresh.terms, booked=booked)
        remember(fresh, current.state, "exchange", "changed on the exchange")
        return fresh

    return retried(order, write)


def _has_terms_of(order: Order, report: OrderReport) -> bool:
    told = (report.initial_quantity, _own_price(report.price, Side(order.side)), report.expires_at)
    return told == (order.quantity, order.limit_price, order.expires_at)


def _own_price(yes_price: Decimal, side: Side) -> Decimal:
    return yes_price if side is Side.YES else complement(yes_price)


def _orphaned(order: Order, report: OrderReport) -> work_items.Difference:
    return work_items.Difference(
        WorkKind.ORPHAN_ORDER,
        order.venue_order_id or "",
        theirs=order.state,
        detail=f"client order id {report.client_order_id}",
        ticker=order.ticker,
        order=order.public_id,
    )


def _taken_back(order: Order, report: OrderReport) -> Order | None:
    if order.state == OrderState.ABSENT:
        return record_report(order, report)
    if not order.is_open:
        log.error("order.closed.appeared", extra={"order": order.public_id, "state": order.state})
    return None  # an open one is still being sent or looked for; of one that is over people are told
