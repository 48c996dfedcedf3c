"""Booking what the exchange's lists tell: executions and settlements, each once, oldest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Min

from portfolio import ledger
from portfolio.models import Position, Reservation
from trading.exchange.gateway import AccountGateway, MarketDataGateway
from trading.exchange.reports import FillReport, OrderReport, SettlementReport
from trading.execution import adoption, fills
from trading.execution.comparison import Reconciled, Unvalued
from trading.execution.records import Records
from trading.models import Cycle, Fill, Order
from trading.models.cycle import COMPLETE, UPDATE

# How far back lists are read again: late rows are harmless, missed ones are not.
MARGIN: Final = timedelta(seconds=60)
SETTLED_MARGIN: Final = timedelta(days=1)
ORDER_AGE: Final = timedelta(days=1)  # an older order that was placed elsewhere is asked for by itself


def book_fills(venue: str, records: Records, found: Reconciled, opened_at: datetime) -> None:
    """Book every execution of the primary account that may not be booked yet."""
    since = max(opened_at, complete_until(venue, opened_at) - MARGIN)
    told = [r for r in records.fills(since=since) if r.is_primary and (r.at is None or r.at >= opened_at)]
    found.compared["fills"] += len(told)
    booked = fills.booked_of(venue, told)
    new = [report for report in told if (report.trade_id, report.order_id) not in booked]
    orders = _orders_of(venue, records, new, since)
    for report in sorted(new, key=lambda each: each.at or since):
        with found.apart(f"fill {report.trade_id}"):
            named = _named(venue, report, orders.get(report.order_id))
            found.fills += fills.record_fill(venue, named) is not None


def _orders_of(
    venue: str, records: Records, new: list[FillReport], since: datetime
) -> dict[str, OrderReport]:
    """The orders of executions by REST that none of our rows explains by the exchange's id."""
    nameless = {report.order_id for report in new if not report.client_order_id}
    known = Order.objects.filter(venue=venue, venue_order_id__in=nameless)
    strange = nameless - set(known.values_list("venue_order_id", flat=True)) if nameless else nameless
    return records.named(strange, since=since - ORDER_AGE) if strange else {}


def complete_until(venue: str, opened_at: datetime) -> datetime:
    """Until when all executions are booked: the last complete comparison, or the oldest order whose own are not.

    Not the newest fill that we know: the stream may have brought it past older ones that nobody has told us of.
    """
    cycles = Cycle.objects.filter(loop=UPDATE, outcome__in=COMPLETE, detail__venue=venue)
    compared = cycles.order_by("-slot").values_list("started_at", flat=True).first() or opened_at
    unfinished = Reservation.objects.standing(venue).values("key")
    orders = Order.objects.filter(venue=venue, proposal__public_id__in=unfinished)
    signed = orders.aggregate(first=Min("signed_at"))["first"]
    return compared if signed is None else min(compared, signed)


def _named(venue: str, report: FillReport, order: OrderReport | None) -> FillReport:
    """With the client's id, which fills by REST lack: it tells whether an order not found yet has filled.

    An order that none of our rows explains was placed elsewhere; it gets its row before its fill is booked.
    """
    if order is None:
        return report
    unnamed = Order.objects.filter(venue=venue, venue_order_id=None)
    if not unnamed.filter(client_order_id=order.client_order_id or None).exists():
        adoption.adopt(venue, order)
    return replace(report, client_order_id=order.client_order_id)


def book_settlements(
    venue: str,
    account: AccountGateway,
    market_data: MarketDataGateway,
    found: Reconciled,
    opened_at: datetime,
) -> None:
    """Pay out settled markets. A scalar market's value is taken from its definition, to the last digit."""
    held = set(Position.objects.held(venue).values_list("ticker", flat=True))
    if not held:
        return
    told = account.settlements(since=_held_since(venue, held, opened_at) - SETTLED_MARGIN)
    found.compared["settlements"] += len(told)
    for report in told:
        if report.ticker in held:
            with found.apart(f"settlement of {report.ticker}", ticker=report.ticker):
                booked = ledger.book_settlement(
                    venue=venue,
                    ticker=report.ticker,
                    yes_value=_yes_value(market_data, report),
                    at=report.settled_at,
                )
                found.settled += booked is not None


def _held_since(venue: str, held: set[str], opened_at: datetime) -> datetime:
    """The first execution in the markets that are held: none of them can have been settled before."""
    ours = Fill.objects.filter(venue=venue, ticker__in=held).order_by()
    first: dict[str, datetime] = dict(ours.values_list("ticker").annotate(Min("at")))
    return min(first.get(ticker, opened_at) for ticker in held)


def _yes_value(market_data: MarketDataGateway, report: SettlementReport) -> Decimal:
    if report.result in ("yes", "no"):
        return Decimal(1 if report.result == "yes" else 0)
    value = market_data.market(report.ticker).settlement_value
    if value is None:
        raise Unvalued(f"{report.ticker} is settled as {report.result} without a value")
    return value
