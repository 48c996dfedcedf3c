"""The answers of order writes (API.md 11): counts and averages, never a status or a whole order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from trading.domain.matching import Lots
from trading.domain.orders import BookSide
from trading.paper.records import ZERO, OrderRecord
from trading.paper.refusals import Refused
from trading.paper.wire import count_fp, lots_decimal, money

Body = dict[str, Any]

_PRICE_DECIMALS = Decimal("0.0001")
_NO_FILLS: Body = {"average_fill_price": None, "average_fee_paid": None}
_NOT_CREATED: Body = {"fill_count": None, "remaining_count": None, "ts_ms": None, **_NO_FILLS}


def created(order: OrderRecord) -> Body:
    """Of a create: the averages only where something filled."""
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "fill_count": count_fp(order.filled_lots),
        "remaining_count": count_fp(order.remaining_lots),
        **_averages(None, order),
        "ts_ms": order.updated_ms,
    }


def amended(before: OrderRecord, after: OrderRecord) -> Body:
    """Of an amend: its own fills, and the counts only where a fill or another size came of it."""
    filled = after.filled_lots - before.filled_lots
    told = filled or after.remaining_lots != before.remaining_lots
    return {
        "order_id": after.order_id,
        "client_order_id": after.client_order_id,
        "remaining_count": count_fp(after.remaining_lots) if told else None,
        "fill_count": count_fp(filled) if told else None,
        **_NO_FILLS,
        **_averages(before, after),
        "ts_ms": after.updated_ms,
    }


def decreased(order: OrderRecord) -> Body:
    """Of a decrease."""
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "remaining_count": count_fp(order.remaining_lots),
        "ts_ms": order.updated_ms,
    }


def canceled(order: OrderRecord, reduced: Lots) -> Body:
    """Of a cancel: what was taken off."""
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "reduced_by": count_fp(reduced),
        "ts_ms": order.updated_ms,
    }


def created_item(order: OrderRecord) -> Body:
    """Of one create in a batch."""
    return {**_NO_FILLS, **created(order), "error": None}


def refused_item(client_order_id: str, refused: Refused) -> Body:
    """Of one create in a batch that was refused; the order id is absent."""
    return {"client_order_id": client_order_id, **_NOT_CREATED, "error": _flat(refused)}


def canceled_item(order: OrderRecord, reduced: Lots) -> Body:
    """Of one cancel in a batch."""
    return {**canceled(order, reduced), "error": None}


def kept_item(order_id: str, refused: Refused) -> Body:
    """Of one cancel in a batch that was refused."""
    nothing = {"client_order_id": None, "reduced_by": count_fp(0), "ts_ms": None}
    return {"order_id": order_id, **nothing, "error": _flat(refused)}


def _flat(refused: Refused) -> Body:
    """A refusal as the `ErrorResponse` of a batch's item."""
    error = refused.body.get("error", refused.body)
    return (
        dict(error) if "code" in error else {"code": "bad_request", "message": str(error.get("msg", error))}
    )


def _averages(before: OrderRecord | None, after: OrderRecord) -> Body:
    """Average price and fee per contract of the fills as a taker that came between; nothing without a fill."""
    filled = after.filled_lots - (before.filled_lots if before else 0)
    if not filled:
        return {}
    cost = after.taker_cost - (before.taker_cost if before else ZERO)
    fees = after.taker_fees - (before.taker_fees if before else ZERO)
    count = lots_decimal(filled)
    own = cost / count
    return {
        "average_fill_price": _price_text(own if after.side is BookSide.BID else 1 - own),
        "average_fee_paid": money(fees / count),
    }


def _price_text(price: Decimal) -> str:
    """Four decimals as every price, six where an average needs them."""
    if price == price.quantize(_PRICE_DECIMALS):
        return f"{price.quantize(_PRICE_DECIMALS):f}"
    return money(price)
