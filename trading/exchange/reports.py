"""What the exchange tells us, in our own words. Prices are dollars on the YES scale, quantities contracts, times UTC.

A price that is missing is None: an empty side, or a market that has not traded, has no price.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from trading.domain.book import RawLevel
from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.hours import ShardState
from trading.domain.markets import MarketFacts, MarketStatus, TopOfBook
from trading.domain.orders import BookSide, OrderState, Side
from trading.domain.prices import PriceGrid

Result = Literal["yes", "no", "scalar"]


@dataclass(frozen=True, slots=True)
class ExchangeState:
    """Whether the exchange is up (cancels work) and trading (orders work). API.md 8."""

    is_active: bool
    is_trading: bool
    resumes_at: datetime | None
    shards: tuple[ShardState, ...] = ()


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A window in which the exchange is closed."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A span of trading on one weekday (0 = Monday); local times of New York as HH:MM."""

    weekday: int
    open_time: str
    close_time: str


@dataclass(frozen=True, slots=True)
class TradingHours:
    sessions: tuple[Session, ...]
    maintenance: tuple[Maintenance, ...]


@dataclass(frozen=True, slots=True)
class SeriesDefinition:
    """A series: what repeats, in which category, at what fees."""

    ticker: str
    title: str
    category: str
    frequency: str
    fees: FeeSchedule
    tags: tuple[str, ...] = ()
    contract_url: str = ""


@dataclass(frozen=True, slots=True)
class MarketDefinition:
    """A market as the exchange defines it, with its last known quote. Fees are not in it: see `fees_of`."""

    ticker: str
    event_ticker: str
    title: str
    yes_title: str
    no_title: str
    market_type: str
    status: MarketStatus
    created_at: datetime
    updated_at: datetime
    open_at: datetime
    close_at: datetime
    latest_expiration_at: datetime
    expected_expiration_at: datetime | None
    settlement_timer: timedelta
    rules_primary: str
    rules_secondary: str
    can_close_early: bool
    price_structure: str
    price_ranges: tuple[dict[str, str], ...]
    grid: PriceGrid
    quote: TopOfBook
    last_price: Decimal | None
    volume: Decimal
    volume_24h: Decimal
    open_interest: Decimal
    result: Result | None
    settlement_value: Decimal | None
    settled_at: datetime | None
    expiration_value: str
    strike_type: str
    floor_strike: Decimal | None
    cap_strike: Decimal | None
    fee_waiver_until: datetime | None
    exchange_index: int

    def facts(self, *, series_ticker: str, fees: FeeSchedule, book: TopOfBook | None = None) -> MarketFacts:
        """This market as the rules see it, with its series, its fees and (where given) a live book."""
        return MarketFacts(
            ticker=self.ticker,
            event_ticker=self.event_ticker,
            series_ticker=series_ticker,
            title=self.title,
            status=self.status,
            open_at=self.open_at,
            close_at=self.close_at,
            book=book or self.quote,
            grid=self.grid,
            fees=fees,
            exchange_index=self.exchange_index,
        )


@dataclass(frozen=True, slots=True)
class EventDefinition:
    """An event and, where they were asked for, its markets. Overrides are None where the series' fees hold."""

    ticker: str
    series_ticker: str
    title: str
    subtitle: str
    category: str
    mutually_exclusive: bool
    collateral_return: str
    fee_type_override: FeeType | None
    fee_multiplier_override: Decimal | None
    exchange_index: int
    strike_at: datetime | None = None
    markets: tuple[MarketDefinition, ...] = ()


@dataclass(frozen=True, slots=True)
class BookReport:
    """A whole book read by REST: (ticks, lots) levels on the YES scale, fit for `Book.apply_snapshot`."""

    ticker: str
    bids: tuple[RawLevel, ...]
    asks: tuple[RawLevel, ...]


@dataclass(frozen=True, slots=True)
class PublicTrade:
    trade_id: str
    ticker: str
    price: Decimal
    quantity: Decimal
    taker_side: Side
    at: datetime
    is_block_trade: bool


@dataclass(frozen=True, slots=True)
class OpenHighLowClose:
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True, slots=True)
class Candle:
    """One period, ending at `end_at` (included). `traded` is None when there was no trade in it."""

    end_at: datetime
    bid: OpenHighLowClose
    ask: OpenHighLowClose
    traded: OpenHighLowClose | None
    mean: Decimal | None
    volume: Decimal
    open_interest: Decimal
    previous: Decimal | None = None  # the last traded price before the period


@dataclass(frozen=True, slots=True)
class FeeChange:
    """A change of fees at `at`, of a series or, with `event_ticker`, of one event.

    For an event, None says that what was overridden before is cleared: the series' own holds again.
    """

    change_id: str
    series_ticker: str
    event_ticker: str
    fee_type: FeeType | None
    multiplier: Decimal | None
    at: datetime


@dataclass(frozen=True, slots=True)
class EventMetadata:
    """Pictures and sources of an event: addresses only, nothing that a decision rests on."""

    image_url: str
    featured_image_url: str
    market_images: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]
    competition: str


@dataclass(frozen=True, slots=True)
class HistoryCutoff:
    """Records older than these are only in the historical tier (API.md 10)."""

    markets_settled_at: datetime
    trades_at: datetime
    orders_updated_at: datetime
    positions_updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """Cash in dollars, in all and per shard; `portfolio_value` is the exchange's own mark of the positions."""

    cash: Decimal
    portfolio_value: Decimal
    updated_at: datetime
    cash_by_shard: tuple[tuple[int, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class PositionReport:
    """One net position: `quantity` is + for YES and - for NO."""

    ticker: str
    quantity: Decimal
    exposure: Decimal
    realized_pnl: Decimal
    fees_paid: Decimal
    total_traded: Decimal
    updated_at: datetime
    exchange_index: int


@dataclass(frozen=True, slots=True)
class FillReport:
    """One execution of ours. (`trade_id`, `order_id`) names it, over REST and stream alike.

    `client_order_id` and `position_after` come only with the stream.
    """

    trade_id: str
    order_id: str
    ticker: str
    book_side: BookSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    is_taker: bool
    at: datetime | None
    exchange_index: int = 0
    client_order_id: str = ""
    position_after: Decimal | None = None
    subaccount: int | None = None

    @property
    def is_primary(self) -> bool:
        """Whether it is of the primary account, of which alone balance and positions tell (API.md 12)."""
        return not self.subaccount


@dataclass(frozen=True, slots=True)
class SettlementReport:
    """What a market paid out. `payout` and `value` (dollars per YES contract) come in whole cents from the exchange."""

    ticker: str
    event_ticker: str
    result: Result
    yes_quantity: Decimal
    no_quantity: Decimal
    yes_cost: Decimal
    no_cost: Decimal
    payout: Decimal
    fee: Decimal
    value: Decimal | None
    settled_at: datetime
    exchange_index: int


@dataclass(frozen=True, slots=True)
class OrderReport:
    """An order of this account as the exchange has it."""

    order_id: str
    client_order_id: str
    ticker: str
    book_side: BookSide
    state: OrderState
    price: Decimal
    initial_quantity: Decimal
    filled_quantity: Decimal
    remaining_quantity: Decimal
    fill_cost: Decimal
    fees: Decimal
    created_at: datetime | None
    updated_at: datetime | None
    expires_at: datetime | None
    exchange_index: int
    reason: str = ""  # of the last update; stream only
    order_group_id: str = ""
    subaccount: int | None = None


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """The account's tier and its token buckets: tokens per second and the most that can be saved up (API.md 7)."""

    tier: str
    read_per_second: int
    read_capacity: int
    write_per_second: int
    write_capacity: int


def fees_of(series: SeriesDefinition, event: EventDefinition | None = None) -> FeeSchedule:
    """The fees of a market: its series', overridden by its event's where present (API.md 13)."""
    if event is None:
        return series.fees
    kind, multiplier = event.fee_type_override, event.fee_multiplier_override
    return FeeSchedule(
        fee_type=series.fees.fee_type if kind is None else kind,
        multiplier=series.fees.multiplier if multiplier is None else multiplier,
    )
