"""The dead man's switch: every resting order expires soon, and an amend of its expiry alone keeps it standing.

The amend keeps the place in the queue (API.md 11) and repeats price and total as approved, never more. An order that
somebody changed elsewhere is left to its expiry (`Order.objects.renewable`). A renewal's wish is written down before it
is sent, so that one without an answer is asked about, also after a crash. Only when the exchange's own report still
shows the old expiry is there another try: both carry the same price and total, so a late first one can only end the
order sooner.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import QuerySet

from kalshi_site.locks import Held
from kalshi_site.prepared import prepared
from kalshi_site.versioning import compare_and_set
from portfolio import risk
from portfolio.domain.limits import TradingMode
from trading.domain.expiry import RENEWED_AT, may_try_again, renewal_due
from trading.domain.orders import OPEN
from trading.exchange.errors import ClockOff, ExchangeError, UnknownThere
from trading.exchange.gateway import AccountGateway, ClockGateway, OrderGateway
from trading.exchange.orders import amend_body
from trading.exchange.outcomes import Amended, AmendOutcome, NotOpen, NotSent, Refused, Unknown
from trading.execution import lifecycle
from trading.execution.changes import remember, retried
from trading.execution.comparison import ODD
from trading.models import Order

log = logging.getLogger(__name__)

SEND_WITHIN: Final = 1.0  # seconds from the signed time
MOST_IN_A_LOOK: Final = 50
Between = Callable[[], Held]
"""Called after each word with the exchange: cancels and the lease do not wait. Returns the lease as it is now."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Keeps one venue's orders standing while their time goes on. `ahead`: how far an expiry may lie ahead."""

    venue: str
    orders: OrderGateway
    account: AccountGateway
    clock: ClockGateway
    ahead: timedelta

    def look(self, between: Between) -> int:
        """Ask about renewals without proof, then renew what is due, the soonest first. How many were proven.

        The first one without an answer ends the look: what does not answer now is not asked fifty times.
        """
        try:
            self.clock.require_steady()
            return self._ask_about_unproven(between) + self._renew_due(between)
        except (
            ClockOff,
            ExchangeError,
        ) as error:  # orders end by themselves if this goes on: that is the switch
            log.warning("order.renewal.failed", extra={"error": str(error)})
            return 0

    # -- what is due ------------------------------------------------------------------------------------

    def _renew_due(self, between: Between) -> int:
        proven = 0
        for order in self._due()[:MOST_IN_A_LOOK]:
            outcome = self._renew(order, between())
            proven += isinstance(outcome, Amended)
            if isinstance(outcome, Unknown):
                break
        return proven

    def _due(self) -> list[Order]:
        now = self.clock.now()
        soon = _soon_over(self.venue, now, now + self.ahead * RENEWED_AT)
        return [order for order in soon if self._wanted(order, now)]

    def _wanted(self, order: Order, now: datetime) -> datetime | None:
        assert order.expires_at is not None
        assert order.good_until is not None
        return renewal_due(
            order.expires_at,
            good_until=order.good_until,
            now=now,
            ahead=self.ahead,
            tried_at=order.renewal_signed_at,
        )

    def _renew(self, order: Order, held: Held) -> AmendOutcome | None:
        started, now = time.monotonic(), self.clock.now()
        intended = self._intend(order, held, now)
        if intended is None:
            return None
        assert intended.venue_order_id is not None
        outcome: AmendOutcome
        try:
            outcome = self.orders.send_amend(
                intended.venue_order_id,
                renewal_body(intended),
                int(now.timestamp() * 1000),
                send_before=started + SEND_WITHIN,
            )
        except Exception as error:  # whatever broke, bytes may have left: unproven
            log.exception("order.renewal.broke", extra={"order": order.public_id})
            outcome = Unknown(f"the amend broke: {error!r}")
        self._record(intended, outcome)
        return outcome

    @transaction.atomic
    def _intend(self, order: Order, held: Held, now: datetime) -> Order | None:
        """Write the wish down, by the lease's fence. None when the order is not to be kept standing any more."""
        held.require()
        rows = Order.objects.renewable().select_for_update(of=("self",)).select_related("proposal")
        current = rows.filter(pk=order.pk, renewal_until=None).first()
        wanted = None if current is None else self._wanted(current, now)
        if current is None or wanted is None or self._is_stopped(current):
            return None
        # No version: it is a wish yet, and nothing that a person saw has changed.
        Order.objects.filter(pk=current.pk).update(renewal_until=wanted, renewal_signed_at=now)
        current.renewal_until, current.renewal_signed_at = wanted, now
        return current

    def _is_stopped(self, order: Order) -> bool:
        scopes = order.proposal.scopes if order.proposal is not None else ()
        return risk.mode_for(self.venue, scopes) is TradingMode.HALTED

    # -- what it proves ---------------------------------------------------------------------------------

    def _record(self, order: Order, outcome: AmendOutcome) -> None:
        match outcome:
            case Amended():
                _prove(order, f"renewed until {order.renewal_until:%H:%M:%S}")
            case (
                Refused() | NotSent() | NotOpen()
            ):  # proven: nothing has changed; whether it still rests, others ask
                log.warning("order.renewal.not_done", extra={"order": order.public_id, "why": repr(outcome)})
                _forget(order)
            case Unknown():
                log.warning("order.renewal.unproven", extra={"order": order.public_id, "why": outcome.reason})

    def _ask_about_unproven(self, between: Between) -> int:
        proven = 0
        for order in _unproven(self.venue):
            proven += self._ask_about(order)
            between()
        return proven

    def _ask_about(self, order: Order) -> bool:
        """What the exchange's own report of the order says. Raises ExchangeError while it cannot be asked."""
        assert order.venue_order_id is not None
        try:
            report = self.account.order(order.venue_order_id)
        except UnknownThere:  # read lag, or archived: the fills decide
            return False
        try:
            current = lifecycle.record_report(order, report)
        except ODD as error:  # the comparison makes it work for people
            log.warning("order.renewal.odd_report", extra={"order": order.public_id, "error": repr(error)})
            if report.state not in OPEN:
                _forget(order)
            return False
        if not current.is_open or current.renewal_until is None:
            return False
        if report.expires_at is not None and report.expires_at >= current.renewal_until:
            _prove(current, f"renewed until {current.renewal_until:%H:%M:%S}, by the exchange's report")
            return True
        tried_at = current.renewal_signed_at
        if tried_at is None or may_try_again(tried_at, now=self.clock.now(), ahead=self.ahead):
            _forget(current)  # reads lag writes: an old expiry says nothing at once
        return False


@prepared
def _soon_over(venue: str, now: datetime, soon: datetime) -> QuerySet[Order]:
    rows = Order.objects.renewable().filter(venue=venue, renewal_until=None)
    return rows.filter(expires_at__gt=now, expires_at__lte=soon).order_by("expires_at")


@prepared
def _unproven(venue: str) -> QuerySet[Order]:
    rows = Order.objects.cancelable().filter(venue=venue, renewal_until__isnull=False)
    return rows.select_related("proposal")


def renewal_body(order: Order) -> bytes:
    """The amend that moves the expiry and nothing else: price and total as they stand, by the order's own id."""
    terms = order.terms
    return amend_body(
        ticker=order.ticker,
        book_side=terms.book_side,
        yes_price=terms.yes_price,
        quantity=order.standing_quantity,
        client_order_id=order.client_order_id,
        expires_at=order.renewal_until,
        exchange_index=order.exchange_index,
    )


def _prove(order: Order, reason: str) -> None:
    def write(current: Order) -> Order:
        if current.renewal_until is None:
            return current
        fresh = compare_and_set(current, expires_at=current.renewal_until, renewal_until=None)
        remember(fresh, current.state, "execution", reason)
        return fresh

    retried(order, write)


def _forget(order: Order) -> None:
    Order.objects.filter(pk=order.pk, renewal_until=order.renewal_until).update(renewal_until=None)
