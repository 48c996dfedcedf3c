"""The trading floor: runs one incoming order through a book and books everything that follows from it.

Every order passes here, whoever sent it: accounts, the house, and recorded liquidity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import uuid4

import msgspec

from trading.domain.matching import Lots, Order, Outcome, SelfTrade, Ticks, Withdrawal
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.events import LevelChanged, TickerChanged, Traded
from trading.paper.fills import book_fill
from trading.paper.guards import Guards
from trading.paper.listing import Listing, TradePrint, holder
from trading.paper.recorded import RECORDED
from trading.paper.records import FillRecord, OrderRecord
from trading.paper.restore import book_order
from trading.paper.steps import Steps

Changes = dict[tuple[BookSide, Ticks], Lots]


class Floor:
    """Executes orders and cancels. Call within a step."""

    def __init__(self, steps: Steps, listings: Mapping[str, Listing]) -> None:
        self._steps = steps
        self._ledger = steps.ledger
        self._listings = listings
        self.guards = Guards(steps, self.withdraw)

    def execute(
        self,
        listing: Listing,
        order: Order,
        tif: TimeInForce = TimeInForce.GTC,
        *,
        post_only: bool = False,
        self_trade: SelfTrade = SelfTrade.TAKER_AT_CROSS,
        admitted: Callable[[], OrderRecord] | None = None,
    ) -> Outcome:
        """Match an order. `admitted` is called once it is let in, and returns the account order to be booked.

        A refused order (post-only cross, fill-or-kill without volume) changes nothing.
        """
        self.expire(listing)
        refusal = listing.book.refusal(order, tif, post_only=post_only, self_trade=self_trade)
        if refusal is not None:
            return Outcome(refusal=refusal)
        return self._enter(listing, order, tif, self_trade, admitted() if admitted else None, {})

    def reenter(self, listing: Listing, amended: OrderRecord) -> Outcome:
        """Take a resting order off the book and enter it anew as amended: it loses its place, and may trade at once.
        A post-only order that would cross is canceled (PostOnlyCrossCancel)."""
        standing = listing.book.cancel(amended.order_id)
        if standing is None:
            raise KeyError(amended.order_id)
        listing.recorded.forget(amended.order_id)
        changes: Changes = {}
        self._count(changes, standing, -standing.remaining_lots)
        order = book_order(amended, amended.remaining_lots)
        if amended.post_only and listing.book.crosses(order):
            self._steps.book(amended)
            self.close_order(amended.order_id, "PostOnlyCrossCancel")
            self.tell_levels(listing, changes, amended)
            return Outcome(dropped=amended.remaining_lots)
        return self._enter(listing, order, TimeInForce.GTC, SelfTrade(amended.self_trade), amended, changes)

    def shrink(self, listing: Listing, order: OrderRecord, lots: Lots) -> None:
        """Let a resting order stand with so many lots fewer, in its place. The caller books the order."""
        listing.book.reduce(order.order_id, lots)
        if order.order_id not in listing.book.orders:
            listing.recorded.forget(order.order_id)
        self.tell_levels(listing, {(order.side, order.price_ticks): -lots}, order)

    def remove(self, listing: Listing, order_id: str, reason: str | None) -> Lots:
        """Take an order off the book; the lots that it still had (0 when it did not rest)."""
        order = listing.book.cancel(order_id)
        if order is None:
            return 0
        listing.recorded.forget(order_id)
        cause = self._ledger.order(order_id)
        self.close_order(order_id, reason)
        self.tell_levels(listing, {(order.side, order.price_ticks): -order.remaining_lots}, cause)
        return order.remaining_lots

    def withdraw(self, order: OrderRecord, reason: str | None) -> None:
        """End an open order of an account, whether it rests or is just being matched."""
        if not self.remove(self._listings[order.ticker], order.order_id, reason):
            self.close_order(order.order_id, reason)

    def expire(self, listing: Listing) -> None:
        """Cancel the orders whose time has come, so that none of them trades after it."""
        for order_id in listing.book.expired(self._steps.current.at_ms):
            self.remove(listing, order_id, "ExpiryCancel")

    def fill_resting(self, listing: Listing, order: Order, lots: Lots, trade_id: str) -> None:
        """A recorded print reached this resting order: it trades at its own price, without a public trade of
        its own. Nothing happens when the order has left the book meanwhile."""
        if order.order_id not in listing.book.orders:
            return
        at = (order.side, order.price_ticks)
        listing.book.reduce(order.order_id, lots)
        fills = self._fill_owner(listing, order, order.price_ticks, lots, trade_id, is_taker=False)
        if order.remaining_lots == 0:
            listing.recorded.forget(order.order_id)
        self.tell_levels(listing, {at: -lots}, None)
        self.guards.after_fills(fills)

    def enforce_margin(self, account_id: str) -> None:
        """Cancel an account's newest resting orders until the rest can be funded."""
        self.guards.enforce_margin(account_id)

    def _enter(
        self,
        listing: Listing,
        order: Order,
        tif: TimeInForce,
        self_trade: SelfTrade,
        cause: OrderRecord | None,
        changes: Changes,
    ) -> Outcome:
        """Book an order that is let in, match it and rest what is left of it.

        The guards look after each match, so that a sweep stops where money or a group's limit ends. A fill-or-kill
        order is matched whole first, for it must not end half filled.
        """
        outcome, fills, offered = Outcome(), list[FillRecord](), order.remaining_lots
        if cause is not None:
            self._steps.book(cause)
        for met in listing.book.meet(order, self_trade, outcome):
            self._count(changes, met.maker, -met.lots)
            if isinstance(met, Withdrawal):
                listing.recorded.forget(met.maker.order_id)
                self.close_order(met.maker.order_id, "SelfTradeCancel")
                continue
            fills += self._trade(listing, order, met.maker, met.lots)
            if tif is not TimeInForce.FOK:
                self.guards.after_fills(fills, order.order_id)
                fills.clear()
                if not self._goes_on(cause):
                    break
        listing.book.place(order, tif if self._goes_on(cause) else TimeInForce.IOC, outcome)
        if outcome.rested:
            self._count(changes, order, outcome.rested)
            if order.owner != RECORDED:
                listing.recorded.enqueue(order)
        elif cause is not None:
            self.close_order(cause.order_id, _reason(cause, outcome, offered))
        self.tell_levels(listing, changes, cause)
        self.guards.after_fills(fills)
        return outcome

    def _goes_on(self, cause: OrderRecord | None) -> bool:
        """Whether the incoming order is still open; the house's and recorded ones always are."""
        return cause is None or self._ledger.order(cause.order_id) is not None

    def tell_levels(self, listing: Listing, changes: Changes, cause: OrderRecord | None) -> None:
        """Tell the streams how levels changed, and that the ticker did."""
        at_ms = self._steps.current.at_ms
        for (side, price), delta in changes.items():
            if delta:
                self._steps.tell(LevelChanged(listing.ticker, side, price, delta, at_ms, cause))
        bid, _, ask, _ = listing.best()
        listing.candles.add_quote(at_ms, bid, ask, listing.open_interest)
        self._steps.tell(TickerChanged(listing.ticker))

    def print_trade(self, listing: Listing, trade: TradePrint) -> None:
        """Count and tell a public trade."""
        listing.note_trade(trade)
        self._steps.tell(Traded(trade))

    def _trade(self, listing: Listing, taker: Order, maker: Order, lots: Lots) -> list[FillRecord]:
        trade = TradePrint(
            str(uuid4()), listing.ticker, maker.price_ticks, lots, taker.side, self._steps.current.at_ms
        )
        if maker.owner == RECORDED:
            listing.recorded.consume(maker.side, maker.price_ticks, lots)
        elif maker.remaining_lots == 0:
            listing.recorded.forget(maker.order_id)
        buyer, seller = (taker, maker) if taker.side is BookSide.BID else (maker, taker)
        listing.note_holdings(self._holder(buyer), self._holder(seller), lots)
        self.print_trade(listing, trade)
        return [
            *self._fill_owner(listing, taker, trade.price_ticks, lots, trade.trade_id, is_taker=True),
            *self._fill_owner(listing, maker, trade.price_ticks, lots, trade.trade_id, is_taker=False),
        ]

    def _holder(self, order: Order) -> str:
        record = self._ledger.order(order.order_id)
        return order.owner if record is None else holder(record.account_id, record.subaccount)

    def _fill_owner(
        self, listing: Listing, order: Order, price: Ticks, lots: Lots, trade_id: str, *, is_taker: bool
    ) -> list[FillRecord]:
        """Book the fill of an account's order; orders of the house and of recordings have no books."""
        record = self._ledger.order(order.order_id)
        if record is None:
            return []
        return [book_fill(self._steps, listing, record, price, lots, trade_id, is_taker=is_taker)]

    def close_order(self, order_id: str, reason: str | None) -> None:
        record = self._ledger.order(order_id)
        if record is not None:
            self._steps.book(
                msgspec.structs.replace(
                    record,
                    status="canceled",
                    remaining_lots=0,
                    reason=reason,
                    updated_ms=self._steps.current.at_ms,
                )
            )

    @staticmethod
    def _count(changes: Changes, order: Order, delta: Lots) -> None:
        key = (order.side, order.price_ticks)
        changes[key] = changes.get(key, 0) + delta


def _reason(cause: OrderRecord, outcome: Outcome, offered: Lots) -> str | None:
    """Why what is left of an incoming order is dropped: the exchange has no word for an immediate-or-cancel's rest."""
    if outcome.stopped_by_self_trade:
        return "SelfTradeCancel"
    return "ReduceOnlyCancel" if offered < cause.remaining_lots else None
