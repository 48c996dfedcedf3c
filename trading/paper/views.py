"""How accounts' records look on the wire: REST objects and the bodies of the private channels (API.md 11, 12,
14)."""

from __future__ import annotations

from collections.abc import Iterable

from trading.domain.matching import TICKS_PER_DOLLAR
from trading.paper.definitions import EXCHANGE_INDEX, Payload
from trading.paper.positions import Position
from trading.paper.records import ZERO, FillRecord, OrderRecord, SettlementRecord
from trading.paper.wire import (
    cents,
    count_fp,
    direction,
    dollars,
    legacy_direction,
    money,
    outcome_side,
    rfc3339_ms,
)


def _order_common(order: OrderRecord) -> Payload:
    shown: Payload = {
        "order_id": order.order_id,
        "user_id": order.account_id,
        "client_order_id": order.client_order_id,
        "ticker": order.ticker,
        "exchange_index": EXCHANGE_INDEX,
        **direction(order.side),
        **legacy_direction(order.side),
        "status": order.status,
        "yes_price_dollars": dollars(order.price_ticks),
        "initial_count_fp": count_fp(order.initial_lots),
        "remaining_count_fp": count_fp(order.remaining_lots),
        "fill_count_fp": count_fp(order.filled_lots),
        "taker_fill_cost_dollars": money(order.taker_cost),
        "maker_fill_cost_dollars": money(order.maker_cost),
        "taker_fees_dollars": money(order.taker_fees),
        "maker_fees_dollars": money(order.maker_fees),
        "self_trade_prevention_type": order.self_trade,
        "subaccount_number": 0,
        "created_time": rfc3339_ms(order.created_ms),
    }
    if order.expires_ms is not None:
        shown["expiration_time"] = rfc3339_ms(order.expires_ms)
    return shown


def order_view(order: OrderRecord) -> Payload:
    """The REST Order."""
    return {
        **_order_common(order),
        "type": "limit",
        "no_price_dollars": dollars(TICKS_PER_DOLLAR - order.price_ticks),
        "last_update_time": rfc3339_ms(order.updated_ms),
        "cancel_order_on_pause": order.cancel_on_pause,
    }


def order_message(order: OrderRecord) -> Payload:
    """The body of `user_order`."""
    body = {
        **_order_common(order),
        "is_yes": outcome_side(order.side) == "yes",
        "created_ts_ms": order.created_ms,
        "last_updated_ts_ms": order.updated_ms,
    }
    if order.expires_ms is not None:
        body["expiration_ts_ms"] = order.expires_ms
    if order.reason is not None:
        body["last_update_reason"] = order.reason
    return body


def fill_view(fill: FillRecord) -> Payload:
    """The REST Fill: it does not carry the client order id."""
    return {
        "fill_id": fill.trade_id,
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "ticker": fill.ticker,
        "market_ticker": fill.ticker,
        "exchange_index": EXCHANGE_INDEX,
        **direction(fill.side),
        **legacy_direction(fill.side),
        "count_fp": count_fp(fill.lots),
        "yes_price_dollars": dollars(fill.price_ticks),
        "no_price_dollars": dollars(TICKS_PER_DOLLAR - fill.price_ticks),
        "is_taker": fill.is_taker,
        "fee_cost": money(fill.fee),
        "created_time": rfc3339_ms(fill.at_ms),
        "ts": fill.at_ms // 1000,
        "subaccount_number": 0,
    }


def fill_message(fill: FillRecord) -> Payload:
    """The body of `fill`: it does carry the client order id, and the position after it."""
    return {
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "client_order_id": fill.client_order_id,
        "market_ticker": fill.ticker,
        "exchange_index": EXCHANGE_INDEX,
        "is_taker": fill.is_taker,
        **direction(fill.side),
        **legacy_direction(fill.side),
        "purchased_side": outcome_side(fill.side),
        "yes_price_dollars": dollars(fill.price_ticks),
        "count_fp": count_fp(fill.lots),
        "fee_cost": money(fill.fee),
        "post_position_fp": count_fp(fill.post_position_lots),
        "subaccount": 0,
        "ts": fill.at_ms // 1000,
        "ts_ms": fill.at_ms,
    }


def position_view(position: Position) -> Payload:
    """The REST MarketPosition; `position_fp` is signed."""
    return {
        "ticker": position.ticker,
        "exchange_index": EXCHANGE_INDEX,
        "position_fp": count_fp(position.lots),
        "total_traded_dollars": money(position.traded),
        "market_exposure_dollars": money(position.cost),
        "realized_pnl_dollars": money(position.realized),
        "fees_paid_dollars": money(position.fees),
        "last_updated_ts": rfc3339_ms(position.updated_ms),
    }


def event_position_view(event_ticker: str, positions: Iterable[Position]) -> Payload:
    """The REST EventPosition: the sum over an event's markets."""
    held = list(positions)
    return {
        "event_ticker": event_ticker,
        "total_cost_dollars": money(sum((p.traded for p in held), ZERO)),
        "total_cost_shares_fp": count_fp(sum(p.traded_lots for p in held)),
        "event_exposure_dollars": money(sum((p.cost for p in held), ZERO)),
        "realized_pnl_dollars": money(sum((p.realized for p in held), ZERO)),
        "fees_paid_dollars": money(sum((p.fees for p in held), ZERO)),
    }


def position_message(position: Position) -> Payload:
    """The body of `market_position`."""
    return {
        "user_id": position.account_id,
        "market_ticker": position.ticker,
        "position_fp": count_fp(position.lots),
        "position_cost_dollars": money(position.cost),
        "realized_pnl_dollars": money(position.realized),
        "fees_paid_dollars": money(position.fees),
        "position_fee_cost_dollars": money(position.cost_fees),
        "volume_fp": count_fp(position.traded_lots),
        "subaccount": 0,
    }


def settlement_view(settlement: SettlementRecord) -> Payload:
    """The REST Settlement: `revenue` and `value` are whole cents."""
    return {
        "ticker": settlement.ticker,
        "event_ticker": settlement.event_ticker,
        "exchange_index": EXCHANGE_INDEX,
        "market_result": settlement.result,
        "yes_count_fp": count_fp(settlement.yes_lots),
        "yes_total_cost_dollars": money(settlement.yes_cost),
        "no_count_fp": count_fp(settlement.no_lots),
        "no_total_cost_dollars": money(settlement.no_cost),
        "revenue": cents(settlement.revenue),
        "settled_time": rfc3339_ms(settlement.at_ms),
        "fee_cost": money(settlement.fees),
        "value": settlement.value_ticks * 100 // TICKS_PER_DOLLAR,
    }
