"""What must be true of a run when all has come to rest: the desk's invariants, and the exchange's own books.

A run's faults in words; an empty list is a pass. The exchange's side is read past its faults and its lag.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.utils import timezone

from approvals.models import Proposal
from portfolio import ledger
from portfolio.models import Position
from tests.reliability.venue import BY_HAND_ID, Stage, ToldOrder, Truth, Venue
from trading.domain.orders import ON_EXCHANGE
from trading.engine.invariants import broken
from trading.models import Order

# What may stand as proof of a final state: a word of the exchange, or bytes that never left.
_PROOF: Final = {
    "filled": r"fill |201, |exchange: ",
    "canceled": r"fill |201, |exchange: ",
    "expired": r"fill |201, |exchange: ",
    "rejected": r"HTTP 4\d\d",
    "not_sent": r"E\d\d\d: |.*not sent|the last look before the send: ",
    "absent": r".*\b([2-9]|\d\d+) complete searches",
}
LATER: Final = timedelta(minutes=2)  # past every grace that an invariant gives
_STATES: Final = {
    "resting": {"resting", "partially_filled"},
    "executed": {"filled"},
    "canceled": {"canceled", "expired", "filled"},
}


def faults(venue: Venue, stage: Stage) -> list[str]:
    """Everything that is wrong with this run's books."""
    truth = venue.truth(stage)
    return [
        *_broken(),
        *_unresolved(),
        *_lost(),
        *_doubled(truth),
        *_untracked(truth),
        *_guessed(),
        *_money(truth),
    ]


def _broken() -> Iterator[str]:
    for breach in broken("paper", timezone.now() + LATER):
        yield f"broken: {breach.name} {breach.examples}"


def _unresolved() -> Iterator[str]:
    """Orders of which nobody knows what became of them."""
    for order in Order.objects.filter(state__in=("sending", "unknown")):
        yield f"unresolved: {order.ticker} is {order.state}"


def _lost() -> Iterator[str]:
    """An approval that led to nothing: no order, and no word of why."""
    for proposal in Proposal.objects.filter(state="approved"):
        yield f"lost: {proposal.ticker} was approved and forgotten"
    for proposal in Proposal.objects.filter(state="claimed", order=None):
        yield f"lost: {proposal.ticker} was claimed without an order"


def _doubled(truth: Truth) -> Iterator[str]:
    """More than one request per intent, or more than one order of an intent's market: each has one of its own."""
    for client_id, count in truth.posts.items():
        if count > 1:
            yield f"doubled: {client_id} was sent {count} times"
    approved = Counter(Proposal.objects.exclude(decided_at=None).values_list("ticker", flat=True))
    ours = (order.ticker for order in truth.orders if order.client_order_id != BY_HAND_ID)
    for ticker, count in Counter(ours).items():
        if count > approved[ticker]:
            yield f"doubled: {count} orders in {ticker} for {approved[ticker]} approvals"
    if len(truth.posts) > sum(approved.values()):
        yield f"doubled: {len(truth.posts)} requests for {sum(approved.values())} approvals"


def _untracked(truth: Truth) -> Iterator[str]:
    """Each order of the exchange has our row, which says what the exchange says; each row on the exchange is there."""
    rows = {order.venue_order_id: order for order in Order.objects.all() if order.venue_order_id}
    for told in truth.orders:
        if told.order_id not in rows:
            yield f"untracked: {told.client_order_id} in {told.ticker} is {told.status} there"
        else:
            yield from _differences(rows[told.order_id], told)
    there = {told.order_id for told in truth.orders}
    for order in Order.objects.filter(state__in=ON_EXCHANGE):
        if order.venue_order_id not in there:
            yield f"guessed: {order.ticker} is {order.state} here and is not there"


def _differences(order: Order, told: ToldOrder) -> Iterator[str]:
    if order.state not in _STATES[told.status]:
        yield f"wrong state: {told.ticker} is {told.status} there and {order.state} here"
    if order.filled_quantity != told.filled:
        yield f"wrong count: {told.ticker} filled {told.filled} there and {order.filled_quantity} here"


def _guessed() -> Iterator[str]:
    """A final state whose evidence proves nothing."""
    for order in Order.objects.filter(state__in=_PROOF):
        if not re.match(_PROOF[order.state], order.evidence):
            yield f"guessed: {order.ticker} is {order.state} because of {order.evidence!r}"


def _money(truth: Truth) -> Iterator[str]:
    ours: dict[str, Decimal] = dict(Position.objects.held("paper").values_list("ticker", "quantity"))
    if ours != truth.positions:
        yield f"wrong positions: {truth.positions} there and {ours} here"
    if (cash := ledger.cash("paper")) != truth.cash:
        yield f"wrong cash: {truth.cash} there and {cash} here"
