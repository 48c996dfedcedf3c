"""Asking execution to cancel. Never gated: a stop, a pause or a limit keeps nobody from the way out."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit
from kalshi_site.prepared import prepared
from kalshi_site.versioning import compare_and_set
from portfolio.domain.scopes import in_words
from portfolio.models import TradingState
from trading.execution.changes import remember, retried
from trading.models import Order
from trading.models.order import OrderQuerySet


class NotCancelable(Exception):
    """There is nothing left to cancel. Carries the state that the order is in."""

    code = "E212"

    def __init__(self, state: str) -> None:
        super().__init__(f"the order is {state.replace('_', ' ')}; there is nothing to cancel")
        self.state = state


def request_cancel(*, order: Order, actor: str, reason: str = "") -> Order:
    """Ask execution to cancel. Never gated. Raises NotCancelable once the order is over."""

    def write(current: Order) -> Order:
        if not current.is_open:
            raise NotCancelable(current.state)
        if current.cancel_requested_at is not None:
            return current
        fresh = compare_and_set(current, cancel_requested_at=timezone.now(), cancel_requested_by=actor)
        remember(fresh, current.state, actor, reason or "cancel requested")
        audit.record(
            actor=actor,
            verb="order.cancel_requested",
            object_type="order",
            object_id=fresh.public_id,
            reason=reason,
        )
        return fresh

    return retried(order, write)


def request_cancel_all(*, venue: str, actor: str, reason: str = "") -> list[Order]:
    """Ask execution to cancel every open order of the venue. Those that end are left."""
    wanted = Order.objects.open().filter(venue=venue, cancel_requested_at=None)
    return _request_cancels(wanted, actor, reason)


def stopped(state: TradingState) -> OrderQuerySet:
    """What a stop of this scope covers and nobody has asked to cancel yet.

    Once trading is resumed that is what was claimed before the stop.
    """
    covered = Order.objects.open().in_scope(state.scope).filter(venue=state.venue, cancel_requested_at=None)
    if state.mode == TradingState.Mode.HALTED:
        return covered
    if not _claimed_before(state.venue, state.halted_epoch):
        return covered.none()  # as good as always: a stop is over, and was asked about at every look since
    return covered.filter(proposal__isnull=False, kill_epoch__lt=state.halted_epoch)


@prepared
def _claimed_before(venue: str, epoch: int) -> QuerySet[Order, int]:
    rows = Order.objects.open().filter(venue=venue, cancel_requested_at=None, proposal__isnull=False)
    return rows.filter(kill_epoch__lt=epoch).values_list("pk", flat=True)[:1]


def request_cancel_stopped(state: TradingState) -> list[Order]:
    """Write down that execution shall cancel what a stop of this scope covers."""
    is_halted = state.mode == TradingState.Mode.HALTED
    reason = f"trading is stopped for {in_words(state.scope)}" if is_halted else "trading was stopped"
    return _request_cancels(stopped(state), "execution", reason)


@transaction.atomic
def _request_cancels(wanted: QuerySet[Order], actor: str, reason: str) -> list[Order]:
    # All rows are locked before the topic's number is: a fill takes them in this order, the other would deadlock.
    # Of the orders alone: a scope joins proposals, which an order may lack, and PostgreSQL locks no such row.
    orders = list(wanted.select_for_update(of=("self",)).order_by("pk"))
    return [request_cancel(order=order, actor=actor, reason=reason) for order in orders]
