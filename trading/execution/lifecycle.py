"""What the exchange's answers and reports make of an order. With `fills`, the only place that writes an order's state.

Evidence may come twice, late and out of order: by the create answer, by the stream, by REST. Each verb here can be
repeated safely.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.utils import timezone

from kalshi_site.versioning import compare_and_set
from trading.domain.orders import OPEN, OrderState, newest, require_move, state_from_counts
from trading.exchange.outcomes import Accepted, NotSent, Refused, SubmitOutcome, Unknown
from trading.exchange.reports import OrderReport
from trading.execution.changes import (
    ELSEWHERE,
    ZERO,
    called_back,
    release_when_over,
    remember,
    reserve_as_told,
    retried,
)
from trading.execution.checkpoints import reached
from trading.models import Order


def record_outcome(order: Order, outcome: SubmitOutcome) -> Order:
    """Write down what the one send proved (RELIABILITY.md 3.1, step 4). Anything unproven is `unknown`."""
    match outcome:
        case Accepted():
            return _accepted(order, outcome)
        case Refused():
            return advance(
                order,
                OrderState.REJECTED,
                evidence=f"HTTP {outcome.status}: {outcome.message}",
                code=outcome.exchange_code,
                remaining_quantity=ZERO,
            )
        case NotSent():
            return advance(order, OrderState.NOT_SENT, evidence=outcome.reason, remaining_quantity=ZERO)
        case Unknown():
            return mark_unknown(order, outcome.reason, code=outcome.exchange_code)


def _accepted(order: Order, outcome: Accepted) -> Order:
    state = state_from_counts(outcome.filled_quantity, outcome.remaining_quantity)
    if state is OrderState.FILLED and outcome.filled_quantity < order.quantity:
        state = OrderState.CANCELED  # the rest of an immediate-or-cancel order was dropped
    return advance(
        order,
        state,
        evidence=f"201, order id {outcome.order_id}",
        venue_order_id=outcome.order_id,
        acknowledged_at=timezone.now(),
        remaining_quantity=outcome.remaining_quantity,
        at_least_filled=outcome.filled_quantity,
    )


def mark_unknown(order: Order, reason: str, *, code: str = "") -> Order:
    """No proof either way. Exposure stays reserved and `reconcile` asks until there is proof."""
    return advance(order, OrderState.UNKNOWN, evidence=reason, code=code)


# What `knows` looks at.
KNOWN_BY: Final = ("state", "venue_order_id", "acknowledged_at", "filled_quantity", "remaining_quantity")


def knows(order: Order, report: OrderReport) -> bool:
    """Whether a report says only what the row says already; asked of a thousand resting orders at each comparison."""
    return (
        order.acknowledged_at is not None
        and (order.state, order.venue_order_id) == (report.state.value, report.order_id)
        and order.filled_quantity == report.filled_quantity
        and order.remaining_quantity == report.remaining_quantity
    )


def record_report(order: Order, report: OrderReport) -> Order:
    """Take over what the exchange says of an order. A report older than what we know changes nothing."""
    state = report.state
    if state is OrderState.CANCELED and _has_expired(order):
        state = OrderState.EXPIRED
    if report.filled_quantity < order.filled_quantity and state in OPEN:
        return order
    if state in OPEN:
        order = _reduced_elsewhere(order, report)
    return advance(
        order,
        state,
        evidence=f"exchange: {report.state.value}{f', {report.reason}' if report.reason else ''}",
        venue_order_id=report.order_id,
        acknowledged_at=order.acknowledged_at or timezone.now(),
        remaining_quantity=report.remaining_quantity,
        at_least_filled=report.filled_quantity,
    )


def is_reduced_elsewhere(order: Order, report: OrderReport) -> bool:
    """Whether an order of ours rests with fewer contracts than we left it, though no decrease of ours is under way.

    Nothing but a decrease makes filled and resting together fewer, and a report counts both at one moment, however old
    it is.
    """
    total = report.filled_quantity + report.remaining_quantity
    return order.proposal_id is not None and order.decrease_to is None and total < order.standing_quantity


def _reduced_elsewhere(order: Order, report: OrderReport) -> Order:
    """Let the row stand at what others have left: a renewal of the total of before would undo their decrease."""
    if not is_reduced_elsewhere(order, report):
        return order

    def write(current: Order) -> Order:
        if not current.is_open or not is_reduced_elsewhere(current, report):
            return current
        off = current.standing_quantity - (report.filled_quantity + report.remaining_quantity)
        fresh = compare_and_set(
            current, reduced_quantity=current.reduced_quantity + off, decrease_requested_by=ELSEWHERE
        )
        remember(fresh, current.state, "exchange", f"{off} contracts taken off elsewhere")
        return fresh

    return retried(order, write)


def _has_expired(order: Order) -> bool:
    asked = order.cancel_requested_at is not None
    return not asked and order.expires_at is not None and order.expires_at <= timezone.now()


def advance(
    order: Order,
    state: OrderState,
    *,
    evidence: str,
    actor: str = "exchange",
    at_least_filled: Decimal = ZERO,
    **changes: Any,
) -> Order:
    """Move an order, with history and announcement; reserve for what may still fill, and nothing once it is over.

    Evidence that does not change anything is dropped. A move that the table forbids raises IllegalMove.
    """

    def write(current: Order) -> Order:
        before = OrderState(current.state)
        if state is OrderState.UNKNOWN and before is not OrderState.SENDING:
            return current  # the stream, or a search, was quicker than the answer that never came
        after = newest(before, state)
        filled = max(current.filled_quantity, at_least_filled)
        if after is not state or (state in OPEN and at_least_filled < filled):
            changes.pop("remaining_quantity", None)  # as late as the state, or the count, that it came with
        news = {key: value for key, value in changes.items() if getattr(current, key) != value}
        if before is after and filled == current.filled_quantity and not news:
            return current
        if before is not after:
            require_move(before, after)
        news |= called_back(current, after)
        fresh = compare_and_set(
            current,
            reread=False,  # what changes of an order without its version is not looked at below
            state=after.value,
            filled_quantity=filled,
            evidence=evidence[:300],
            **news,
        )
        remember(fresh, before.value, actor, evidence)
        reserve_as_told(current, fresh)
        release_when_over(fresh)
        reached("recording")
        return fresh

    return retried(order, write)
