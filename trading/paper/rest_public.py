"""Public market data over REST: exchange, series, events, markets, books, trades, candlesticks (API.md 8 to 10)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice

from aiohttp import web

from trading.paper.candles import PERIODS
from trading.paper.catalog import FILTER_WORDS
from trading.paper.definitions import EXCHANGE_INDEX, Payload, time_of
from trading.paper.exchange import Exchange
from trading.paper.listing import Listing
from trading.paper.paging import MOST_TICKERS, flag, listed, page, required_whole, whole, within, word
from trading.paper.refusals import bare, nested, not_found
from trading.paper.service import SERVICE, answer, public
from trading.paper.wire import rfc3339

MOST_EVENTS = 200
MOST_CANDLES = 5_000
USUAL_TRADES = 100
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVENT_WORDS = ("unopened", "open", "closed", "settled")
_ALL_DAY = [{"open_time": "00:00", "close_time": "23:59"}]
_ENDLESS = ("2025-01-01T00:00:00Z", "2100-01-01T00:00:00Z")

Query = Mapping[str, str]


def routes(prefix: str) -> list[web.RouteDef]:
    """All public routes."""
    table = {
        "/exchange/status": exchange_status,
        "/exchange/schedule": exchange_schedule,
        "/exchange/user_data_timestamp": user_data_timestamp,
        "/series": series_list,
        "/series/fee_changes": fee_changes,
        "/series/{series_ticker}": series_one,
        "/series/{series_ticker}/markets/{ticker}/candlesticks": candlesticks,
        "/events": events_list,
        "/events/{event_ticker}": event_one,
        "/markets": markets_list,
        "/markets/trades": trades,
        "/markets/orderbooks": orderbooks,
        "/markets/{ticker}": market_one,
        "/markets/{ticker}/orderbook": orderbook,
    }
    return [web.get(prefix + path, public(handler)) for path, handler in table.items()]


async def exchange_status(request: web.Request) -> web.Response:
    """The status body; while inactive it is sent with 503 (API.md 5)."""
    exchange = request.app[SERVICE].exchange
    flags = {
        "exchange_active": exchange.exchange_active,
        "trading_active": exchange.trading_active,
        "intra_exchange_transfers_active": False,
    }
    shard = {"exchange_index": EXCHANGE_INDEX, "description": "paper exchange", **flags}
    return answer({**flags, "exchange_index_statuses": [shard]}, 200 if exchange.exchange_active else 503)


async def exchange_schedule(request: web.Request) -> web.Response:
    """The paper exchange never sleeps."""
    week = {"start_time": _ENDLESS[0], "end_time": _ENDLESS[1], **dict.fromkeys(DAYS, _ALL_DAY)}
    return answer({"schedule": {"standard_hours": [week], "maintenance_windows": []}})


async def user_data_timestamp(request: web.Request) -> web.Response:
    """Reads are never behind here: now."""
    return answer({"as_of_time": rfc3339(request.app[SERVICE].exchange.now())})


async def fee_changes(request: web.Request) -> web.Response:
    """No fee changes are ever scheduled here."""
    return answer({"series_fee_change_arr": []})


async def series_list(request: web.Request) -> web.Response:
    category, tags = request.query.get("category"), listed(request.query, "tags")
    found = [
        series
        for series in request.app[SERVICE].exchange.catalog.series.values()
        if (not category or category in series["categories"] or category == series["category"])
        and (tags is None or tags & set(series["tags"] or ()))
    ]
    return answer({"series": found})


async def series_one(request: web.Request) -> web.Response:
    series = request.app[SERVICE].exchange.catalog.series.get(request.match_info["series_ticker"])
    if series is None:
        raise not_found("series")
    return answer({"series": series})


async def events_list(request: web.Request) -> web.Response:
    exchange, query = request.app[SERVICE].exchange, request.query
    catalog, now_ms = exchange.catalog, exchange.now_ms()
    status, tickers = word(query, "status", EVENT_WORDS), listed(query, "tickers")
    series, close_after = query.get("series_ticker"), whole(query, "min_close_ts")
    found = [
        event
        for ticker, event in catalog.events.items()
        if (tickers is None or ticker in tickers)
        and (not series or event["series_ticker"] == series)
        and (status is None or catalog.event_has(ticker, status))
        and (close_after is None or _closes_after(catalog.markets_of(ticker), close_after))
    ]
    shown, cursor = page(
        found, query, lambda event: str(event["event_ticker"]), most=MOST_EVENTS, usual=MOST_EVENTS
    )
    if flag(query, "with_nested_markets"):
        shown = [{**event, "markets": _markets(exchange, event["event_ticker"], now_ms)} for event in shown]
    return answer({"events": shown, "milestones": [], "cursor": cursor})


async def event_one(request: web.Request) -> web.Response:
    exchange, ticker = request.app[SERVICE].exchange, request.match_info["event_ticker"]
    event = exchange.catalog.events.get(ticker)
    if event is None:
        raise not_found("event")
    markets = [] if flag(request.query, "exclude_markets") else _markets(exchange, ticker, exchange.now_ms())
    if flag(request.query, "with_nested_markets"):
        event = {**event, "markets": markets}
    return answer({"event": event, "markets": markets})


async def markets_list(request: web.Request) -> web.Response:
    exchange, query = request.app[SERVICE].exchange, request.query
    fits = _market_filter(query)
    found = [listing for listing in exchange.catalog.listings.values() if fits(listing)]
    shown, cursor = page(found, query, lambda listing: listing.ticker)
    now_ms = exchange.now_ms()
    return answer({"markets": [listing.payload(now_ms) for listing in shown], "cursor": cursor})


async def market_one(request: web.Request) -> web.Response:
    exchange = request.app[SERVICE].exchange
    return answer({"market": _listing(request).payload(exchange.now_ms())})


async def orderbook(request: web.Request) -> web.Response:
    depth = whole(request.query, "depth") or 0
    if not 0 <= depth <= 100:
        raise bare("depth must be between 0 and 100")
    return answer({"orderbook_fp": _book(request, _listing(request).ticker, depth)})


async def orderbooks(request: web.Request) -> web.Response:
    """Books of up to 100 markets (repeated parameter `tickers`); unknown tickers are left out."""
    tickers = request.query.getall("tickers", [])
    if not 0 < len(tickers) <= MOST_TICKERS:
        raise bare(f"tickers takes 1 to {MOST_TICKERS} names")
    listings = request.app[SERVICE].exchange.catalog.listings
    known = [ticker for ticker in tickers if ticker in listings]
    return answer({"orderbooks": [{"ticker": t, "orderbook_fp": _book(request, t, 0)} for t in known]})


async def trades(request: web.Request) -> web.Response:
    """Public trades, newest first."""
    exchange, query = request.app[SERVICE].exchange, request.query
    ticker, fits = query.get("ticker"), within(query, "min_ts", "max_ts")
    wanted = [item for item in exchange.catalog.listings.values() if not ticker or item.ticker == ticker]
    if query.get("is_block_trade") and flag(query, "is_block_trade"):
        wanted = []  # there are no block trades here
    newest_first = heapq.merge(*(reversed(item.trades) for item in wanted), key=lambda trade: -trade.at_ms)
    asked = (trade for trade in newest_first if fits(trade.at_ms // 1000))
    # The first page, which is what is polled, needs no look at the rest.
    found = list(
        asked if query.get("cursor") else islice(asked, max(whole(query, "limit") or USUAL_TRADES, 0) + 1)
    )
    shown, cursor = page(found, query, lambda trade: trade.trade_id)
    return answer({"trades": [trade.payload() for trade in shown], "cursor": cursor})


async def candlesticks(request: web.Request) -> web.Response:
    listing, query = _listing(request), request.query
    if listing.series_ticker != request.match_info["series_ticker"]:
        raise not_found("market")
    start, end = required_whole(query, "start_ts"), required_whole(query, "end_ts")
    period = required_whole(query, "period_interval")
    if period not in PERIODS:
        raise bare("period_interval must be one of 1, 60, 1440")
    if end < start or (end - start) // (period * 60) > MOST_CANDLES:
        raise bare(f"end_ts must follow start_ts by at most {MOST_CANDLES} candlesticks")
    now_ts = request.app[SERVICE].exchange.now_ms() // 1000
    candles = listing.candles.between(start, min(end, now_ts + period * 60), period)
    if flag(query, "include_latest_before_start"):
        earlier = listing.candles.latest_before(start, period)
        if earlier is not None:
            candles.insert(0, earlier.projected(-(-start // (period * 60)) * period * 60_000))
    return answer({"ticker": listing.ticker, "candlesticks": [candle.payload() for candle in candles]})


def _listing(request: web.Request) -> Listing:
    listing = request.app[SERVICE].exchange.catalog.listings.get(request.match_info["ticker"])
    if listing is None:
        raise not_found("market")
    return listing


def _book(request: web.Request, ticker: str, depth: int) -> Payload:
    yes, no = request.app[SERVICE].hub.book(ticker).sides(depth=depth)
    return {"yes_dollars": yes, "no_dollars": no}


def _markets(exchange: Exchange, event_ticker: str, now_ms: int) -> list[Payload]:
    return [listing.payload(now_ms) for listing in exchange.catalog.markets_of(event_ticker)]


def _closes_after(listings: list[Listing], close_ts: int) -> bool:
    limit = datetime.fromtimestamp(0, UTC) + timedelta(seconds=close_ts)
    return any(listing.closes_at > limit for listing in listings)


# Families of time filters of `GET /markets` exclude one another and go with some status words only (API.md 9).
_FAMILIES: dict[str, tuple[str | None, ...]] = {
    "created": (None, "unopened", "open"),
    "close": (None, "closed"),
    "settled": (None, "settled"),
    "updated": (None,),
}


def _market_filter(query: Query) -> Callable[[Listing], bool]:
    status = word(query, "status", FILTER_WORDS)
    event, series, tickers = query.get("event_ticker"), query.get("series_ticker"), listed(query, "tickers")
    combos_only = word(query, "mve_filter", ("only", "exclude")) == "only"
    in_time = _time_filter(query, status)
    return lambda listing: (
        not combos_only
        and (status is None or listing.status in FILTER_WORDS[status])
        and (not event or listing.event_ticker == event)
        and (not series or listing.series_ticker == series)
        and (tickers is None or listing.ticker in tickers)
        and in_time(listing)
    )


def _time_filter(query: Query, status: str | None) -> Callable[[Listing], bool]:
    asked = [family for family in _FAMILIES if query.get(f"min_{family}_ts") or query.get(f"max_{family}_ts")]
    if not asked:
        return lambda _listing: True
    family = asked[0]
    if len(asked) > 1 or status not in _FAMILIES[family]:
        raise nested(
            400, "invalid_parameters", "incompatible filters", f"{', '.join(asked)} with status {status}"
        )
    fits = within(query, f"min_{family}_ts", f"max_{family}_ts")
    return lambda listing: (ts := _family_ts(listing, family)) is not None and fits(ts)


def _family_ts(listing: Listing, family: str) -> int | None:
    match family:
        case "created":
            return int(time_of(listing.definition, "created_time").timestamp())
        case "close":
            return int(listing.closes_at.timestamp())
        case "updated":
            return listing.updated_ms // 1000
    return None if listing.settled_ms is None else listing.settled_ms // 1000
