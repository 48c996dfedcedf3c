"""Asking execution to cancel. Never gated: a stop, a pause or a limit keeps nobody from the way out."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site import audit
from kalshi_site.versioning import compare_and_set
from trading.execution.changes import remember, retried
from trading.models import Order


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
    """Ask execution to cancel every open order of the venue. Orders that end meanwhile are left out."""
    wanted = Order.objects.open().filter(venue=venue, cancel_requested_at=None)
    return _request_cancels(wanted, actor, reason)


def request_cancel_stopped(*, venue: str, kill_epoch: int) -> list[Order]:
    """Ask execution to cancel what was claimed before the last stop: trading may have been resumed in between."""
    wanted = Order.objects.open().filter(
        venue=venue, cancel_requested_at=None, proposal__isnull=False, kill_epoch__lt=kill_epoch
    )
    return _request_cancels(wanted, "execution", "trading was stopped")


@transaction.atomic
def _request_cancels(wanted: QuerySet[Order], actor: str, reason: str) -> list[Order]:
    # All rows are locked before the topic's number is: a fill takes them in this order, the other would deadlock.
    orders = list(wanted.select_for_update().order_by("pk"))
    return [request_cancel(order=order, actor=actor, reason=reason) for order in orders]
