"""The booking of one fill: fee by the market's schedule, money, position, and the order that it belongs to."""

from __future__ import annotations

import msgspec

from trading.domain.fees import charge
from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide
from trading.paper.events import Filled
from trading.paper.listing import Listing
from trading.paper.positions import own_price, revenue
from trading.paper.records import FillRecord, OrderRecord
from trading.paper.steps import Steps
from trading.paper.wire import lots_decimal, ticks_decimal


def book_fill(
    steps: Steps,
    listing: Listing,
    record: OrderRecord,
    price: Ticks,
    lots: Lots,
    trade_id: str,
    *,
    is_taker: bool,
) -> FillRecord:
    """Book and tell that an account's order was executed. Call within a step."""
    before = steps.ledger.purse_of(record).position_lots(listing.ticker)
    gain = revenue(before, record.side, price, lots)
    model = listing.fees.trade_fee(ticks_decimal(price), lots_decimal(lots), is_taker=is_taker)
    charged = charge(model, gain, record.accumulator)
    fill = FillRecord(
        trade_id=trade_id,
        order_id=record.order_id,
        client_order_id=record.client_order_id,
        account_id=record.account_id,
        ticker=listing.ticker,
        event_ticker=listing.event_ticker,
        side=record.side,
        price_ticks=price,
        lots=lots,
        is_taker=is_taker,
        fee=charged.fee,
        change=charged.change,
        post_position_lots=before + (lots if record.side is BookSide.BID else -lots),
        at_ms=steps.current.at_ms,
        subaccount=record.subaccount,
        exchange_index=record.exchange_index,
        order_group_id=record.order_group_id,
    )
    steps.book(fill)
    steps.tell(Filled(fill))
    steps.book(filled_order(record, fill, msgspec.structs.replace(record, accumulator=charged.accumulator)))
    return fill


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
