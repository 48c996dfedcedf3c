"""How accounts' records look on the wire: REST objects and the bodies of the private channels (API.md 11, 12,
14)."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import NAMESPACE_URL, uuid5

from trading.domain.matching import TICKS_PER_DOLLAR
from trading.paper.definitions import Payload
from trading.paper.events import GroupChanged
from trading.paper.ledger import Account
from trading.paper.positions import Position
from trading.paper.records import ZERO, FeeChange, FillRecord, OrderRecord, SettlementRecord, TransferRecord
from trading.paper.wire import (
    balance_text,
    cents,
    count_fp,
    direction,
    dollars,
    json_number,
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
        "exchange_index": order.exchange_index,
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
        "subaccount_number": order.subaccount,
        "created_time": rfc3339_ms(order.created_ms),
    }
    if order.order_group_id is not None:
        shown["order_group_id"] = order.order_group_id
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
        **{name: value for name, value in _order_common(order).items() if name != "action"},  # in REST alone
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
        "exchange_index": fill.exchange_index,
        **direction(fill.side),
        **legacy_direction(fill.side),
        "count_fp": count_fp(fill.lots),
        "yes_price_dollars": dollars(fill.price_ticks),
        "no_price_dollars": dollars(TICKS_PER_DOLLAR - fill.price_ticks),
        "is_taker": fill.is_taker,
        "fee_cost": money(fill.fee),
        "created_time": rfc3339_ms(fill.at_ms),
        "ts": fill.at_ms // 1000,
        "subaccount_number": fill.subaccount,
    }


def fill_message(fill: FillRecord) -> Payload:
    """The body of `fill`: it does carry the client order id, and the position after it."""
    return {
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "client_order_id": fill.client_order_id,
        "market_ticker": fill.ticker,
        "exchange_index": fill.exchange_index,
        "is_taker": fill.is_taker,
        **direction(fill.side),
        **legacy_direction(fill.side),
        "purchased_side": outcome_side(fill.side),
        "yes_price_dollars": dollars(fill.price_ticks),
        "count_fp": count_fp(fill.lots),
        "fee_cost": money(fill.fee),
        "post_position_fp": count_fp(fill.post_position_lots),
        "subaccount": fill.subaccount,
        "ts": fill.at_ms // 1000,
        "ts_ms": fill.at_ms,
    }


def position_view(position: Position) -> Payload:
    """The REST MarketPosition; `position_fp` is signed."""
    return {
        "ticker": position.ticker,
        "exchange_index": position.exchange_index,
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
        "subaccount": position.subaccount,
    }


def group_message(event: GroupChanged) -> Payload:
    """The body of `order_group_updates`: the limit only where it was set."""
    body = {"event_type": event.kind, "order_group_id": event.group.group_id, "ts_ms": event.at_ms}
    if event.kind in {"created", "limit_updated"}:
        body["contracts_limit_fp"] = count_fp(event.group.limit_lots)
    return body


def settlement_view(settlement: SettlementRecord) -> Payload:
    """The REST Settlement: `revenue` and `value` are whole cents."""
    return {
        "ticker": settlement.ticker,
        "event_ticker": settlement.event_ticker,
        "exchange_index": settlement.exchange_index,
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


def subaccount_transfer_view(transfer: TransferRecord) -> Payload:
    """The wire's SubaccountTransfer: whole cents."""
    return {
        "transfer_id": transfer.transfer_id,
        "from_subaccount": transfer.from_subaccount,
        "to_subaccount": transfer.to_subaccount,
        "amount_cents": cents(transfer.amount),
        "created_ts": transfer.created_ms // 1000,
        "exchange_index": transfer.from_shard,
    }


def shard_transfer_view(transfer: TransferRecord) -> Payload:
    """The wire's IntraExchangeInstanceTransfer: dollars."""
    shown: Payload = {
        "transfer_id": transfer.transfer_id,
        "source": "event_contract",
        "destination": "event_contract",
        "source_exchange_shard": transfer.from_shard,
        "destination_exchange_shard": transfer.to_shard,
        "amount": balance_text(transfer.amount),
        "status": transfer.status,
        "created_ts": transfer.created_ms // 1000,
    }
    if transfer.client_transfer_id:
        shown["client_transfer_id"] = transfer.client_transfer_id
    return shown


def series_fee_change_view(change: FeeChange) -> Payload:
    """The wire's SeriesFeeChange."""
    return {
        "id": change.change_id,
        "series_ticker": change.series_ticker,
        "fee_type": change.fee_type,
        "fee_multiplier": json_number(change.multiplier),
        "scheduled_ts": rfc3339_ms(change.scheduled_ms),
    }


def event_fee_change_view(change: FeeChange) -> Payload:
    """The wire's EventFeeChange: null for a cleared override."""
    return {
        "id": change.change_id,
        "event_ticker": change.event_ticker,
        "series_ticker": change.series_ticker,
        "fee_type_override": change.fee_type,
        "fee_multiplier_override": json_number(change.multiplier),
        "scheduled_ts": rfc3339_ms(change.scheduled_ms),
    }


def deposit_view(account: Account) -> Payload:
    """The wire's Deposit: the money that an account was opened with."""
    at_ts = account.opened_ms // 1000
    return {
        "id": str(uuid5(NAMESPACE_URL, f"paper-deposit:{account.account_id}")),
        "status": "applied",
        "type": "wire",
        "amount_cents": cents(account.opening),
        "fee_cents": 0,
        "created_ts": at_ts,
        "finalized_ts": at_ts,
    }
