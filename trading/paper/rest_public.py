"""Public market data over REST: markets, books, trades (API.md 9, 10); of the live tier only."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import islice

from aiohttp import web

from trading.paper.catalog import FILTER_WORDS
from trading.paper.definitions import Payload, time_of
from trading.paper.listing import Listing
from trading.paper.paging import MOST_TICKERS, flag, listed, page, whole, within, word
from trading.paper.refusals import bare, nested, not_found
from trading.paper.service import SERVICE, answer, public

USUAL_TRADES = 100
MOST_TRADES = 1000
Query = Mapping[str, str]


def routes(prefix: str) -> list[web.RouteDef]:
    """All public routes."""
    table = {
        "/markets": markets_list,
        "/markets/trades": trades,
        "/markets/orderbooks": orderbooks,
        "/markets/{ticker}": market_one,
        "/markets/{ticker}/orderbook": orderbook,
    }
    return [web.get(prefix + path, public(handler)) for path, handler in table.items()]


async def markets_list(request: web.Request) -> web.Response:
    service, query = request.app[SERVICE], request.query
    exchange, archived = service.exchange, service.archive.market_test()
    fits = _market_filter(query)
    found = [item for item in exchange.catalog.listings.values() if fits(item) and not archived(item)]
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
    archived = request.app[SERVICE].archive.time_test()
    asked = (trade for trade in newest_first if fits(trade.at_ms // 1000) and not archived(trade.at_ms))
    # The first page, which is what is polled, needs no look at the rest. What limits are allowed, `page` says.
    looked_at = min(max(whole(query, "limit") or USUAL_TRADES, 0), MOST_TRADES) + 1
    found = list(asked if query.get("cursor") else islice(asked, looked_at))
    shown, cursor = page(found, query, lambda trade: trade.trade_id, most=MOST_TRADES)
    return answer({"trades": [trade.payload() for trade in shown], "cursor": cursor})


def _listing(request: web.Request) -> Listing:
    service = request.app[SERVICE]
    listing = service.exchange.catalog.listings.get(request.match_info["ticker"])
    if listing is None or service.archive.market_test()(listing):
        raise not_found("market")
    return listing


def _book(request: web.Request, ticker: str, depth: int) -> Payload:
    yes, no = request.app[SERVICE].hub.book(ticker).sides(depth=depth)
    return {"yes_dollars": yes, "no_dollars": no}


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
    combos = word(query, "mve_filter", ("only", "exclude"))
    in_time = _time_filter(query, status)
    return lambda listing: (
        (combos is None or bool(listing.collection) == (combos == "only"))
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
    if family == "updated":
        _require_alone(query)
    fits = within(query, f"min_{family}_ts", f"max_{family}_ts")
    return lambda listing: (ts := _family_ts(listing, family)) is not None and fits(ts)


def _require_alone(query: Query) -> None:
    """Markets by their last update go with no other filter than `mve_filter=exclude`, which `series_ticker` needs
    (openapi.yaml, GetMarkets). Raises Refused."""
    others = [name for name in ("event_ticker", "tickers") if query.get(name)]
    excludes = query.get("mve_filter") == "exclude"
    if query.get("mve_filter") == "only" or (query.get("series_ticker") and not excludes):
        others.append("mve_filter other than exclude")
    if others:
        raise nested(400, "invalid_parameters", "incompatible filters", f"updated with {', '.join(others)}")


def _family_ts(listing: Listing, family: str) -> int | None:
    match family:
        case "created":
            return int(time_of(listing.definition, "created_time").timestamp())
        case "close":
            return int(listing.closes_at.timestamp())
        case "updated":
            return listing.updated_ms // 1000
    return None if listing.settled_ms is None else listing.settled_ms // 1000
