"""The verdict "this order never reached the exchange": what it needs, and the watch that is kept on it afterwards.

Reads lag writes, and an order that has filled is gone from the open list: one miss proves nothing (RELIABILITY.md A4).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Q
from django.utils import timezone

from kalshi_site import audit
from portfolio import ledger
from portfolio.models import Position
from trading.domain.hours import ExchangeFacts, Standing
from trading.domain.orders import OrderState
from trading.exchange.gateway import AccountGateway, MarketDataGateway
from trading.exchange.reports import ExchangeState
from trading.execution import lifecycle
from trading.execution.bookings import MARGIN
from trading.execution.changes import WATCHED_FOR
from trading.execution.checkpoints import reached
from trading.execution.comparison import Reconciled
from trading.execution.records import Records
from trading.models import Order

WATCH_EVERY: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What must hold before an order that is not found is called absent (RELIABILITY.md 3.1, step 5)."""

    latest_arrival: timedelta = timedelta(
        seconds=90
    )  # after its signed time a request can no longer be accepted
    scan_gap: timedelta = timedelta(seconds=10)
    scans: int = 2


def judge(order: Order, account: AccountGateway, market_data: MarketDataGateway, rule: Evidence) -> bool:
    """Count one complete search without a find; True once all the evidence is in and the verdict is written.

    The exchange trades in the order's shard, its reads are newer than the last moment at which the order could have
    arrived, enough searches found nothing, and the market's position and the account's cash are those of our books.
    Otherwise it stays unknown.
    """
    now = timezone.now()
    assert order.signed_at is not None
    settled_from = order.signed_at + rule.latest_arrival
    if now < settled_from or not _is_normal(market_data.exchange_state(), order.exchange_index, now):
        return False
    reads_as_of = market_data.user_data_as_of()
    if reads_as_of <= settled_from or _scanned_since(order, now - rule.scan_gap):
        return False
    scans = order.scans + 1
    Order.objects.filter(pk=order.pk).update(scans=scans, last_scan_at=now)
    if scans < rule.scans:
        return False
    agreed = _agreed(order, account)
    if not agreed:
        return False
    reached("judging_absent")
    _write(
        order,
        f"{scans} complete searches after {settled_from:%H:%M:%S}, reads as of {reads_as_of:%H:%M:%S}, {agreed}",
    )
    return True


def _is_normal(told: ExchangeState, exchange_index: int, now: datetime) -> bool:
    """Whether it trades, as a whole and in this shard: what it has paused it may also list late."""
    facts = ExchangeFacts(told.is_active, told.is_trading, now, shards=told.shards)
    return facts.standing(now, exchange_index) is Standing.TRADING


def _scanned_since(order: Order, at: datetime) -> bool:
    return order.last_scan_at is not None and order.last_scan_at > at


def _agreed(order: Order, account: AccountGateway) -> str:
    """Position and cash, where the exchange's are those of our books; "" where either differs."""
    theirs = sum((each.quantity for each in account.positions(ticker=order.ticker)), Decimal(0))
    held = Position.objects.filter(venue=order.venue, ticker=order.ticker).first()
    if theirs != (held.quantity if held else Decimal(0)):
        return ""
    cash = account.balance().cash
    return f"position {theirs} and cash ${cash} agree" if cash == ledger.cash(order.venue) else ""


def _write(order: Order, evidence: str) -> None:
    lifecycle.advance(order, OrderState.ABSENT, evidence=evidence, actor="reconcile")
    audit.record(
        actor="reconcile",
        actor_kind="system",
        verb="order.absent",
        object_type="order",
        object_id=order.public_id,
        reason=evidence,
    )


def watch(venue: str, records: Records, found: Reconciled) -> None:
    """Look once a minute, for a day, whether an order that was judged absent has appeared, however it ended there.

    The day begins with the verdict, the last change of its row. One that appears is taken back with the highest alarm,
    and its rest is canceled (`changes.called_back`).
    """
    now = timezone.now()
    absent = Order.objects.filter(venue=venue, state=OrderState.ABSENT, updated_at__gt=now - WATCHED_FOR)
    due = absent.filter(Q(last_scan_at=None) | Q(last_scan_at__lt=now - WATCH_EVERY)).select_related(
        "proposal"
    )
    watched = {order.client_order_id: order for order in due}
    first = min((order.signed_at for order in watched.values() if order.signed_at), default=None)
    if first is None:
        return
    for report in records.orders(since=first - MARGIN):
        if order := watched.get(report.client_order_id):
            with found.apart(f"order {order.public_id}"):
                lifecycle.record_report(order, report)
    Order.objects.filter(pk__in=[order.pk for order in watched.values()]).update(last_scan_at=now)
