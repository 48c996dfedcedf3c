"""A person's own way out of a position: a reduce-only order that needs no second voice (approvals.domain.policy)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from approvals.domain.policy import Origin
from approvals.models import Proposal
from approvals.proposals import Draft, submit
from portfolio import risk
from portfolio.models import Position
from trading.domain.orders import Action, Terms
from trading.models import Order

# An exit is immediate-or-cancel; an approval that is not claimed within this time is stale anyway.
TIME_TO_CLAIM = timedelta(seconds=60)


class CannotClose(Exception):
    """Nothing is held, nobody bids, or an exit is already under way. `code` tells which."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def close_position(*, venue: str, ticker: str, actor: str, quantity: Decimal | None = None) -> Proposal:
    """Sell what is held (all, or `quantity` contracts of it) at the price that the book pays now.

    Returns the proposal: approved and on its way, or denied by our rules. Raises CannotClose, UnknownMarket.
    """
    position = Position.objects.held(venue).filter(ticker=ticker).first()
    side = None if position is None else position.holding.side
    if position is None or side is None:
        raise CannotClose("E212", f"nothing is held in {ticker}")
    if Order.objects.open().filter(venue=venue, ticker=ticker, reduce_only=True).exists():
        raise CannotClose("E212", f"an exit from {ticker} is already working")
    price = risk.facts_of(ticker).book.bid(side)
    if price is None:
        raise CannotClose("E310", f"nobody bids for {side.value.upper()} of {ticker} now; the position stays")
    held = abs(position.quantity)
    terms = Terms(ticker, Action.SELL, side, held if quantity is None else min(quantity, held), price)
    return submit(
        Draft(
            venue=venue,
            terms=terms,
            origin=Origin.CLOSE,
            proposer=actor,
            time_to_decide=TIME_TO_CLAIM,
            reduce_only=True,
            seen_versions={"position": position.version},
            note="closed by hand",
        )
    )
