"""Where an order stands in the queue: the contracts that trade before it in price-time priority (API.md 11)."""

from __future__ import annotations

from collections.abc import Iterator

from trading.domain.matching import Lots, Order
from trading.domain.orders import BookSide
from trading.paper.listing import Listing
from trading.paper.recorded import RECORDED


def queue_position(listing: Listing, order_id: str) -> Lots:
    """The lots that must be matched before this resting order of an account is: all that stands at better prices on its
    side, and at its own price what came before it, of accounts and of the house by their order, of recorded liquidity
    by our place in it. Raises KeyError when the order does not rest."""
    order = listing.book.orders[order_id]
    better = listing.book.lots_better(order.side, order.price_ticks)
    return better + listing.recorded.lots_ahead(order)


def queue_positions(listing: Listing) -> Iterator[tuple[Order, Lots]]:
    """Every resting order that is not recorded with its `queue_position`, in one walk over the book."""
    for side in BookSide:
        better = 0
        for _, level in listing.book.halves[side].best_first():
            older = 0
            for order in level.orders.values():
                if order.owner != RECORDED:
                    yield order, better + older + listing.recorded.recorded_ahead(order)
                    older += order.remaining_lots
            better += level.lots
