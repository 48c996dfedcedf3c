"""Candlesticks over REST: of one market, of many, of an event (API.md 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from trading.paper.candles import PERIODS, Candle
from trading.paper.listing import Listing
from trading.paper.paging import flag, listed, required_whole
from trading.paper.refusals import bare, not_found
from trading.paper.service import SERVICE, answer, public

MOST_CANDLES = 5_000
MOST_IN_ALL = 10_000

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked for: candles that end in [start_ts, end_ts] (Unix seconds), of so many minutes."""

    start_ts: int
    end_ts: int
    minutes: int

    @property
    def count(self) -> int:
        """How many candles fit."""
        return (self.end_ts - self.start_ts) // (self.minutes * 60)


def routes(prefix: str) -> list[web.RouteDef]:
    """All candlestick reads of the live tier."""
    series = prefix + "/series/{series_ticker}"
    return [
        web.get(series + "/markets/{ticker}/candlesticks", public(of_market)),
        web.get(series + "/events/{ticker}/candlesticks", public(of_event)),
        web.get(prefix + "/markets/candlesticks", public(of_markets)),
    ]


async def of_market(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    listing = service.exchange.catalog.listings.get(request.match_info["ticker"])
    is_here = listing is not None and not service.archive.market_test()(listing)
    if listing is None or not is_here or listing.series_ticker != request.match_info["series_ticker"]:
        raise not_found("market")
    candles = told(request, listing, read_span(request.query))
    return answer({"ticker": listing.ticker, "candlesticks": [candle.payload() for candle in candles]})


async def of_markets(request: web.Request) -> web.Response:
    """Up to 100 markets and 10,000 candles in all; unknown markets are left out."""
    tickers = listed(request.query, "market_tickers")
    if not tickers:
        raise bare("market_tickers is required")
    span = read_span(request.query, most=MOST_IN_ALL)
    if span.count * len(tickers) > MOST_IN_ALL:
        raise bare(f"at most {MOST_IN_ALL} candlesticks in all")
    listings = request.app[SERVICE].exchange.catalog.listings
    shown = [
        {
            "market_ticker": ticker,
            "candlesticks": [candle.payload() for candle in told(request, listings[ticker], span)],
        }
        for ticker in sorted(tickers)
        if ticker in listings
    ]
    return answer({"markets": shown})


async def of_event(request: web.Request) -> web.Response:
    """All markets of an event; a span that is too long for so many ends earlier, and the answer says where."""
    catalog, ticker = request.app[SERVICE].exchange.catalog, request.match_info["ticker"]
    event = catalog.events.get(ticker)
    if event is None or event["series_ticker"] != request.match_info["series_ticker"]:
        raise not_found("event")
    markets = catalog.markets_of(ticker)
    asked = read_span(request.query, most=None)
    most = MOST_CANDLES // max(1, len(markets))
    end = min(asked.end_ts, asked.start_ts + most * asked.minutes * 60)
    span = Span(asked.start_ts, end, asked.minutes)
    body = {
        "market_tickers": [listing.ticker for listing in markets],
        "market_candlesticks": [
            [candle.payload() for candle in told(request, listing, span)] for listing in markets
        ],
        "adjusted_end_ts": end,
    }
    return answer(body)


def read_span(query: Query, *, most: int | None = MOST_CANDLES) -> Span:
    """The span of a query, at most so many candles long. Raises Refused."""
    start, end = required_whole(query, "start_ts"), required_whole(query, "end_ts")
    period = required_whole(query, "period_interval")
    if period not in PERIODS:
        raise bare("period_interval must be one of 1, 60, 1440")
    span = Span(start, end, period)
    if end < start or (most is not None and span.count > most):
        raise bare(f"end_ts must follow start_ts by at most {most} candlesticks")
    return span


def told(request: web.Request, listing: Listing, span: Span) -> list[Candle]:
    """The candles of a market, none of them later than the period that runs now; with the one before on request
    (`include_latest_before_start`)."""
    now_ts = request.app[SERVICE].exchange.now_ms() // 1000
    last = min(span.end_ts, now_ts + span.minutes * 60)
    candles = listing.candles.between(span.start_ts, last, span.minutes)
    if flag(request.query, "include_latest_before_start"):
        earlier = listing.candles.latest_before(span.start_ts, span.minutes)
        if earlier is not None:
            first = -(-span.start_ts // (span.minutes * 60)) * span.minutes * 60_000
            candles.insert(0, earlier.projected(first))
    return candles
