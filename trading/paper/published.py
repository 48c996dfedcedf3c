"""The books as the streams have told them: snapshots are taken here, so that a snapshot and the deltas after
it always fit.

The engine's own book may be ahead of this one for the moment that the journal needs to become durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide
from trading.paper.definitions import Payload
from trading.paper.listing import Listing
from trading.paper.wire import count_fp, dollars

Pairs = list[list[str]]


@dataclass(slots=True)
class PublishedBook:
    """Totals per level, YES scale, and the market's clock."""

    market_id: str
    clock: int
    bids: dict[Ticks, Lots] = field(default_factory=dict)
    asks: dict[Ticks, Lots] = field(default_factory=dict)

    @classmethod
    def of(cls, listing: Listing, clock: int) -> PublishedBook:
        """The book as it stands now: only right while no change of it is on its way."""
        bids, asks = (dict(listing.book.levels(side)) for side in (BookSide.BID, BookSide.ASK))
        return cls(listing.market_id, clock, bids, asks)

    def change(self, side: BookSide, price_ticks: Ticks, delta: Lots) -> None:
        levels = self.bids if side is BookSide.BID else self.asks
        total = levels.get(price_ticks, 0) + delta
        if total:
            levels[price_ticks] = total
        else:
            levels.pop(price_ticks, None)
        self.clock += 1

    def sides(self, *, use_yes_price: bool = False, depth: int = 0) -> tuple[Pairs, Pairs]:
        """YES bids and NO bids as [price, count] pairs, ascending, best last; the best `depth` levels or all (0).
        NO bids stand on the NO scale unless `use_yes_price`."""
        yes = [[dollars(price), count_fp(self.bids[price])] for price in sorted(self.bids)]
        best_last = sorted(self.asks, reverse=True)
        no = [
            [dollars(price if use_yes_price else TICKS_PER_DOLLAR - price), count_fp(self.asks[price])]
            for price in best_last
        ]
        return yes[-depth:] if depth else yes, no[-depth:] if depth else no

    def snapshot(self, ticker: str, *, use_yes_price: bool) -> Payload:
        """The body of `orderbook_snapshot`: the key of an empty side is absent."""
        yes, no = self.sides(use_yes_price=use_yes_price)
        body: Payload = {"market_ticker": ticker, "market_id": self.market_id, "clock": self.clock}
        if yes:
            body["yes_dollars_fp"] = yes
        if no:
            body["no_dollars_fp"] = no
        return body
