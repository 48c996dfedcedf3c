"""Orders that stand on the exchange without a row of ours: strangers get one, and our own lost ones are taken back."""

from __future__ import annotations

import logging

from django.db import IntegrityError, transaction

from kalshi_site.identity import new_id
from portfolio import risk
from trading.domain.orders import OrderState, Side, TimeInForce, plain_words
from trading.domain.prices import complement
from trading.exchange.reports import OrderReport
from trading.execution.changes import remember
from trading.execution.lifecycle import record_report
from trading.models import Market, Order

log = logging.getLogger(__name__)

EXTERNAL = "external"


def adopt(venue: str, report: OrderReport) -> Order | None:
    """Give an order that stands on the exchange without a row of ours a row, labelled external.

    One that carries the id of an order of ours is no stranger: judged absent, it is taken back and canceled.
    """
    ours = Order.objects.filter(venue=venue, client_order_id=report.client_order_id or None)
    if known := ours.select_related("proposal").first():
        return _taken_back(known, report)
    market = Market.objects.filter(ticker=report.ticker).first()
    side, action = plain_words(report.book_side)
    price = report.price if side == Side.YES else complement(report.price)
    try:
        with transaction.atomic():
            order = Order.objects.create(
                public_id=new_id("ord"),
                origin=EXTERNAL,
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
            remember(order, "", "exchange", "found on the exchange")
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
