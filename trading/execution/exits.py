"""A person's own way out of a position: `approvals.proposals.close_position`, unless an exit is under way already."""

from __future__ import annotations

from decimal import Decimal

from django.db import transaction

from approvals import proposals
from approvals.models import Proposal
from portfolio import risk
from portfolio.models import Reservation
from trading.models import Order


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
) -> Proposal:
    """Sell what is held (all, or `quantity` contracts of it) at what the book pays now; execution sends it at once.

    `floor` is the worst price, on the held side's own scale; without it, two cents below the bid. `bid` is the best one
    as the caller knows it; without it, our own quote's.

    Returns the approved proposal. Raises ExitWorking, NothingHeld, NobodyBids, UnknownMarket, Denied.
    """
    with transaction.atomic():
        risk.trading_state(venue, lock=True)  # two clicks are one exit
        if is_leaving(venue, ticker):
            raise ExitWorking(ticker)
        return proposals.close_position(
            venue=venue, ticker=ticker, actor=actor, quantity=quantity, floor=floor, bid=bid
        )


def is_leaving(venue: str, ticker: str) -> bool:
    """Whether an exit is approved, working, or filled and not yet in the books."""
    exits = {"venue": venue, "ticker": ticker, "reduce_only": True}
    reserved = Reservation.objects.standing(venue).filter(ticker=ticker).values("key")
    return (
        Order.objects.open().filter(**exits).exists()
        or Proposal.objects.filter(**exits, public_id__in=reserved).exists()
    )
