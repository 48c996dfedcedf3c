"""Bringing a stop to rest: no working order that it covers is left, and the exchange's own list says so."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from portfolio import risk
from portfolio.domain.scopes import ALL
from portfolio.models import TradingState
from trading.domain.orders import OPEN, OrderState
from trading.exchange.errors import UnknownThere
from trading.exchange.gateway import AccountGateway
from trading.exchange.reports import OrderReport
from trading.exchange.targets import CancelTarget
from trading.execution.calling_off import call_off
from trading.execution.comparison import ODD
from trading.execution.lifecycle import record_report
from trading.execution.router import Router
from trading.models import Market, Order
from trading.models.order import OrderQuerySet

log = logging.getLogger(__name__)

_IN_FLIGHT: Final = (OrderState.SENDING, OrderState.UNKNOWN)
MOST_READS: Final = 20  # single reads per look: a stop's cancels come before its proof
AROUND: Final = timedelta(minutes=5)  # between our clock and the exchange's, generously


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the stops found: whether all are at rest, and how many orders that they cover were listed."""

    at_rest: bool
    left: int = 0


def clear(router: Router, account: AccountGateway) -> Look:
    """Cancel by id what the exchange still lists within the stopped scopes; at rest once nothing is left anywhere.

    A stop is at rest when the list shows no order that it covers, whoever placed it, none of ours is under way without
    an answer, and each that we held for open before the list was read is over: the list may lag. Raises ExchangeError
    when the exchange cannot be asked.
    """
    stops = risk.uncleared(router.venue)
    if not stops:
        return Look(at_rest=True)
    open_before = {stop.pk: list(_ours(stop).open()) for stop in stops}
    asked = Asked(account)
    resting, left = account.orders(status="resting"), dict[str, OrderReport]()
    for stop in stops:
        covered = {report.order_id: report for report in resting if _covers(stop, report)}
        left |= covered
        if covered or _ours(stop).filter(state__in=_IN_FLIGHT).exists():
            continue
        if asked.are_over(open_before[stop.pk]) and risk.note_cleared(stop):
            log.warning("halt.cleared", extra={"scope": stop.scope or "everything"})
    left |= asked.standing
    call_off(router.orders, [_target(report) for report in left.values()])
    return Look(at_rest=not risk.uncleared(router.venue), left=len(left))


@dataclass(slots=True)
class Asked:
    """Single questions about our orders that no list shows and no record ends; so many per look."""

    account: AccountGateway
    reads_left: int = MOST_READS
    standing: dict[str, OrderReport] = field(default_factory=dict)

    def are_over(self, orders: list[Order]) -> bool:
        """Whether each is over, by our records of now or by the exchange's word. Raises ExchangeError."""
        still_open = list(Order.objects.open().filter(pk__in=[order.pk for order in orders]))
        if len(still_open) > MOST_READS:
            still_open = self._not_listed_as_over(still_open)
        answers = [self._is_over(order) for order in still_open]  # each is asked: what stands is called off
        return all(answers)

    def _not_listed_as_over(self, orders: list[Order]) -> list[Order]:
        """Those whose end one list of all does not show: it may lag, but an order that has ended stays so.

        Their ends are not written down here: the proof of a stop does not wait for hundreds of bookings, which the
        stream and the comparison make.
        """
        since = min(order.created_at for order in orders) - AROUND
        ended = {each.order_id for each in self.account.orders(since=since) if each.state not in OPEN}
        return [order for order in orders if order.venue_order_id not in ended]

    def _is_over(self, order: Order) -> bool:
        if not order.venue_order_id or not self.reads_left:
            return False
        self.reads_left -= 1
        try:
            report = self.account.order(order.venue_order_id)
        except UnknownThere:  # read lag: no proof
            return False
        if report.state in OPEN:
            self.standing[report.order_id] = report
            return False
        _note_end(order, report)
        return True


def _note_end(order: Order, report: OrderReport) -> None:
    """Write down how an order ended. One that our records cannot take in has ended all the same."""
    try:
        record_report(order, report)
    except ODD:  # the comparison makes it work for people
        log.exception("halt.odd_report", extra={"order": order.public_id})


def _ours(stop: TradingState) -> OrderQuerySet:
    return Order.objects.in_scope(stop.scope).filter(venue=stop.venue)


def _target(report: OrderReport) -> CancelTarget:
    # The list is of all subaccounts, a cancel of the primary one unless it says which (API.md 12).
    return CancelTarget(report.order_id, report.ticker, subaccount=report.subaccount or None)


def _covers(stop: TradingState, report: OrderReport) -> bool:
    kind, _, name = stop.scope.partition(":")
    if stop.scope == ALL:
        return True
    if kind == "market":
        return report.ticker == name
    if kind == "series":
        return Market.objects.filter(ticker=report.ticker, series_ticker=name).exists()
    return _ours(stop).filter(venue_order_id=report.order_id).exists()
