"""Comparing our rows with the exchange, and resolving what is unknown by asking. Never resends anything.

Reads lag writes (API.md 8), so "not in the list" proves nothing by itself: see `Evidence`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import DataError, IntegrityError, transaction
from django.db.models import Min
from django.utils import timezone

from kalshi_site import audit
from kalshi_site.versioning import StaleVersion
from portfolio import ledger
from portfolio.models import CashEntry, Position, Reservation
from trading.domain.orders import IllegalMove, OrderState
from trading.exchange.errors import ExchangeError, UnknownThere, UnreadableAnswer
from trading.exchange.gateway import AccountGateway, MarketDataGateway
from trading.exchange.reports import FillReport, OrderReport, PositionReport, SettlementReport
from trading.execution import adoption, fills, lifecycle
from trading.models import Cycle, Fill, Market, Order
from trading.models.cycle import COMPLETE, UPDATE

log = logging.getLogger(__name__)


class Unvalued(ExchangeError):
    """A market is settled, and nothing says at what value."""


MARGIN = timedelta(
    seconds=60
)  # how far back lists are read again: late rows are harmless, missed ones are not
SETTLED_MARGIN = timedelta(days=1)

# What one record can do wrong; an exchange or a database out of reach is none of it, and rises.
_ODD = (
    DataError,
    IntegrityError,
    IllegalMove,
    StaleVersion,
    UnreadableAnswer,
    Unvalued,
    UnknownThere,
    ArithmeticError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What must hold before an order that is not found is called absent (RELIABILITY.md 3.1, step 5)."""

    latest_arrival: timedelta = timedelta(
        seconds=90
    )  # after its signed time a request can no longer be accepted
    scan_gap: timedelta = timedelta(seconds=10)
    scans: int = 2


@dataclass(slots=True)
class Reconciled:
    """What one comparison found. `drift` is the difference of cash, in dollars, exchange minus ours."""

    fills: int = 0
    orders: int = 0
    resolved: int = 0
    settled: int = 0
    adopted: int = 0
    drift: Decimal = Decimal(0)
    position_drift: dict[str, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)  # what could not be taken in, and why

    @property
    def is_clean(self) -> bool:
        return self.drift == 0 and not self.position_drift and not self.odd

    @contextlib.contextmanager
    def apart(self, record: str) -> Iterator[None]:
        """One odd record must not hold up all others for ever: it is noted, and looked at again next time."""
        try:
            yield
        except _ODD as error:
            log.exception("reconcile.odd_record", extra={"record": record})
            self.odd.append(f"{record}: {error!r}"[:300])


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Comparison for one venue. `account` reads with a key of scope read."""

    venue: str
    account: AccountGateway
    market_data: MarketDataGateway
    evidence: Evidence = Evidence()

    def run(self) -> Reconciled:
        """One full comparison: open the account once, then orders, fills, settlements, positions and cash."""
        opened_at = self.open_account()
        found = Reconciled()
        self.orders(found)
        self.fills(found, opened_at)
        self.settlements(found, opened_at)
        self.compare(found)
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
        Position.objects.create(
            venue=self.venue,
            ticker=report.ticker,
            event_ticker=market.event_ticker if market else report.ticker,
            title=market.title if market else "",
            quantity=report.quantity,
            cost=report.exposure,
        )

    # -- orders ------------------------------------------------------------------------------------

    def orders(self, found: Reconciled) -> None:
        """Bring every open order up to date, resolve the unknown ones, adopt strangers."""
        mark_overdue(self.venue)
        on_book = {report.order_id: report for report in self.account.orders(status="resting")}
        for order in Order.objects.open().filter(venue=self.venue).select_related("proposal"):
            with found.apart(f"order {order.public_id}"):
                if order.state == OrderState.UNKNOWN:
                    found.resolved += self.resolve(order)
                elif order.venue_order_id:
                    found.orders += self._refresh(order, on_book.get(order.venue_order_id))
        for report in self._strangers(on_book):
            with found.apart(f"order {report.order_id}"):
                found.adopted += adoption.adopt(self.venue, report) is not None

    def _refresh(self, order: Order, report: OrderReport | None) -> bool:
        assert order.venue_order_id is not None
        if report is None:
            try:
                report = self.account.order(order.venue_order_id)
            except UnknownThere:
                return False  # read lag, or archived: the fills decide
        before = order.version
        return lifecycle.record_report(order, report).version != before

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
        listed = self.account.orders(ticker=order.ticker, since=order.signed_at - MARGIN)
        for report in listed:
            if report.client_order_id == order.client_order_id:
                lifecycle.record_report(order, report)
                return True
        return self._is_absent(order)

    def _is_absent(self, order: Order) -> bool:
        """Count one complete search without a find, and judge whether all the evidence is in."""
        now, rule = timezone.now(), self.evidence
        assert order.signed_at is not None
        settled_from = order.signed_at + rule.latest_arrival
        if now < settled_from or not self._reads_are_later_than(settled_from):
            return False
        if order.last_scan_at is not None and now - order.last_scan_at < rule.scan_gap:
            return False
        scans = order.scans + 1
        Order.objects.filter(pk=order.pk).update(scans=scans, last_scan_at=now)
        if scans < rule.scans or not self._position_agrees(order.ticker):
            return False
        lifecycle.advance(
            order,
            OrderState.ABSENT,
            evidence=f"{scans} complete searches after {settled_from:%H:%M:%S}, positions agree",
            actor="reconcile",
        )
        audit.record(
            actor="reconcile",
            actor_kind="system",
            verb="order.absent",
            object_type="order",
            object_id=order.public_id,
        )
        return True

    def _reads_are_later_than(self, at: datetime) -> bool:
        state = self.market_data.exchange_state()
        return state.is_active and self.market_data.user_data_as_of() > at

    def _position_agrees(self, ticker: str) -> bool:
        theirs = sum((p.quantity for p in self.account.positions(ticker=ticker)), Decimal(0))
        ours = Position.objects.filter(venue=self.venue, ticker=ticker).first()
        return theirs == (ours.quantity if ours else Decimal(0))

    # -- fills, settlements, cash -------------------------------------------------------------------

    def fills(self, found: Reconciled, opened_at: datetime) -> None:
        """Book every execution that may not be booked yet, oldest first."""
        since = max(opened_at, self._complete_until(opened_at) - MARGIN)
        reports = [r for r in self.account.fills(since=since) if r.at is None or r.at >= opened_at]
        for report in sorted(reports, key=lambda r: r.at or since):
            with found.apart(f"fill {report.trade_id}"):
                found.fills += fills.record_fill(self.venue, self._named(report)) is not None

    def _complete_until(self, opened_at: datetime) -> datetime:
        """Until when all executions are booked: the last complete comparison, or the oldest order whose own are not.

        Not the newest fill that we know: the stream may have brought it past older ones that nobody has told us of.
        """
        cycles = Cycle.objects.filter(loop=UPDATE, outcome__in=COMPLETE, detail__venue=self.venue)
        compared = cycles.order_by("-slot").values_list("started_at", flat=True).first() or opened_at
        unfinished = Reservation.objects.standing(self.venue).values("key")
        orders = Order.objects.filter(venue=self.venue, proposal__public_id__in=unfinished)
        signed = orders.aggregate(first=Min("signed_at"))["first"]
        return compared if signed is None else min(compared, signed)

    def _named(self, report: FillReport) -> FillReport:
        """With the client's id, which fills by REST lack: it tells whether an order not found yet has filled."""
        if report.client_order_id or fills.knows_order(self.venue, report):
            return report
        try:
            return replace(report, client_order_id=self.account.order(report.order_id).client_order_id)
        except UnknownThere:
            return report

    def settlements(self, found: Reconciled, opened_at: datetime) -> None:
        """Pay out settled markets. A scalar market's value is taken from its definition, to the last digit."""
        held = set(Position.objects.held(self.venue).values_list("ticker", flat=True))
        if not held:
            return
        for report in self.account.settlements(since=self._held_since(held, opened_at) - SETTLED_MARGIN):
            if report.ticker in held:
                with found.apart(f"settlement of {report.ticker}"):
                    booked = ledger.book_settlement(
                        venue=self.venue,
                        ticker=report.ticker,
                        yes_value=self._yes_value(report),
                        at=report.settled_at,
                    )
                    found.settled += booked is not None

    def _held_since(self, held: set[str], opened_at: datetime) -> datetime:
        """The first execution in the markets that are held: none of them can have been settled before."""
        ours = Fill.objects.filter(venue=self.venue, ticker__in=held).order_by()
        first: dict[str, datetime] = dict(ours.values_list("ticker").annotate(Min("at")))
        return min(first.get(ticker, opened_at) for ticker in held)

    def _yes_value(self, report: SettlementReport) -> Decimal:
        if report.result in ("yes", "no"):
            return Decimal(1 if report.result == "yes" else 0)
        value = self.market_data.market(report.ticker).settlement_value
        if value is None:
            raise Unvalued(f"{report.ticker} is settled as {report.result} without a value")
        return value

    def compare(self, found: Reconciled) -> None:
        """Positions and cash, row by row. Differences while orders are under way may be lag; the caller judges."""
        theirs = {report.ticker: report.quantity for report in self.account.positions()}
        ours = dict(Position.objects.held(self.venue).values_list("ticker", "quantity"))
        for ticker in theirs.keys() | ours.keys():
            their, our = theirs.get(ticker, Decimal(0)), ours.get(ticker, Decimal(0))
            if their != our:
                found.position_drift[ticker] = f"exchange {their}, ours {our}"
        found.drift = self.account.balance().cash - ledger.cash(self.venue)


def mark_overdue(venue: str) -> int:
    """A send without a written answer past its time proves nothing any more: unknown."""
    overdue = Order.objects.filter(venue=venue, state=OrderState.SENDING, answer_due_at__lt=timezone.now())
    return len([lifecycle.mark_unknown(order, "no answer was written down in time") for order in overdue])
