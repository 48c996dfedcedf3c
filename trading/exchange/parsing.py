"""From the wire's words to ours: the exchange, its catalogue and its public data.

Raises UnreadableAnswer (E606) on whatever cannot be a true value; see `values` for the single ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Final

from trading.domain.fees import FeeSchedule
from trading.domain.hours import ShardState
from trading.domain.markets import MarketStatus, TopOfBook
from trading.domain.orders import Side
from trading.domain.prices import PriceGrid
from trading.exchange import messages, reports, values
from trading.exchange.errors import UnreadableAnswer

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


# --- The exchange and its catalogue ---


def exchange_state(told: messages.ExchangeStatus) -> reports.ExchangeState:
    return reports.ExchangeState(
        is_active=told.exchange_active,
        is_trading=told.trading_active,
        resumes_at=values.optional_moment(told.exchange_estimated_resume_time),
        shards=tuple(
            ShardState(shard.exchange_index, shard.exchange_active, shard.trading_active)
            for shard in told.exchange_index_statuses
        ),
    )


def trading_hours(told: messages.Schedule) -> reports.TradingHours:
    sessions = [
        reports.Session(weekday, span.open_time, span.close_time)
        for week in told.standard_hours
        for weekday, name in enumerate(_WEEKDAYS)
        for span in getattr(week, name)
    ]
    windows = [
        reports.Maintenance(values.moment(window.start_datetime), values.moment(window.end_datetime))
        for window in told.maintenance_windows
    ]
    return reports.TradingHours(tuple(sessions), tuple(windows))


def series(told: messages.Series) -> reports.SeriesDefinition:
    return reports.SeriesDefinition(
        ticker=told.ticker,
        title=told.title,
        category=told.category,
        frequency=told.frequency,
        fees=FeeSchedule(values.fee_type(told.fee_type), values.multiplier(told.fee_multiplier)),
        tags=tuple(told.tags or ()),
        contract_url=told.contract_url,
    )


def event(told: messages.Event, markets: Iterable[messages.Market] | None = None) -> reports.EventDefinition:
    """An event with its markets, which come nested or, for a single event, beside it."""
    nested = told.markets if markets is None else markets
    override = told.fee_multiplier_override
    return reports.EventDefinition(
        ticker=told.event_ticker,
        series_ticker=told.series_ticker,
        title=told.title,
        subtitle=told.sub_title,
        category=told.category,
        mutually_exclusive=told.mutually_exclusive,
        collateral_return=told.collateral_return_type,
        fee_type_override=None if not told.fee_type_override else values.fee_type(told.fee_type_override),
        fee_multiplier_override=None if override is None else values.multiplier(override),
        exchange_index=told.exchange_index,
        strike_at=values.optional_moment(told.strike_date),
        markets=tuple(market(each) for each in nested or ()),
    )


def market(told: messages.Market) -> reports.MarketDefinition:
    """A market. The error names its ticker."""
    try:
        return _market(told)
    except UnreadableAnswer as error:
        raise UnreadableAnswer(f"market {told.ticker}: {error}") from error


def _market(told: messages.Market) -> reports.MarketDefinition:
    ranges = tuple({"start": each.start, "end": each.end, "step": each.step} for each in told.price_ranges)
    return reports.MarketDefinition(
        ticker=told.ticker,
        event_ticker=told.event_ticker,
        title=told.title or told.yes_sub_title,
        yes_title=told.yes_sub_title,
        no_title=told.no_sub_title,
        market_type=told.market_type,
        status=values.word(MarketStatus, told.status),
        created_at=values.moment(told.created_time),
        updated_at=values.moment(told.updated_time),
        open_at=values.moment(told.open_time),
        close_at=values.moment(told.close_time),
        latest_expiration_at=values.moment(told.latest_expiration_time),
        expected_expiration_at=values.optional_moment(told.expected_expiration_time),
        settlement_timer=timedelta(seconds=told.settlement_timer_seconds),
        rules_primary=told.rules_primary,
        rules_secondary=told.rules_secondary,
        can_close_early=told.can_close_early,
        price_structure=told.price_level_structure,
        price_ranges=ranges,
        grid=_grid(ranges),
        quote=_quote(told),
        last_price=values.quoted(told.last_price_dollars),
        volume=values.count(told.volume_fp),
        volume_24h=values.count(told.volume_24h_fp),
        open_interest=values.count(told.open_interest_fp),
        result=values.result(told.result) if told.result else None,
        settlement_value=values.optional_price(told.settlement_value_dollars),
        settled_at=values.optional_moment(told.settlement_ts),
        expiration_value=told.expiration_value,
        strike_type=told.strike_type,
        floor_strike=told.floor_strike,
        cap_strike=told.cap_strike,
        fee_waiver_until=values.optional_moment(told.fee_waiver_expiration_time),
        exchange_index=told.exchange_index,
    )


def _quote(told: messages.Market) -> TopOfBook:
    bid, ask = values.quoted(told.yes_bid_dollars), values.quoted(told.yes_ask_dollars)
    return TopOfBook(
        yes_bid=bid,
        yes_ask=ask,
        yes_bid_quantity=Decimal(0) if bid is None else values.count(told.yes_bid_size_fp),
        yes_ask_quantity=Decimal(0) if ask is None else values.count(told.yes_ask_size_fp),
    )


def _grid(ranges: Iterable[dict[str, str]]) -> PriceGrid:
    try:
        return PriceGrid.from_ranges(ranges)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error


def series_fee_change(told: messages.SeriesFeeChange) -> reports.FeeChange:
    return reports.FeeChange(
        change_id=told.id,
        series_ticker=told.series_ticker,
        event_ticker="",
        fee_type=values.fee_type(told.fee_type),
        multiplier=values.multiplier(told.fee_multiplier),
        at=values.moment(told.scheduled_ts),
    )


def event_fee_change(told: messages.EventFeeChange) -> reports.FeeChange:
    multiplier = told.fee_multiplier_override
    return reports.FeeChange(
        change_id=told.id,
        series_ticker=told.series_ticker,
        event_ticker=told.event_ticker,
        fee_type=None if not told.fee_type_override else values.fee_type(told.fee_type_override),
        multiplier=None if multiplier is None else values.multiplier(multiplier),
        at=values.moment(told.scheduled_ts),
    )


def event_metadata(told: messages.EventMetadata) -> reports.EventMetadata:
    return reports.EventMetadata(
        image_url=told.image_url,
        featured_image_url=told.featured_image_url,
        market_images=tuple((each.market_ticker, each.image_url) for each in told.market_details),
        sources=tuple(
            (str(each.get("name", "")), str(each.get("url", ""))) for each in told.settlement_sources
        ),
        competition=told.competition or "",
    )


# --- Public market data ---


def book(ticker: str, told: messages.OrderBook) -> reports.BookReport:
    """A book read by REST, where NO bids are always on the NO scale."""
    return reports.BookReport(
        ticker, values.levels(told.yes_dollars, Side.YES), values.levels(told.no_dollars, Side.NO)
    )


def public_trade(told: messages.PublicTrade) -> reports.PublicTrade:
    return reports.PublicTrade(
        trade_id=told.trade_id,
        ticker=told.ticker,
        price=values.price(told.yes_price_dollars),
        quantity=values.count(told.count_fp),
        taker_side=values.word(Side, told.taker_outcome_side),
        at=values.moment(told.created_time),
        is_block_trade=told.is_block_trade,
    )


def candle(told: messages.Candlestick) -> reports.Candle:
    return reports.Candle(
        end_at=values.from_seconds(told.end_period_ts),
        bid=_quote_candle(told.yes_bid),
        ask=_quote_candle(told.yes_ask),
        traded=_traded(told.price),
        mean=values.optional_price(told.price.mean_dollars),
        volume=values.count(told.volume_fp),
        open_interest=values.count(told.open_interest_fp),
        previous=values.optional_price(told.price.previous_dollars),
    )


def _quote_candle(told: messages.QuoteCandle) -> reports.OpenHighLowClose:
    return reports.OpenHighLowClose(
        values.price(told.open_dollars),
        values.price(told.high_dollars),
        values.price(told.low_dollars),
        values.price(told.close_dollars),
    )


def _traded(told: messages.PriceCandle) -> reports.OpenHighLowClose | None:
    prices = (told.open_dollars, told.high_dollars, told.low_dollars, told.close_dollars)
    return reports.OpenHighLowClose(*(values.price(each) for each in prices if each)) if all(prices) else None
