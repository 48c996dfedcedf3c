"""The trading floor: runs one incoming order through a book and books everything that follows from it.

Every order passes here, whoever sent it: accounts, the house, and recorded liquidity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import uuid4

import msgspec

from trading.domain.fees import charge
from trading.domain.matching import Lots, Order, Outcome, SelfTrade, Ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.events import Filled, LevelChanged, TickerChanged, Traded
from trading.paper.listing import Listing, TradePrint
from trading.paper.positions import own_price, revenue
from trading.paper.recorded import RECORDED
from trading.paper.records import FillRecord, OrderRecord
from trading.paper.steps import Steps
from trading.paper.wire import lots_decimal, ticks_decimal

Changes = dict[tuple[BookSide, Ticks], Lots]


class Floor:
    """Executes orders and cancels. Call within a step."""

    def __init__(self, steps: Steps, listings: Mapping[str, Listing]) -> None:
        self._steps = steps
        self._ledger = steps.ledger
        self._listings = listings

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
        outcome = listing.book.submit(order, tif, post_only=post_only, self_trade=self_trade)
        if outcome.refusal is not None:
            return outcome
        cause = admitted() if admitted else None
        if cause is not None:
            self._steps.book(cause)
        changes: Changes = {}
        for maker, lots in outcome.canceled_makers:
            self._count(changes, maker, -lots)
            self.close_order(maker.order_id, "SelfTradeCancel")
        for match in outcome.matches:
            self._count(changes, match.maker, -match.lots)
            self._trade(listing, order, match.maker, match.lots)
        if outcome.rested:
            self._count(changes, order, outcome.rested)
            if order.owner != RECORDED:
                listing.recorded.enqueue(order)
        if cause is not None:
            self._finish(cause, outcome)
        self.tell_levels(listing, changes, cause)
        for account_id in {order.owner, *(match.maker.owner for match in outcome.matches)}:
            self.enforce_margin(account_id)
        return outcome

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

    def fill_resting(self, listing: Listing, order: Order, lots: Lots, trade_id: str) -> None:
        """A recorded print reached this resting order: it trades at its own price, without a public trade of
        its own."""
        at = (order.side, order.price_ticks)
        listing.book.reduce(order.order_id, lots)
        self._fill_owner(listing, order, order.price_ticks, lots, trade_id, is_taker=False)
        if order.remaining_lots == 0:
            listing.recorded.forget(order.order_id)
        self.tell_levels(listing, {at: -lots}, None)
        self.enforce_margin(order.owner)

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

    def enforce_margin(self, owner: str) -> None:
        """Cancel an account's newest resting orders until the rest can be funded (API.md 12: MarginCancel)."""
        account = self._ledger.accounts.get(owner)
        if account is None or account.available >= 0:
            return
        for order in sorted(account.resting(), key=lambda order: order.sequence, reverse=True):
            self.remove(self._listings[order.ticker], order.order_id, "MarginCancel")
            if account.available >= 0:
                return

    def _trade(self, listing: Listing, taker: Order, maker: Order, lots: Lots) -> None:
        trade = TradePrint(
            str(uuid4()), listing.ticker, maker.price_ticks, lots, taker.side, self._steps.current.at_ms
        )
        if maker.owner == RECORDED:
            listing.recorded.consume(maker.side, maker.price_ticks, lots)
        elif maker.remaining_lots == 0:
            listing.recorded.forget(maker.order_id)
        listing.note_holdings(taker, maker, lots)
        self.print_trade(listing, trade)
        self._fill_owner(listing, taker, trade.price_ticks, lots, trade.trade_id, is_taker=True)
        self._fill_owner(listing, maker, trade.price_ticks, lots, trade.trade_id, is_taker=False)

    def _fill_owner(
        self, listing: Listing, order: Order, price: Ticks, lots: Lots, trade_id: str, *, is_taker: bool
    ) -> None:
        """Book the fill of an account's order; orders of the house and of recordings have no books."""
        record = self._ledger.order(order.order_id)
        if record is None:
            return
        account = self._ledger.accounts[record.account_id]
        before = account.position_lots(listing.ticker)
        gain = revenue(before, order.side, price, lots)
        model = listing.fees.trade_fee(ticks_decimal(price), lots_decimal(lots), is_taker=is_taker)
        charged = charge(model, gain, record.accumulator)
        fill = FillRecord(
            trade_id=trade_id,
            order_id=record.order_id,
            client_order_id=record.client_order_id,
            account_id=record.account_id,
            ticker=listing.ticker,
            event_ticker=listing.event_ticker,
            side=order.side,
            price_ticks=price,
            lots=lots,
            is_taker=is_taker,
            fee=charged.fee,
            change=charged.change,
            post_position_lots=before + (lots if order.side is BookSide.BID else -lots),
            at_ms=self._steps.current.at_ms,
        )
        self._steps.book(fill)
        self._steps.tell(Filled(fill))
        updated = filled_order(record, fill, msgspec.structs.replace(record, accumulator=charged.accumulator))
        self._steps.book(updated)

    def _finish(self, cause: OrderRecord, outcome: Outcome) -> None:
        """The last word on an incoming order: what neither filled nor rests is canceled."""
        record = self._ledger.order(cause.order_id)
        if record is not None and outcome.rested == 0:
            reason = "SelfTradeCancel" if outcome.stopped_by_self_trade else None
            self.close_order(record.order_id, reason)

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


def filled_order(before: OrderRecord, fill: FillRecord, order: OrderRecord) -> OrderRecord:
    """The order after a fill: counts, costs and fees by role; executed when nothing remains."""
    cost = own_price(fill.side, fill.price_ticks) * lots_decimal(fill.lots)
    remaining = before.remaining_lots - fill.lots
    role = (
        {"taker_cost": order.taker_cost + cost, "taker_fees": order.taker_fees + fill.fee}
        if fill.is_taker
        else {"maker_cost": order.maker_cost + cost, "maker_fees": order.maker_fees + fill.fee}
    )
    return msgspec.structs.replace(
        order,
        **role,
        filled_lots=before.filled_lots + fill.lots,
        remaining_lots=remaining,
        status="resting" if remaining else "executed",
        reason="Trade",
        updated_ms=fill.at_ms,
    )
