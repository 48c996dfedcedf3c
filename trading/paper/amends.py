"""Changes of a resting order: decrease, and amend of price, size, expiry and client order id (API.md 11)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from trading.domain.matching import Lots, SelfTrade, Ticks
from trading.domain.orders import BookSide
from trading.paper.exchange import Exchange
from trading.paper.gates import require_cancels, require_trading
from trading.paper.listing import Listing
from trading.paper.records import ZERO, OrderRecord
from trading.paper.refusals import invalid_order, nested, not_found
from trading.paper.restore import book_order


@dataclass(frozen=True, slots=True)
class Amendment:
    """What an order shall be. `total_lots` is what it has filled plus what shall rest. `expires_ms` is None for no
    expiry; `keeps_expiry` says to leave it."""

    side: BookSide
    price_ticks: Ticks
    total_lots: Lots
    client_order_id: str = ""  # the one it must have now, when given
    updated_client_order_id: str = ""
    expires_ms: int | None = None
    keeps_expiry: bool = True


def decrease(exchange: Exchange, order: OrderRecord, *, by: Lots | None, to: Lots | None) -> OrderRecord:
    """Take lots off a resting order, which keeps its place; at nothing left it is canceled. Allowed wherever a cancel
    is. Raises Refused: 400 for more than rests, since the order is not what the sender believes."""
    listing = require_cancels(exchange, order)
    lots = by if by is not None else order.remaining_lots - (to or 0)
    if not 0 <= lots <= order.remaining_lots:
        raise nested(400, "invalid_order_size", "invalid order size", "the order rests with fewer contracts")
    with exchange.steps.step() as step:
        if lots:
            left = order.remaining_lots - lots
            changed = msgspec.structs.replace(
                order,
                remaining_lots=left,
                status="resting" if left else "canceled",
                reason="Decrease",
                updated_ms=step.at_ms,
            )
            exchange.floor.shrink(listing, order, lots)
            exchange.steps.book(changed)
    return exchange.ledger.accounts[order.account_id].orders[order.order_id]


def amend(exchange: Exchange, order: OrderRecord, wanted: Amendment) -> OrderRecord:
    """Change a resting order. A lower size and another expiry keep its place; another price or a higher size puts it
    at the back, and it trades at once where it crosses. Raises Refused; then nothing has changed."""
    _require_same_order(order, wanted)
    if not order.is_open:
        raise not_found("order")
    listing = exchange.listing(order.ticker)
    require_trading(exchange, listing)
    known = exchange.ledger.accounts[order.account_id].orders
    with exchange.steps.step():
        exchange.floor.expire(listing)
        order = known[order.order_id]
        if not order.is_open:
            raise not_found("order")
        _change(exchange, listing, order, _amended(exchange, listing, order, wanted))
    return known[order.order_id]


def _change(exchange: Exchange, listing: Listing, order: OrderRecord, amended: OrderRecord) -> None:
    if amended.price_ticks == order.price_ticks and amended.remaining_lots <= order.remaining_lots:
        _change_in_place(exchange, listing, order, amended)
        return
    amended = msgspec.structs.replace(amended, sequence=exchange.ledger.last_sequence + 1)
    _require_enterable(exchange, listing, order, amended)
    exchange.floor.reenter(listing, amended)


def _require_same_order(order: OrderRecord, wanted: Amendment) -> None:
    if wanted.side is not order.side:
        raise nested(400, "order_side_mismatch", "order side mismatch")
    if wanted.client_order_id and wanted.client_order_id != order.client_order_id:
        raise nested(
            400, "order_id_and_client_order_id_mismatch", "order id and client order id do not match"
        )


def _amended(exchange: Exchange, listing: Listing, order: OrderRecord, wanted: Amendment) -> OrderRecord:
    """The order as it shall be. Raises Refused."""
    if not listing.on_grid(wanted.price_ticks):
        raise nested(400, "invalid_price", "invalid price", "not on the price grid of the market")
    if wanted.total_lots <= order.filled_lots:
        # The engine's INVALID_AMEND_QTY_FOR_ORDER: an order is ended by a cancel or a decrease, not by an amend.
        raise nested(400, "invalid_amend_qty_for_order", "invalid order size", "no more than is filled")
    name = wanted.updated_client_order_id or order.client_order_id
    spent = exchange.ledger.accounts[order.account_id].spent_ids
    if name != order.client_order_id and name in spent:
        raise nested(409, "order_already_exists", "order already exists")
    now_ms = exchange.now_ms()
    if not wanted.keeps_expiry and wanted.expires_ms is not None and wanted.expires_ms <= now_ms:
        raise invalid_order("expiration_time is in the past")
    return msgspec.structs.replace(
        order,
        price_ticks=wanted.price_ticks,
        initial_lots=wanted.total_lots,
        remaining_lots=wanted.total_lots - order.filled_lots,
        client_order_id=name,
        expires_ms=order.expires_ms if wanted.keeps_expiry else wanted.expires_ms,
        reason="Amend",
        updated_ms=now_ms,
    )


def _require_enterable(
    exchange: Exchange, listing: Listing, order: OrderRecord, amended: OrderRecord
) -> None:
    """Money for the order in place of what it was, and no match with the account itself: the engine refuses a
    self-crossing amend (SELF_CROSS_ATTEMPT), unless the order's prevention cancels the resting one."""
    ledger = exchange.ledger
    needed = ledger.needed(ledger.accounts[order.account_id], amended, listing.fees)
    if needed > max(ledger.purse_of(order).available, ZERO):
        raise nested(400, "insufficient_balance", "insufficient balance")
    stops = amended.self_trade == SelfTrade.TAKER_AT_CROSS
    if stops and listing.book.crosses_itself(book_order(amended, amended.remaining_lots)):
        raise nested(400, "self_cross_attempt", "the order would trade with one of the same member")


def _change_in_place(exchange: Exchange, listing: Listing, order: OrderRecord, amended: OrderRecord) -> None:
    fewer = order.remaining_lots - amended.remaining_lots
    if fewer:
        exchange.floor.shrink(listing, order, fewer)
    if amended.expires_ms != order.expires_ms:
        listing.book.expire_at(order.order_id, amended.expires_ms)
    exchange.steps.book(amended)
