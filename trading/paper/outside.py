"""What recordings and mirrors tell of the outside: their books and trades, let in among our orders.

While trading is paused here nothing may trade. The outside goes on: the changes of its books are held back as their net
per level, its trades are passed over, and when trading resumes the held-back changes come in at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from trading.domain.markets import MarketStatus
from trading.domain.matching import Lots, SelfTrade, Ticks, opposite
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.floor import Floor
from trading.paper.listing import OVER, Listing, TradePrint
from trading.paper.recorded import Key
from trading.paper.shards import Shards
from trading.paper.steps import Steps
from trading.paper.wire import to_ms
from trading.paper.world import Level


class Outside:
    """Lets recorded liquidity in. Call within a step."""

    def __init__(self, steps: Steps, floor: Floor, shards: Shards) -> None:
        self._steps = steps
        self._floor = floor
        self._shards = shards
        self._held_back: dict[str, dict[Key, Lots]] = {}

    def replace_book(self, listing: Listing, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """A recorded snapshot; after the close it changes nothing, as recordings run on for some messages."""
        if listing.status in OVER:
            return
        self._held_back.pop(listing.ticker, None)
        for side, price, delta in listing.recorded.differences(bids, asks):
            self.change(listing, side, price, delta)
        if self._trades(listing):
            listing.recorded.settle_places()
        listing.is_blind = False

    def lose_book(self, listing: Listing) -> None:
        """Nobody knows the recorded book any more: empty it, also while trading is paused, for nothing trades by that.
        Until the next snapshot the market takes no orders."""
        if listing.status in OVER:
            return
        self._held_back.pop(listing.ticker, None)
        places = listing.recorded.lots_before()
        for side, price, delta in listing.recorded.differences((), ()):
            self._let_in(listing, side, price, delta)
        listing.recorded.remember(places)
        listing.is_blind = True

    def change(self, listing: Listing, side: BookSide, price: Ticks, delta: Lots) -> None:
        """A recorded signed change of one level."""
        if listing.status in OVER:
            return
        if not self._trades(listing):
            held = self._held_back.setdefault(listing.ticker, {})
            held[side, price] = held.get((side, price), 0) + delta
            return
        self._let_in(listing, side, price, delta)

    def _let_in(self, listing: Listing, side: BookSide, price: Ticks, delta: Lots) -> None:
        taken = 0
        if delta > 0:
            order = listing.recorded.arriving(side, price, delta)
            if order is not None:
                taken = self._floor.execute(
                    listing, order, TimeInForce.IOC, self_trade=SelfTrade.PASS_OVER
                ).filled
        visible = listing.recorded.change(side, price, delta, taken)
        self._floor.tell_levels(listing, {(side, price): visible}, None)

    def trade(
        self,
        listing: Listing,
        price: Ticks,
        lots: Lots,
        taker_side: BookSide,
        trade_id: str | None,
        at: datetime | None,
    ) -> None:
        """A recorded print, which fills the orders of ours that it reaches."""
        if listing.status is MarketStatus.INACTIVE or not self._shards.trades(listing.exchange_index):
            return
        maker_side, identity = opposite(taker_side), trade_id or str(uuid4())
        at_ms = self._steps.current.at_ms if at is None else to_ms(at)
        self._floor.expire(listing)
        self._floor.print_trade(listing, TradePrint(identity, listing.ticker, price, lots, taker_side, at_ms))
        for order, reached in list(listing.recorded.reached(maker_side, price, lots)):
            self._floor.fill_resting(listing, order, reached, identity)
        visible = listing.recorded.printed(maker_side, price, lots)
        self._floor.tell_levels(listing, {(maker_side, price): visible}, None)

    def resume(self, listing: Listing) -> None:
        """Trading may go on: let in what was held back, decreases first so that no book is crossed in passing."""
        if not self._trades(listing):
            return
        held = self._held_back.pop(listing.ticker, {})
        for (side, price), delta in sorted(held.items(), key=lambda item: item[1]):
            if delta:
                self.change(listing, side, price, delta)
        if held:
            listing.recorded.settle_places()

    def forget(self, listing: Listing) -> None:
        """The market's book has been emptied: what was held back belonged to the old one."""
        self._held_back.pop(listing.ticker, None)

    def _trades(self, listing: Listing) -> bool:
        paused = listing.status is MarketStatus.INACTIVE
        return not paused and self._shards.trades(listing.exchange_index)
