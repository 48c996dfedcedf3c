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


class PositionsAnswer(Payload):
    market_positions: list[MarketPosition]
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


class OrderAnswer(Payload):
    order: Order


class OrdersAnswer(Payload):
    orders: list[Order]
    cursor: str = ""


class CreatedOrder(Payload):
    """There is no status in it, only counts (API.md 11)."""

    order_id: str
    fill_count: str
    remaining_count: str
    ts_ms: int
    client_order_id: str = ""
    average_fill_price: str | None = None
    average_fee_paid: str | None = None


class CanceledOrder(Payload):
    order_id: str
    reduced_by: str
    ts_ms: int
    client_order_id: str = ""


class NewOrder(Payload, omit_defaults=True):
    """The body of a create. Counts and prices are strings; a JSON number would be refused (API.md 4)."""

    ticker: str
    client_order_id: str
    side: str
    count: str
    price: str
    time_in_force: str
    self_trade_prevention_type: str
    expiration_time: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    cancel_order_on_pause: bool = False
    order_group_id: str | None = None
    exchange_index: int | None = None


class BucketLimit(Payload):
    refill_rate: int
    bucket_capacity: int


class AccountLimits(Payload):
    usage_tier: str
    read: BucketLimit
    write: BucketLimit
