"""The wire's own words over REST (API.md 8 to 10): what the exchange sends, typed and otherwise untouched.

Prices and counts stay strings: a number where a string is agreed is a change of the contract (and could be cents),
so it is refused and never converted. Unknown extra fields are ignored; a missing required field raises. Fields with a
default are optional in the published schema, or were absent in answers that the exchange really gave.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


class Payload(msgspec.Struct):
    """Base of all payloads."""


class ExchangeIndexStatus(Payload):
    exchange_index: int
    description: str
    exchange_active: bool
    trading_active: bool
    intra_exchange_transfers_active: bool | None = None


class ExchangeStatus(Payload):
    exchange_active: bool
    trading_active: bool
    exchange_estimated_resume_time: str | None = None
    exchange_index_statuses: list[ExchangeIndexStatus] = []
    intra_exchange_transfers_active: bool | None = None


class DailySession(Payload):
    open_time: str
    close_time: str


class WeeklySchedule(Payload):
    start_time: str
    end_time: str
    monday: list[DailySession]
    tuesday: list[DailySession]
    wednesday: list[DailySession]
    thursday: list[DailySession]
    friday: list[DailySession]
    saturday: list[DailySession]
    sunday: list[DailySession]


class MaintenanceWindow(Payload):
    start_datetime: str
    end_datetime: str


class Schedule(Payload):
    standard_hours: list[WeeklySchedule]
    maintenance_windows: list[MaintenanceWindow]


class ScheduleAnswer(Payload):
    schedule: Schedule


class UserDataTimestamp(Payload):
    as_of_time: str


class Series(Payload):
    ticker: str
    frequency: str
    title: str
    category: str
    fee_type: str
    fee_multiplier: Decimal  # a JSON number, read digit by digit
    tags: list[str] | None = None
    contract_url: str = ""
    contract_terms_url: str = ""
    settlement_sources: list[dict[str, Any]] | None = None
    categories: list[str] | None = None
    product_metadata: dict[str, Any] | None = None
    additional_prohibitions: list[str] | None = None
    volume_fp: str | None = None
    last_updated_ts: str | None = None
    exchange_index: int = 0


class SeriesFeeChange(Payload):
    id: str
    series_ticker: str
    fee_type: str
    fee_multiplier: Decimal
    scheduled_ts: str


class SeriesFeeChangesAnswer(Payload):
    series_fee_change_arr: list[SeriesFeeChange]


class EventFeeChange(Payload):
    """Null overrides clear what was overridden: the series' fees hold again."""

    id: str
    event_ticker: str
    series_ticker: str
    fee_type_override: str | None
    fee_multiplier_override: Decimal | None
    scheduled_ts: str


class EventFeeChangesAnswer(Payload):
    event_fee_changes: list[EventFeeChange]
    cursor: str = ""


class SeriesAnswer(Payload):
    series: Series


class SeriesListAnswer(Payload):
    series: list[Series]


class PriceRange(Payload):
    start: str
    end: str
    step: str


class SelectedLeg(Payload):
    """One leg of a combo."""

    event_ticker: str = ""
    market_ticker: str = ""
    side: str = ""
    yes_settlement_value_dollars: str | None = None


class Market(Payload):
    ticker: str
    event_ticker: str
    market_type: str
    yes_sub_title: str
    no_sub_title: str
    created_time: str
    updated_time: str
    open_time: str
    close_time: str
    latest_expiration_time: str
    settlement_timer_seconds: int
    status: str
    yes_bid_dollars: str
    yes_bid_size_fp: str
    yes_ask_dollars: str
    yes_ask_size_fp: str
    no_bid_dollars: str
    no_ask_dollars: str
    last_price_dollars: str
    previous_yes_bid_dollars: str
    previous_yes_ask_dollars: str
    previous_price_dollars: str
    volume_fp: str
    volume_24h_fp: str
    open_interest_fp: str
    notional_value_dollars: str
    result: str
    can_close_early: bool
    expiration_value: str
    rules_primary: str
    rules_secondary: str
    price_level_structure: str
    price_ranges: list[PriceRange]
    settlement_bounds_type: str = "default"  # required since 2026-10-01; absent in older answers
    title: str = ""
    subtitle: str = ""
    expected_expiration_time: str | None = None
    settlement_value_dollars: str | None = None
    settlement_ts: str | None = None
    settlement_floor_dollars: str | None = None
    fee_waiver_expiration_time: str | None = None
    strike_type: str = ""
    floor_strike: Decimal | None = None
    cap_strike: Decimal | None = None
    functional_strike: str | None = None
    custom_strike: dict[str, Any] | None = None
    early_close_condition: str | None = None
    occurrence_datetime: str | None = None
    mve_collection_ticker: str = ""
    mve_selected_legs: list[SelectedLeg] | None = None
    primary_participant_key: str | None = None
    is_provisional: bool = False
    exchange_index: int = 0


class MarketAnswer(Payload):
    market: Market


class MarketsAnswer(Payload):
    markets: list[Market]
    cursor: str = ""


class Event(Payload):
    event_ticker: str
    series_ticker: str
    title: str
    sub_title: str
    collateral_return_type: str
    mutually_exclusive: bool
    category: str = ""
    strike_date: str | None = None
    fee_type_override: str | None = None
    fee_multiplier_override: Decimal | None = None
    markets: list[Market] | None = None
    strike_period: str | None = None
    settlement_sources: list[dict[str, Any]] | None = None
    product_metadata: dict[str, Any] | None = None
    last_updated_ts: str | None = None
    exchange_index: int = 0


class EventAnswer(Payload):
    event: Event
    markets: list[Market] = []


class MarketMetadata(Payload):
    market_ticker: str
    image_url: str
    color_code: str


class EventMetadata(Payload):
    image_url: str
    market_details: list[MarketMetadata]
    settlement_sources: list[dict[str, Any]]
    featured_image_url: str = ""
    competition: str | None = None
    competition_scope: str | None = None


class EventsAnswer(Payload):
    events: list[Event]
    cursor: str = ""


WireLevel = tuple[str, str]


class OrderBook(Payload):
    """Bids only: YES bids on the YES scale, NO bids on the NO scale."""

    yes_dollars: list[WireLevel]
    no_dollars: list[WireLevel]


class OrderBookAnswer(Payload):
    orderbook_fp: OrderBook


class TickerOrderBook(Payload):
    ticker: str
    orderbook_fp: OrderBook


class OrderBooksAnswer(Payload):
    orderbooks: list[TickerOrderBook]


class PublicTrade(Payload):
    trade_id: str
    ticker: str
    count_fp: str
    yes_price_dollars: str
    no_price_dollars: str
    taker_outcome_side: str
    taker_book_side: str
    created_time: str
    is_block_trade: bool


class TradesAnswer(Payload):
    trades: list[PublicTrade]
    cursor: str = ""


class QuoteCandle(Payload):
    open_dollars: str
    low_dollars: str
    high_dollars: str
    close_dollars: str


class PriceCandle(Payload):
    """Of traded prices; all absent or null in a period without a trade."""

    open_dollars: str | None = None
    low_dollars: str | None = None
    high_dollars: str | None = None
    close_dollars: str | None = None
    mean_dollars: str | None = None
    previous_dollars: str | None = None
    min_dollars: str | None = None
    max_dollars: str | None = None


class Candlestick(Payload):
    end_period_ts: int
    yes_bid: QuoteCandle
    yes_ask: QuoteCandle
    price: PriceCandle
    volume_fp: str
    open_interest_fp: str


class CandlesticksAnswer(Payload):
    candlesticks: list[Candlestick]
    ticker: str = ""


class TickerCandlesticks(Payload):
    market_ticker: str
    candlesticks: list[Candlestick]


class BatchCandlesticksAnswer(Payload):
    markets: list[TickerCandlesticks]


class EventCandlesticksAnswer(Payload):
    """The lists stand in the order of `market_tickers`; candles after `adjusted_end_ts` were left out."""

    market_tickers: list[str]
    market_candlesticks: list[list[Candlestick]]
    adjusted_end_ts: int
