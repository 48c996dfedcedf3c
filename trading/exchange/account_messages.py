"""The wire's own words over REST for one account and its orders (API.md 11 and 12); see `messages` for the rules."""

from __future__ import annotations

from trading.exchange.messages import Payload


class ShardBalance(Payload):
    exchange_index: int
    balance: str


class Balance(Payload):
    """`balance` and `portfolio_value` are whole cents, the other fields dollars."""

    balance: int
    balance_dollars: str
    portfolio_value: int
    updated_ts: int
    balance_breakdown: tuple[ShardBalance, ...] = ()


class MarketPosition(Payload):
    ticker: str
    position_fp: str
    total_traded_dollars: str
    market_exposure_dollars: str
    realized_pnl_dollars: str
    fees_paid_dollars: str
    last_updated_ts: str
    exchange_index: int = 0


class EventPosition(Payload):
    event_ticker: str
    total_cost_dollars: str
    total_cost_shares_fp: str
    event_exposure_dollars: str
    realized_pnl_dollars: str
    fees_paid_dollars: str


class PositionsAnswer(Payload):
    market_positions: list[MarketPosition]
    event_positions: list[EventPosition]
    cursor: str = ""


class Fill(Payload):
    fill_id: str
    trade_id: str
    order_id: str
    ticker: str
    outcome_side: str
    book_side: str
    count_fp: str
    yes_price_dollars: str
    no_price_dollars: str
    is_taker: bool
    fee_cost: str
    created_time: str | None = None
    ts: int | None = None
    exchange_index: int = 0
    subaccount_number: int | None = None
    market_ticker: str = ""


class FillsAnswer(Payload):
    fills: list[Fill]
    cursor: str = ""


class Settlement(Payload):
    """`revenue` and `value` are whole cents."""

    ticker: str
    event_ticker: str
    market_result: str
    yes_count_fp: str
    yes_total_cost_dollars: str
    no_count_fp: str
    no_total_cost_dollars: str
    revenue: int
    settled_time: str
    fee_cost: str
    value: int | None = None
    exchange_index: int = 0


class SettlementsAnswer(Payload):
    settlements: list[Settlement]
    cursor: str = ""


class Order(Payload):
    order_id: str
    user_id: str
    client_order_id: str
    ticker: str
    outcome_side: str
    book_side: str
    type: str
    status: str
    yes_price_dollars: str
    no_price_dollars: str
    initial_count_fp: str
    remaining_count_fp: str
    fill_count_fp: str
    taker_fill_cost_dollars: str
    maker_fill_cost_dollars: str
    taker_fees_dollars: str
    maker_fees_dollars: str
    expiration_time: str | None = None
    created_time: str | None = None
    last_update_time: str | None = None
    subaccount_number: int | None = None
    exchange_index: int = 0
    self_trade_prevention_type: str = ""
    order_group_id: str | None = None
    cancel_order_on_pause: bool = False


class OrderAnswer(Payload):
    order: Order


class OrdersAnswer(Payload):
    orders: list[Order]
    cursor: str = ""


class QueuePosition(Payload):
    order_id: str
    market_ticker: str
    queue_position_fp: str


class QueuePositionsAnswer(Payload):
    queue_positions: list[QueuePosition]


class QueuePositionAnswer(Payload):
    queue_position_fp: str


class Payment(Payload):
    """A deposit or a withdrawal, in whole cents."""

    id: str
    status: str
    type: str
    amount_cents: int
    fee_cents: int
    created_ts: int
    finalized_ts: int | None = None


class DepositsAnswer(Payload):
    deposits: list[Payment]
    cursor: str = ""


class WithdrawalsAnswer(Payload):
    withdrawals: list[Payment]
    cursor: str = ""


class BucketLimit(Payload):
    refill_rate: int
    bucket_capacity: int


class Grant(Payload):
    exchange_instance: str
    level: str
    source: str
    expires_ts: int | None = None


class AccountLimits(Payload):
    usage_tier: str
    read: BucketLimit
    write: BucketLimit
    grants: tuple[Grant, ...] = ()


class EndpointCost(Payload):
    method: str
    path: str
    cost: int


class EndpointCosts(Payload):
    default_cost: int
    endpoint_costs: list[EndpointCost]


class ApiKey(Payload):
    api_key_id: str
    name: str
    scopes: list[str]
    subaccount: int | None = None


class ApiKeysAnswer(Payload):
    api_keys: list[ApiKey]
    api_key_region_expiration_ts: int | None = None


class NewApiKey(Payload, omit_defaults=True):
    name: str
    public_key: str
    scopes: list[str]
    subaccount: int | None = None


class GeneratedApiKey(Payload, omit_defaults=True):
    name: str
    key_type: str
    scopes: list[str]
    subaccount: int | None = None


class CreatedApiKey(Payload):
    """`private_key` comes only with a generated pair, and only this once."""

    api_key_id: str
    private_key: str = ""
