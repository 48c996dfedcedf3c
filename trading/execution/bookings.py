"""Booking what the exchange's lists tell: executions and settlements, each once, oldest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Max, Min, Q
from django.utils import timezone

from portfolio import ledger, risk
from portfolio.models import Position, Reservation
from trading.exchange.gateway import AccountGateway, MarketDataGateway
from trading.exchange.reports import FillReport, OrderReport, SettlementReport
from trading.execution import adoption, fills, work_items
from trading.execution.comparison import Reconciled, Unvalued
from trading.execution.records import Records
from trading.models import Cycle, Fill, Order, WorkKind
from trading.models.cycle import COMPLETE, UPDATE

# How far back lists are read again: late rows are harmless, missed ones are not.
MARGIN: Final = timedelta(seconds=60)
# How much later than its fill an order may be shown. A fill that a comparison leaves is then younger than this at its
# start, so within MARGIN the next one lists it again, however much later that comes.
SHOWN_WITHIN: Final = timedelta(seconds=30)
SETTLED_MARGIN: Final = timedelta(days=1)
CLOCK_AHEAD: Final = timedelta(hours=1)  # by so much our clock may be wrong, and no fill is missed
ORDER_AGE: Final = timedelta(days=1)  # an older order that was placed elsewhere is asked for by itself


def book_fills(venue: str, records: Records, found: Reconciled, opened_at: datetime) -> None:
    """Book every execution of the primary account that may not be booked yet.

    One whose order neither a row of ours explains nor the exchange shows yet is left for `SHOWN_WITHIN`: booked as
    nobody's it would hide an orphan, and an order placed elsewhere, for good. After that it is booked, and people are
    told.
    """
    since = max(opened_at, complete_until(venue, opened_at) - MARGIN)
    told = [r for r in records.fills(since=since) if r.is_primary and (r.at is None or r.at >= opened_at)]
    found.compared["fills"] += len(told)
    booked = fills.booked_of(venue, told)
    new = [report for report in told if (report.trade_id, report.order_id) not in booked]
    strange = _strange(venue, new)
    shown = records.named(strange, since=since - ORDER_AGE) if strange else {}
    waits_from = timezone.now() - SHOWN_WITHIN
    for report in sorted(new, key=lambda each: each.at or since):
        with found.apart(f"fill {report.trade_id}"):
            if order := shown.get(report.order_id):
                found.fills += fills.record_fill(venue, _named(venue, report, order)) is not None
            elif report.order_id not in strange:
                found.fills += fills.record_fill(venue, report) is not None
            elif report.at is None or report.at <= waits_from:
                found.fills += _book_as_nobodys(venue, report) is not None


def _strange(venue: str, new: list[FillReport]) -> set[str]:
    """The orders of executions by REST that none of our rows explains by the exchange's id."""
    nameless = {report.order_id for report in new if not report.client_order_id}
    known = Order.objects.filter(venue=venue, venue_order_id__in=nameless)
    return nameless - set(known.values_list("venue_order_id", flat=True)) if nameless else nameless


def _book_as_nobodys(venue: str, report: FillReport) -> Fill | None:
    """Book an execution whose order the exchange should have shown by now, and pause: the order may be an orphan."""
    with transaction.atomic():
        risk.trading_state(venue, lock=True)  # before the topics' numbers, as a claim does
        fill = fills.record_fill(venue, report)
        if fill is not None and fill.order is None:
            work_items.report(venue, _unshown(report))
    return fill


def _unshown(report: FillReport) -> work_items.Difference:
    """By the order's id, as an orphan's own item is: found later it is the same one."""
    return work_items.Difference(
        WorkKind.ORPHAN_ORDER,
        report.order_id,
        theirs=f"filled {report.quantity:.2f} at {report.price:.4f} YES",
        detail=f"fill {report.trade_id} is listed and its order is not shown: it may be ours, or placed elsewhere",
        ticker=report.ticker,
    )


def complete_until(venue: str, opened_at: datetime) -> datetime:
    """Until when all executions are booked: the last complete comparison, or the oldest order whose own are not.

    Not the newest fill that we know: the stream may have brought it past older ones that nobody has told us of. But
    not after it either, for a comparison's time is our clock's, and a fill's the exchange's: while ours is ahead, what
    fills next is older than the comparison before.
    """
    cycles = Cycle.objects.filter(loop=UPDATE, outcome__in=COMPLETE, detail__venue=venue)
    compared = cycles.order_by("-slot").values_list("started_at", flat=True).first() or opened_at
    # By the time alone: an index on the venue would read all that ever filled.
    known = Fill.objects.filter(at__gt=compared - CLOCK_AHEAD)
    newest = known.aggregate(last=Max("at", filter=Q(venue=venue)))["last"] or compared - CLOCK_AHEAD
    unfinished = Reservation.objects.standing(venue).values("key")
    orders = Order.objects.filter(venue=venue, proposal__public_id__in=unfinished)
    signed = orders.aggregate(first=Min("signed_at"))["first"]
    return min(compared, newest, signed or compared)


def _named(venue: str, report: FillReport, order: OrderReport) -> FillReport:
    """With the client's id, which fills by REST lack: it tells whether an order not found yet has filled.

    An order that none of our rows explains was placed elsewhere; it gets its row before its fill is booked.
    """
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
