"""The wire's own words of the historical tier (API.md 10); see `messages` for the rules.

Markets, trades, fills, orders and positions come as on the live tier. Only candles are spelled otherwise.
"""

from __future__ import annotations

from trading.exchange.messages import Payload


class Cutoff(Payload):
    market_settled_ts: str
    trades_created_ts: str
    orders_updated_ts: str
    market_positions_last_updated_ts: str | None = None


class QuoteCandle(Payload):
    open: str
    low: str
    high: str
    close: str


class PriceCandle(Payload):
    """All null in a period without a trade."""

    open: str | None
    low: str | None
    high: str | None
    close: str | None
    mean: str | None
    previous: str | None


class Candlestick(Payload):
    end_period_ts: int
    yes_bid: QuoteCandle
    yes_ask: QuoteCandle
    price: PriceCandle
    volume: str
    open_interest: str


class CandlesticksAnswer(Payload):
    ticker: str
    candlesticks: list[Candlestick]
