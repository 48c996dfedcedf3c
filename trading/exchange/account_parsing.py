"""From the wire's words to ours: one account's balance, positions, fills, settlements and orders.

Raises UnreadableAnswer (E606) on whatever cannot be a true value; see `values` for the single ones.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from trading.exchange import account_messages as messages
from trading.exchange import account_reports, order_messages, reports, values

_CENTS: Final = Decimal(100)


def balance(told: messages.Balance) -> reports.BalanceReport:
    return reports.BalanceReport(
        cash=values.number(told.balance_dollars),
        portfolio_value=told.portfolio_value / _CENTS,
        updated_at=values.from_seconds(told.updated_ts),
        cash_by_shard=tuple(
            (shard.exchange_index, values.number(shard.balance)) for shard in told.balance_breakdown
        ),
    )


def position(told: messages.MarketPosition) -> reports.PositionReport:
    return reports.PositionReport(
        ticker=told.ticker,
        quantity=values.number(told.position_fp),
        exposure=values.number(told.market_exposure_dollars),
        realized_pnl=values.number(told.realized_pnl_dollars),
        fees_paid=values.number(told.fees_paid_dollars),
        total_traded=values.number(told.total_traded_dollars),
        updated_at=values.moment(told.last_updated_ts),
        exchange_index=told.exchange_index,
    )


def fill(told: messages.Fill) -> reports.FillReport:
    at = values.optional_moment(told.created_time)
    return reports.FillReport(
        trade_id=told.trade_id,
        order_id=told.order_id,
        ticker=told.ticker,
        book_side=values.direction(told.book_side, told.outcome_side),
        price=values.price(told.yes_price_dollars),
        quantity=values.count(told.count_fp),
        fee=values.number(told.fee_cost),
        is_taker=told.is_taker,
        at=at if at is not None or told.ts is None else values.from_seconds(told.ts),
        exchange_index=told.exchange_index,
        subaccount=told.subaccount_number,
    )


def settlement(told: messages.Settlement) -> reports.SettlementReport:
    return reports.SettlementReport(
        ticker=told.ticker,
        event_ticker=told.event_ticker,
        result=values.result(told.market_result),
        yes_quantity=values.count(told.yes_count_fp),
        no_quantity=values.count(told.no_count_fp),
        yes_cost=values.number(told.yes_total_cost_dollars),
        no_cost=values.number(told.no_total_cost_dollars),
        payout=told.revenue / _CENTS,
        fee=values.number(told.fee_cost),
        value=None if told.value is None else told.value / _CENTS,
        settled_at=values.moment(told.settled_time),
        exchange_index=told.exchange_index,
    )


def order(told: messages.Order) -> reports.OrderReport:
    filled, initial = values.count(told.fill_count_fp), values.count(told.initial_count_fp)
    return reports.OrderReport(
        order_id=told.order_id,
        client_order_id=told.client_order_id,
        ticker=told.ticker,
        book_side=values.direction(told.book_side, told.outcome_side),
        state=values.order_state(told.status, filled, initial),
        price=values.price(told.yes_price_dollars),
        initial_quantity=initial,
        filled_quantity=filled,
        remaining_quantity=values.count(told.remaining_count_fp),
        fill_cost=values.number(told.taker_fill_cost_dollars) + values.number(told.maker_fill_cost_dollars),
        fees=values.number(told.taker_fees_dollars) + values.number(told.maker_fees_dollars),
        created_at=values.optional_moment(told.created_time),
        updated_at=values.optional_moment(told.last_update_time),
        expires_at=values.optional_moment(told.expiration_time),
        exchange_index=told.exchange_index,
        order_group_id=told.order_group_id or "",
        subaccount=told.subaccount_number,
    )


def limits(told: messages.AccountLimits) -> reports.AccountLimits:
    return reports.AccountLimits(
        tier=told.usage_tier,
        read_per_second=told.read.refill_rate,
        read_capacity=told.read.bucket_capacity,
        write_per_second=told.write.refill_rate,
        write_capacity=told.write.bucket_capacity,
    )


def event_position(told: messages.EventPosition) -> account_reports.EventPositionReport:
    return account_reports.EventPositionReport(
        event_ticker=told.event_ticker,
        total_cost=values.number(told.total_cost_dollars),
        quantity=values.number(told.total_cost_shares_fp),
        exposure=values.number(told.event_exposure_dollars),
        realized_pnl=values.number(told.realized_pnl_dollars),
        fees_paid=values.number(told.fees_paid_dollars),
    )


def queue_position(told: messages.QueuePosition) -> account_reports.QueuePosition:
    return account_reports.QueuePosition(
        told.order_id, told.market_ticker, values.count(told.queue_position_fp)
    )


def order_group(told: order_messages.Group) -> account_reports.OrderGroupReport:
    return account_reports.OrderGroupReport(
        told.id, told.is_auto_cancel_enabled, _group_limit(told.contracts_limit_fp), told.exchange_index
    )


def single_order_group(
    order_group_id: str, told: order_messages.GroupAnswer
) -> account_reports.OrderGroupReport:
    return account_reports.OrderGroupReport(
        order_group_id,
        told.is_auto_cancel_enabled,
        _group_limit(told.contracts_limit_fp),
        told.exchange_index,
        tuple(told.orders),
    )


def _group_limit(text: str | None) -> Decimal | None:
    return None if not text else values.count(text)


def payment(told: messages.Payment) -> account_reports.PaymentReport:
    return account_reports.PaymentReport(
        payment_id=told.id,
        status=told.status,
        kind=told.type,
        amount=told.amount_cents / _CENTS,
        fee=told.fee_cents / _CENTS,
        created_at=values.from_seconds(told.created_ts),
        finalized_at=None if told.finalized_ts is None else values.from_seconds(told.finalized_ts),
    )


def endpoint_costs(told: messages.EndpointCosts) -> account_reports.EndpointCosts:
    return account_reports.EndpointCosts(
        told.default_cost,
        tuple(
            account_reports.EndpointCost(each.method, each.path, each.cost) for each in told.endpoint_costs
        ),
    )


def api_key(told: messages.ApiKey) -> account_reports.ApiKeyReport:
    return account_reports.ApiKeyReport(told.api_key_id, told.name, frozenset(told.scopes), told.subaccount)
