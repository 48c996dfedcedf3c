"""A person's own way out of a position: `approvals.proposals.close_position`, unless an exit is under way already."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from approvals import proposals
from approvals.models import Proposal
from portfolio import risk
from portfolio.models import Reservation
from trading.domain.orders import CLOSED, OPEN, OrderState
from trading.execution.claims import ANSWER_WITHIN
from trading.execution.differences import FILL_LAG
from trading.models import Order, OrderEvent

ANSWER_LAG: Final = 2 * ANSWER_WITHIN  # an exit without an outcome keeps the next one out until then
UNPROVEN: Final = (OrderState.SENDING, OrderState.UNKNOWN)


class ExitWorking(Exception):
    """A second exit would sell what the first one is selling."""

    code = "E212"

    def __init__(self, ticker: str) -> None:
        super().__init__(f"an exit from {ticker} is already working")


def close_position(
    *,
    venue: str,
    ticker: str,
    actor: str,
    quantity: Decimal | None = None,
    floor: Decimal | None = None,
    bid: Decimal | None = None,
    idea_key: str | None = None,
) -> Proposal:
    """Sell what is held (all, or `quantity` contracts of it) at what the book pays now; execution sends it at once.

    `floor` is the worst price, on the held side's own scale; without it, two cents below the bid. `bid` is the best one
    as the caller knows it; without it, our own quote's. `idea_key` names the exit to who must find it again.

    Returns the approved proposal. Raises ExitWorking, NothingHeld, NobodyBids, UnknownMarket, Denied.
    """
    with transaction.atomic():
        risk.trading_state(venue, lock=True)  # two clicks are one exit
        if is_leaving(venue, ticker):
            raise ExitWorking(ticker)
        return proposals.close_position(
            venue=venue,
            ticker=ticker,
            actor=actor,
            quantity=quantity,
            floor=floor,
            bid=bid,
            idea_key=idea_key,
        )


def is_leaving(venue: str, ticker: str) -> bool:
    """Whether an exit is approved, working, or filled and not yet in the books.

    Neither doubt nor a fill that no list shows blocks the way out for ever: what is late counts no more. The exchange
    holds a second exit, reduce-only as the first, to what is still held.
    """
    exits = {"venue": venue, "ticker": ticker, "reduce_only": True}
    reserved = Reservation.objects.standing(venue).filter(ticker=ticker).values("key")
    approved = Proposal.objects.filter(**exits, public_id__in=reserved)
    return (
        _working(Order.objects.filter(**exits)).exists()
        or approved.filter(order=None).exists()
        or _just_over(Order.objects.filter(**exits, proposal__public_id__in=reserved)).exists()
    )


def _working(exits: QuerySet[Order]) -> QuerySet[Order]:
    """Those that the exchange has confirmed as open, and those that wait for their answer, but not for long."""
    doubtful = Q(state__in=UNPROVEN)
    return exits.filter(state__in=OPEN).exclude(doubtful & ~_lately("created_at", ANSWER_LAG))


def _just_over(exits: QuerySet[Order]) -> QuerySet[Order]:
    """Those that ended a moment ago: their fills are still to come.

    Dated by the change of state itself. The row is touched by whatever is heard of it later.
    """
    ended = OrderEvent.objects.filter(_lately("at", FILL_LAG), order=OuterRef("pk"), to_state__in=CLOSED)
    return exits.filter(Exists(ended.exclude(from_state=F("to_state"))), state__in=CLOSED)


def _lately(column: str, span: timedelta) -> Q:
    """Within so long of now, on either side: a time far ahead is of a clock that was wrong."""
    now = timezone.now()
    return Q(**{f"{column}__gt": now - span, f"{column}__lt": now + span})
