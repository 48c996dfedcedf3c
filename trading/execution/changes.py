"""How an order's row changes: a guarded write with its history, tried again on the fresh row; what it gives back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from kalshi_site import audit, live, prepared
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from trading.domain.orders import OPEN, OrderState
from trading.execution import repeats, work_items
from trading.models import Order, OrderEvent, WorkKind

log = logging.getLogger(__name__)

ZERO = Decimal(0)
# Who asked for a decrease that did not come from this desk. No person has such a name.
ELSEWHERE: Final = "(elsewhere)"
WATCHED_FOR: Final = timedelta(hours=24)  # an order that was judged absent may still appear
TRIES = 8  # two processes and a stream may write the same order within milliseconds


def retried(order: Order, write: Callable[[Order], Order]) -> Order:
    """Run one guarded change, again on the fresh row when somebody was quicker."""
    current = order
    for attempt in range(TRIES):
        try:
            with transaction.atomic():
                return write(current)
        except StaleVersion:
            if attempt == TRIES - 1:
                raise
            current = Order.objects.select_related("proposal").get(pk=order.pk)
    raise AssertionError("unreachable")


def remember(order: Order, before: str, actor: str, reason: str) -> None:
    event = OrderEvent(
        order=order,
        version=order.version,
        from_state=before,
        to_state=order.state,
        actor=actor,
        reason=reason,
        detail={
            "filled": str(order.filled_quantity),
            "remaining": str(order.remaining_quantity),
            "venue_order_id": order.venue_order_id or "",
        },
    )
    prepared.insert(event)
    live.changed("orders", key=order.public_id, version=order.version, kind=order.state)


def called_back(order: Order, after: OrderState) -> dict[str, Any]:
    """An order judged absent is on the exchange after all: alarm, reserve for it again, and have its rest canceled.

    What repeats it and is not sent yet is called off.
    """
    if order.state != OrderState.ABSENT or after is OrderState.ABSENT:
        return {}
    risk.trading_state(order.venue, lock=True)  # before the topics' numbers, as a claim does
    log.error("order.absent.appeared", extra={"order": order.public_id, "state": after.value})
    audit.record(
        actor="exchange",
        actor_kind="system",
        verb="order.appeared",
        object_type="order",
        object_id=order.public_id,
    )
    appeared = work_items.Difference(
        WorkKind.ABSENT_APPEARED,
        order.public_id,
        theirs=after.value,
        ours=order.state,
        ticker=order.ticker,
        order=order.public_id,
    )
    work_items.report(order.venue, appeared)
    repeats.call_off(order)
    if order.proposal is not None:
        risk.reserve_again(key=order.proposal.public_id)
    if after not in OPEN:
        return {}  # held until what has filled is booked
    return {"cancel_requested_at": timezone.now(), "cancel_requested_by": "execution"}


def reserve_as_told(before: Order, after: Order) -> None:
    """Hold what may still fill, or has filled and is not booked, by the exchange's last word: that may be less than
    before, or what was given back again too. A word of before that comes late counts until the next comparison.

    Of an order found, `adoption` reserves by its terms.
    """
    off = before.total_quantity - after.total_quantity
    if off and after.proposal_id is not None:
        risk.consume(key=reserved_as(after), book_side=after.terms.book_side, count=off)


def release_when_over(order: Order) -> None:
    """Give the reservation back once the order is over and all that filled is in the books."""
    if order.is_open:
        return
    booked = order.fills.aggregate(total=Sum("quantity"))["total"] or ZERO
    # Of an order found, earlier fills may be booked as nobody's: they will not come again.
    if order.proposal is None or booked >= order.filled_quantity:
        risk.release(key=reserved_as(order))


def reserved_as(order: Order) -> str:
    return order.public_id if order.proposal is None else order.proposal.public_id
