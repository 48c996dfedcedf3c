"""From the wire's words to ours. Raises UnreadableAnswer (E606) on whatever cannot be a true value.

Exactness: decimal strings become `Decimal`, never float. A price that is missing is None: the exchange writes an
empty side or an untraded market as "0.0000" (or "1.0000" for an ask), at which nothing can trade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

from trading.domain.book import RawLevel, lots, side_and_tick, ticks
from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.markets import MarketStatus, TopOfBook
from trading.domain.orders import BookSide, OrderState, Side, state_from_status
from trading.domain.prices import PriceGrid
from trading.exchange import messages, reports
from trading.exchange.errors import UnreadableAnswer

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")
_CENTS: Final = Decimal(100)
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_RESULTS: Final[dict[str, reports.Result]] = {"yes": "yes", "no": "no", "scalar": "scalar"}

EnumWord = TypeVar("EnumWord", bound=StrEnum)


# --- Single values ---


def number(text: str) -> Decimal:
    """A decimal string as the exchange writes it: digits, at most 6 decimals, no exponent, no NaN."""
    if not _NUMBER.fullmatch(text):
        raise UnreadableAnswer(f"{text[:40]!r} is not a decimal number")
    return Decimal(text)


def count(text: str) -> Decimal:
    """A quantity of contracts, zero or more."""
    value = number(text)
    if value < 0:
        raise UnreadableAnswer(f"a quantity of {value} is impossible")
    return value


def price(text: str) -> Decimal:
    """A dollar price from 0 to 1, both included."""
    value = number(text)
    if not 0 <= value <= 1:
        raise UnreadableAnswer(f"a price of {value} is impossible")
    return value


def quoted(text: str) -> Decimal | None:
    """A price at which something can trade, or None: 0 and 1 stand for "no such order"."""
    value = price(text)
    return value if 0 < value < 1 else None


def optional_price(text: str | None) -> Decimal | None:
    return None if not text else price(text)


def moment(text: str) -> datetime:
    """An RFC 3339 time, aware, in UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableAnswer(f"{text[:40]!r} is not a time") from error
    if value.tzinfo is None:
        raise UnreadableAnswer(f"the time {text!r} has no zone")
    return value.astimezone(UTC)


def optional_moment(text: str | None) -> datetime | None:
    """A time, or None where it is absent, empty or the zero time that the exchange writes as year 1."""
    return None if not text or text.startswith("0001-") else moment(text)


def from_seconds(seconds: int) -> datetime:
    return _from_unix(seconds)


def from_millis(millis: int) -> datetime:
    return _from_unix(millis / 1000)


def word(kind: type[EnumWord], text: str) -> EnumWord:
    """A word of a closed list; a new one is a change of the contract that we do not guess at."""
    try:
        return kind(text)
    except ValueError as error:
        raise UnreadableAnswer(f"{text[:40]!r} is no {kind.__name__} that we know") from error


def fee_type(text: str) -> FeeType:
    """The fee type; one that we do not know counts as `flat`, whose fee cannot be computed (fail closed)."""
    try:
        return FeeType(text)
    except ValueError:
        return FeeType.FLAT


def multiplier(value: Decimal) -> Decimal:
    if not value.is_finite() or value < 0:
        raise UnreadableAnswer(f"a fee multiplier of {value} is impossible")
    return value


def levels(
    pairs: Iterable[tuple[str, str]], side: Side, *, use_yes_price: bool = False
) -> tuple[RawLevel, ...]:
    """Book levels as (ticks, lots) on the YES scale."""
    try:
        return tuple(
            (side_and_tick(side, ticks(at), use_yes_price=use_yes_price)[1], lots(size)) for at, size in pairs
        )
    except ValueError as error:
        raise UnreadableAnswer(f"unreadable book level: {error}") from error


# --- The exchange and its catalogue ---


def exchange_state(told: messages.ExchangeStatus) -> reports.ExchangeState:
    return reports.ExchangeState(
        is_active=told.exchange_active,
        is_trading=told.trading_active,
        resumes_at=optional_moment(told.exchange_estimated_resume_time),
        shards=tuple(
            reports.ShardState(shard.exchange_index, shard.exchange_active, shard.trading_active)
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
        reports.Maintenance(moment(window.start_datetime), moment(window.end_datetime))
        for window in told.maintenance_windows
    ]
    return reports.TradingHours(tuple(sessions), tuple(windows))


def series(told: messages.Series) -> reports.SeriesDefinition:
    return reports.SeriesDefinition(
        ticker=told.ticker,
        title=told.title,
        category=told.category,
        frequency=told.frequency,
        fees=FeeSchedule(fee_type(told.fee_type), multiplier(told.fee_multiplier)),
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
        fee_type_override=None if not told.fee_type_override else fee_type(told.fee_type_override),
        fee_multiplier_override=None if override is None else multiplier(override),
        exchange_index=told.exchange_index,
        strike_at=optional_moment(told.strike_date),
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
        status=word(MarketStatus, told.status),
        created_at=moment(told.created_time),
        updated_at=moment(told.updated_time),
        open_at=moment(told.open_time),
        close_at=moment(told.close_time),
        latest_expiration_at=moment(told.latest_expiration_time),
        expected_expiration_at=optional_moment(told.expected_expiration_time),
        settlement_timer=timedelta(seconds=told.settlement_timer_seconds),
        rules_primary=told.rules_primary,
        rules_secondary=told.rules_secondary,
        can_close_early=told.can_close_early,
        price_structure=told.price_level_structure,
        price_ranges=ranges,
        grid=_grid(ranges),
        quote=_quote(told),
        last_price=quoted(told.last_price_dollars),
        volume=count(told.volume_fp),
        volume_24h=count(told.volume_24h_fp),
        open_interest=count(told.open_interest_fp),
        result=result(told.result) if told.result else None,
        settlement_value=optional_price(told.settlement_value_dollars),
        settled_at=optional_moment(told.settlement_ts),
        expiration_value=told.expiration_value,
        strike_type=told.strike_type,
        floor_strike=told.floor_strike,
        cap_strike=told.cap_strike,
        fee_waiver_until=optional_moment(told.fee_waiver_expiration_time),
        exchange_index=told.exchange_index,
    )


def _quote(told: messages.Market) -> TopOfBook:
    bid, ask = quoted(told.yes_bid_dollars), quoted(told.yes_ask_dollars)
    return TopOfBook(
        yes_bid=bid,
        yes_ask=ask,
        yes_bid_quantity=Decimal(0) if bid is None else count(told.yes_bid_size_fp),
        yes_ask_quantity=Decimal(0) if ask is None else count(told.yes_ask_size_fp),
    )


def _grid(ranges: Iterable[dict[str, str]]) -> PriceGrid:
    try:
        return PriceGrid.from_ranges(ranges)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error


def result(text: str) -> reports.Result:
    try:
        return _RESULTS[text]
    except KeyError:
        raise UnreadableAnswer(f"{text[:40]!r} is no result that we know") from None


# --- Public market data ---


def book(ticker: str, told: messages.OrderBook) -> reports.BookReport:
    """A book read by REST, where NO bids are always on the NO scale."""
    return reports.BookReport(ticker, levels(told.yes_dollars, Side.YES), levels(told.no_dollars, Side.NO))


def public_trade(told: messages.PublicTrade) -> reports.PublicTrade:
    return reports.PublicTrade(
        trade_id=told.trade_id,
        ticker=told.ticker,
        price=price(told.yes_price_dollars),
        quantity=count(told.count_fp),
        taker_side=word(Side, told.taker_outcome_side),
        at=moment(told.created_time),
        is_block_trade=told.is_block_trade,
    )


def candle(told: messages.Candlestick) -> reports.Candle:
    return reports.Candle(
        end_at=from_seconds(told.end_period_ts),
        bid=_quote_candle(told.yes_bid),
        ask=_quote_candle(told.yes_ask),
        traded=_traded(told.price),
        mean=optional_price(told.price.mean_dollars),
        volume=count(told.volume_fp),
        open_interest=count(told.open_interest_fp),
    )


def _quote_candle(told: messages.QuoteCandle) -> reports.OpenHighLowClose:
    return reports.OpenHighLowClose(
        price(told.open_dollars), price(told.high_dollars), price(told.low_dollars), price(told.close_dollars)
    )


def _traded(told: messages.PriceCandle) -> reports.OpenHighLowClose | None:
    prices = (told.open_dollars, told.high_dollars, told.low_dollars, told.close_dollars)
    return reports.OpenHighLowClose(*(price(each) for each in prices if each)) if all(prices) else None


# --- The account ---


def balance(told: messages.Balance) -> reports.BalanceReport:
    return reports.BalanceReport(
        cash=number(told.balance_dollars),
        portfolio_value=told.portfolio_value / _CENTS,
        updated_at=from_seconds(told.updated_ts),
        cash_by_shard=tuple(
            (shard.exchange_index, number(shard.balance)) for shard in told.balance_breakdown
        ),
    )


def position(told: messages.MarketPosition) -> reports.PositionReport:
    return reports.PositionReport(
        ticker=told.ticker,
        quantity=number(told.position_fp),
        exposure=number(told.market_exposure_dollars),
        realized_pnl=number(told.realized_pnl_dollars),
        fees_paid=number(told.fees_paid_dollars),
        total_traded=number(told.total_traded_dollars),
        updated_at=moment(told.last_updated_ts),
        exchange_index=told.exchange_index,
    )


def fill(told: messages.Fill) -> reports.FillReport:
    at = optional_moment(told.created_time)
    return reports.FillReport(
        trade_id=told.trade_id,
        order_id=told.order_id,
        ticker=told.ticker,
        book_side=direction(told.book_side, told.outcome_side),
        price=price(told.yes_price_dollars),
        quantity=count(told.count_fp),
        fee=number(told.fee_cost),
        is_taker=told.is_taker,
        at=at if at is not None or told.ts is None else from_seconds(told.ts),
        exchange_index=told.exchange_index,
    )


def settlement(told: messages.Settlement) -> reports.SettlementReport:
    return reports.SettlementReport(
        ticker=told.ticker,
        event_ticker=told.event_ticker,
        result=result(told.market_result),
        yes_quantity=count(told.yes_count_fp),
        no_quantity=count(told.no_count_fp),
        yes_cost=number(told.yes_total_cost_dollars),
        no_cost=number(told.no_total_cost_dollars),
        payout=told.revenue / _CENTS,
        fee=number(told.fee_cost),
        value=None if told.value is None else told.value / _CENTS,
        settled_at=moment(told.settled_time),
        exchange_index=told.exchange_index,
    )


def order(told: messages.Order) -> reports.OrderReport:
    filled, initial = count(told.fill_count_fp), count(told.initial_count_fp)
    return reports.OrderReport(
        order_id=told.order_id,
        client_order_id=told.client_order_id,
        ticker=told.ticker,
        book_side=direction(told.book_side, told.outcome_side),
        state=order_state(told.status, filled, initial),
        price=price(told.yes_price_dollars),
        initial_quantity=initial,
        filled_quantity=filled,
        remaining_quantity=count(told.remaining_count_fp),
        fill_cost=number(told.taker_fill_cost_dollars) + number(told.maker_fill_cost_dollars),
        fees=number(told.taker_fees_dollars) + number(told.maker_fees_dollars),
        created_at=optional_moment(told.created_time),
        updated_at=optional_moment(told.last_update_time),
        expires_at=optional_moment(told.expiration_time),
        exchange_index=told.exchange_index,
    )


def order_state(status: str, filled: Decimal, initial: Decimal) -> OrderState:
    try:
        return state_from_status(status, filled, initial)
    except ValueError as error:
        raise UnreadableAnswer(str(error)) from error


def direction(book_side: str, outcome_side: str) -> BookSide:
    """The side of the YES book. The wire says it twice; if the two disagree, neither is believed (API.md 4)."""
    side = word(BookSide, book_side)
    if (side is BookSide.BID) != (word(Side, outcome_side) is Side.YES):
        raise UnreadableAnswer(f"book_side {book_side} contradicts outcome_side {outcome_side}")
    return side


def limits(told: messages.AccountLimits) -> reports.AccountLimits:
    return reports.AccountLimits(
        tier=told.usage_tier,
        read_per_second=told.read.refill_rate,
        read_capacity=told.read.bucket_capacity,
        write_per_second=told.write.refill_rate,
        write_capacity=told.write.bucket_capacity,
    )


def _from_unix(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise UnreadableAnswer(f"{seconds} is not a Unix time") from error
