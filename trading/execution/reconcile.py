"""Comparing our rows with the exchange, and resolving what is unknown by asking. Never resends anything.

Reads lag writes (API.md 8), so "not in the list" proves nothing by itself: see `absence`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from kalshi_site import live
from portfolio import ledger
from portfolio.models import CashEntry, Position, PositionEvent
from trading.domain.orders import OrderState
from trading.exchange.gateway import AccountGateway, HistoryGateway, MarketDataGateway
from trading.exchange.reports import OrderReport, PositionReport
from trading.execution import absence, adoption, bookings, differences, lifecycle, work_items
from trading.execution.absence import Evidence
from trading.execution.bookings import MARGIN
from trading.execution.checkpoints import reached
from trading.execution.comparison import Reconciled
from trading.execution.records import Records
from trading.models import Market, Order

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Comparison for one venue. `account` reads with a key of scope read."""

    venue: str
    account: AccountGateway
    market_data: MarketDataGateway
    evidence: Evidence = field(default_factory=Evidence)
    history: HistoryGateway | None = None

    @property
    def records(self) -> Records:
        """Orders and fills, the archived ones included."""
        return Records(self.account, self.history)

    def run(self) -> Reconciled:
        """One full comparison: open the account once, then orders, fills, settlements, positions and cash.

        What it could not set right becomes work for people. Raises ExchangeError when anything could not be read
        whole: what was booked until then stands, and no item is opened or ended.
        """
        # Asked before anything is read, so that every read is at least as new.
        as_of = self.market_data.user_data_as_of() if work_items.awaits_second_look(self.venue) else None
        opened_at = self.open_account()
        found = Reconciled()
        self.orders(found)
        self.fills(found, opened_at)
        self.settlements(found, opened_at)
        self.compare(found)
        differences.of_orders(self.venue, found)
        work_items.take_in(self.venue, found.differences, reads_as_of=as_of)
        return found

    def open_account(self) -> datetime:
        """Take over balance and positions of an account that we see for the first time. Returns when that was."""
        entry = CashEntry.objects.filter(venue=self.venue, kind=CashEntry.Kind.OPENING).first()
        if entry is not None:
            return entry.at
        now = timezone.now()
        reports, balance = self.account.positions(), self.account.balance()
        with transaction.atomic():  # positions of one moment and cash of another are no account
            if ledger.open_account(venue=self.venue, balance=balance.cash, at=now):
                for report in reports:
                    self._take_over(report)
        log.info("account.opened", extra={"venue": self.venue})
        return now

    def _take_over(self, report: PositionReport) -> None:
        if report.quantity == 0:
            return
        market = Market.objects.filter(ticker=report.ticker).first()
        position = Position.objects.create(
            venue=self.venue,
            ticker=report.ticker,
            event_ticker=market.event_ticker if market else report.ticker,
            title=market.title if market else "",
            quantity=report.quantity,
            cost=report.exposure,
        )
        PositionEvent.objects.create(
            position=position,
            version=position.version,
            to_state="opened",
            actor="reconcile",
            quantity=report.quantity,
            cash=Decimal(0),
        )
        live.changed("positions", key=position.ticker, version=position.version, kind="opened")

    # -- orders ------------------------------------------------------------------------------------

    def orders(self, found: Reconciled, *, between: Callable[[], object] = lambda: None) -> None:
        """Bring every open order up to date, resolve the unknown ones, adopt strangers.

        `between` is called after each order and question: whoever asks may have more urgent things to do.
        """
        mark_overdue(self.venue)
        on_book = {report.order_id: report for report in self.account.orders(status="resting")}
        reached("listed")
        ours = list(Order.objects.open().filter(venue=self.venue).select_related("proposal"))
        told = on_book | self._what_became_of(ours, on_book, between)
        found.compared["orders"] += len(told)
        for order in ours:
            with found.apart(f"order {order.public_id}"):
                if order.state == OrderState.UNKNOWN:
                    found.resolved += self.resolve(order)
                elif report := told.get(order.venue_order_id or ""):
                    found.orders += self._refresh(order, report)
            between()
        strangers = self._strangers(on_book)
        for report in strangers:
            with found.apart(f"order {report.order_id}"):
                found.adopted += adoption.adopt(self.venue, report) is not None
        absence.watch(self.venue, self.records, found)
        differences.of_terms(ours, on_book, found)
        differences.of_ended(self.venue, on_book, found)
        differences.of_unplaced(self.venue, strangers, found)

    def _what_became_of(
        self, ours: list[Order], on_book: Collection[str], between: Callable[[], object]
    ) -> dict[str, OrderReport]:
        """The orders that rested when we last looked and rest no more. One that no list shows yet is left as it is."""
        gone = [o for o in ours if o.venue_order_id not in on_book and o.state != OrderState.UNKNOWN]
        since = {o.venue_order_id: o.signed_at or o.created_at for o in gone if o.venue_order_id}
        if not since:
            return {}
        return self.records.named(list(since), since=min(since.values()) - MARGIN, between=between)

    def _refresh(self, order: Order, report: OrderReport) -> bool:
        before = order.version
        order = adoption.followed(order, report)
        if not lifecycle.knows(order, report):
            order = lifecycle.record_report(order, report)
        return order.version != before

    def _strangers(self, on_book: dict[str, OrderReport]) -> list[OrderReport]:
        known = set(
            Order.objects.filter(venue=self.venue, venue_order_id__in=on_book).values_list(
                "venue_order_id", flat=True
            )
        )
        return [report for key, report in on_book.items() if key not in known]

    def resolve(self, order: Order) -> bool:
        """Look for an order whose send proved nothing. True once there is proof either way."""
        assert order.signed_at is not None
        listed = self.records.orders(ticker=order.ticker, since=order.signed_at - MARGIN)
        for report in listed:
            if report.client_order_id == order.client_order_id:
                lifecycle.record_report(order, report)
                return True
        return absence.judge(order, self.account, self.market_data, self.evidence)

    # -- fills, settlements, positions, cash --------------------------------------------------------

    def fills(self, found: Reconciled, opened_at: datetime) -> None:
        """Book every execution that may not be booked yet, oldest first."""
        bookings.book_fills(self.venue, self.records, found, opened_at)

    def settlements(self, found: Reconciled, opened_at: datetime) -> None:
        """Pay out settled markets."""
        bookings.book_settlements(self.venue, self.account, self.market_data, found, opened_at)

    def compare(self, found: Reconciled) -> None:
        """Positions and cash, row by row. Differences while orders are under way may be lag; `work_items` judges."""
        differences.of_positions(self.venue, self.account.positions(), found)
        differences.of_cash(self.venue, self.account.balance(), found)


def mark_overdue(venue: str) -> int:
    """A send without a written answer past its time proves nothing any more: unknown."""
    overdue = Order.objects.filter(venue=venue, state=OrderState.SENDING, answer_due_at__lt=timezone.now())
    return len([lifecycle.mark_unknown(order, "no answer was written down in time") for order in overdue])
