"""Taking contracts off a resting order, which keeps its place: it only reduces, so it needs no new approval.

The wish (`decrease_to`, what shall rest) is a row; execution sends it, and the exchange's own report of the order
proves it: what is filled plus what rests is the order's new total, whatever filled meanwhile. `reduce_to` may be
repeated (API.md 11). Meanwhile no renewal is sent, and none may be in doubt: it names the old total, and could raise
it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit
from kalshi_site.prepared import prepared
from kalshi_site.versioning import compare_and_set
from trading.domain.expiry import RENEWED_AT
from trading.domain.orders import OPEN, OrderState
from trading.exchange.errors import ExchangeError, UnknownThere
from trading.exchange.gateway import AccountGateway, ClockGateway, OrderGateway
from trading.exchange.reports import OrderReport
from trading.execution.changes import ZERO, remember, retried
from trading.execution.comparison import ODD
from trading.execution.lifecycle import record_report
from trading.models import Order

log = logging.getLogger(__name__)

AGAIN: Final = timedelta(seconds=10)  # until a decrease without proof is sent once more
LATEST_ARRIVAL: Final = timedelta(seconds=90)  # after its signed time no request is accepted any more


class NotDecreasable(Exception):
    """The order does not rest, somebody wants it canceled, or no fewer contracts would be left. It says which."""

    code = "E212"


def request_decrease(*, order: Order, actor: str, remaining: Decimal, reason: str = "") -> Order:
    """Ask execution to leave only `remaining` contracts resting. Works under a stop. Raises NotDecreasable."""

    def write(current: Order) -> Order:
        _require_decreasable(current, remaining)
        fresh = compare_and_set(
            current, decrease_to=remaining, decrease_requested_by=actor, decrease_sent_at=None
        )
        remember(fresh, current.state, actor, reason or f"decrease to {remaining} asked for")
        audit.record(
            actor=actor,
            verb="order.decrease_requested",
            object_type="order",
            object_id=fresh.public_id,
            reason=reason,
            remaining=str(remaining),
        )
        return fresh

    return retried(order, write)


def _require_decreasable(order: Order, remaining: Decimal) -> None:
    if not order.is_cancelable:
        raise NotDecreasable(f"the order is {order.state.replace('_', ' ')}: it rests no more")
    if order.cancel_requested_at is not None:
        raise NotDecreasable("its cancel is on the way")
    if not 0 < remaining < order.remaining_quantity:
        raise NotDecreasable(
            f"{order.remaining_quantity} contracts rest: leave fewer, or cancel to leave none"
        )


@dataclass(frozen=True, slots=True)
class Decreases:
    """Sends and proves what was asked for. `ahead`: how far an expiry lies ahead."""

    venue: str
    orders: OrderGateway
    account: AccountGateway
    clock: ClockGateway
    ahead: timedelta

    def look(self, between: Callable[[], object]) -> None:
        """Ask about what was sent, send what was not, or what is not proven after a while."""
        for order in _wanted(self.venue):
            try:
                self._see_to(order)
            except ExchangeError as error:  # asked again at the next look
                log.warning("order.decrease.ask.failed", extra={"error": str(error)})
                return
            between()

    def _see_to(self, order: Order) -> None:
        if order.decrease_sent_at is not None and self._is_proven(order):
            return
        now = timezone.now()
        if order.decrease_sent_at is not None and now < order.decrease_sent_at + AGAIN:
            return
        if not renewal_in_doubt(order, self.clock.now(), self.ahead):
            self._send(order, now)

    def _send(self, order: Order, now: datetime) -> None:
        assert order.venue_order_id is not None
        guard = Order.objects.filter(pk=order.pk, decrease_to=order.decrease_to, renewal_until=None)
        if not guard.update(decrease_sent_at=now):
            return
        outcome = self.orders.decrease(
            order.venue_order_id,
            market_ticker=order.ticker,
            reduce_to=order.decrease_to,
            subaccount=order.subaccount or None,
        )
        log.info("order.decrease.sent", extra={"order": order.public_id, "outcome": repr(outcome)})

    def _is_proven(self, order: Order) -> bool:
        """By the exchange's report of the order, or of its end. Raises ExchangeError while it cannot be asked."""
        assert order.venue_order_id is not None
        try:
            report = self.account.order(order.venue_order_id)
        except UnknownThere:  # read lag, or archived: the fills decide
            return False
        try:
            current = record_report(order, report)
        except ODD as error:  # the comparison makes it work for people
            log.warning("order.decrease.odd_report", extra={"order": order.public_id, "error": repr(error)})
            return report.state not in OPEN
        if not current.is_open and current.state != OrderState.FILLED:
            return True  # what was canceled, or expired, was not taken off
        if current.decrease_to is None or report.remaining_quantity > current.decrease_to:
            return False
        _prove(current, report)
        return True


@prepared
def _wanted(venue: str) -> QuerySet[Order]:
    rows = Order.objects.cancelable().filter(venue=venue, decrease_to__isnull=False)
    return rows.filter(cancel_requested_at=None, venue_order_id__isnull=False).select_related("proposal")


def renewal_in_doubt(order: Order, now: datetime, ahead: timedelta) -> bool:
    """Whether a renewal, which names the total of before, may still arrive: its expiry has not come of it."""
    signed, expires = order.renewal_signed_at, order.expires_at
    if order.renewal_until is not None:
        return True
    if signed is None or expires is None or now >= signed + LATEST_ARRIVAL:
        return False
    return expires <= signed + ahead * RENEWED_AT


def _prove(order: Order, report: OrderReport) -> None:
    """The new total. It may be more than others had left, where a renewal of ours had given it back."""
    total = report.filled_quantity + report.remaining_quantity

    def write(current: Order) -> Order:
        if current.decrease_to is None or report.remaining_quantity > current.decrease_to:
            return current  # somebody wants still fewer since it was asked about
        off = max(
            current.quantity - total, ZERO
        )  # whatever others make of it, nothing stands above the approval
        fresh = compare_and_set(current, reduced_quantity=off, decrease_to=None, decrease_sent_at=None)
        told = f"{off} contracts taken off in all, {report.remaining_quantity} rest"
        remember(fresh, current.state, "exchange", told)
        return fresh

    retried(order, write)
