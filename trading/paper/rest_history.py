"""The historical tier over REST (API.md 10): what has left the live one, by the same filters."""

from __future__ import annotations

from aiohttp import web

from trading.paper import views
from trading.paper.accounts import ApiKey
from trading.paper.candles import Candle
from trading.paper.definitions import Payload
from trading.paper.ledger import Account
from trading.paper.listing import Listing, TradePrint
from trading.paper.paging import flag, listed, page, within, word
from trading.paper.refusals import bare, not_found
from trading.paper.rest_candles import read_span, told
from trading.paper.rest_portfolio import positions_body
from trading.paper.selections import fills_asked, orders_asked, positions_asked
from trading.paper.service import SERVICE, answer, public, reads


def routes(prefix: str) -> list[web.RouteDef]:
    """All reads of the historical tier."""
    history = prefix + "/historical"
    return [
        web.get(history + "/cutoff", public(cutoff)),
        web.get(history + "/markets", public(markets)),
        web.get(history + "/markets/{ticker}", public(market_one)),
        web.get(history + "/markets/{ticker}/candlesticks", public(candlesticks)),
        web.get(history + "/trades", public(trades)),
        web.get(history + "/fills", reads(fills)),
        web.get(history + "/orders", reads(orders)),
        web.get(history + "/positions", reads(positions)),
    ]


async def cutoff(request: web.Request) -> web.Response:
    return answer(request.app[SERVICE].archive.cutoffs())


async def markets(request: web.Request) -> web.Response:
    """Markets that have left the live tier, latest settlement first. The filters exclude one another."""
    service, query = request.app[SERVICE], request.query
    tickers, event, series = listed(query, "tickers"), query.get("event_ticker"), query.get("series_ticker")
    if sum(1 for given in (tickers, event, series) if given) > 1:
        raise bare("tickers, event_ticker and series_ticker exclude one another")
    archived = service.archive.market_test()
    no_combos = word(query, "mve_filter", ("exclude",)) is not None
    found = [
        listing
        for listing in service.exchange.catalog.listings.values()
        if archived(listing)
        and (tickers is None or listing.ticker in tickers)
        and (not event or listing.event_ticker == event)
        and (not series or listing.series_ticker == series)
        and not (no_combos and listing.collection)
    ]
    found.sort(key=lambda listing: -(listing.settled_ms or 0))
    shown, cursor = page(found, query, lambda listing: listing.ticker)
    now_ms = service.exchange.now_ms()
    return answer({"markets": [listing.payload(now_ms) for listing in shown], "cursor": cursor})


async def market_one(request: web.Request) -> web.Response:
    """A settled market: the archive knows it from its settlement on."""
    now_ms = request.app[SERVICE].exchange.now_ms()
    return answer({"market": _settled(request).payload(now_ms)})


async def candlesticks(request: web.Request) -> web.Response:
    """The candles of a settled market, under this tier's own names."""
    listing = _settled(request)
    shown = [historical_candle(candle) for candle in told(request, listing, read_span(request.query))]
    return answer({"ticker": listing.ticker, "candlesticks": shown})


async def trades(request: web.Request) -> web.Response:
    """Public trades before the cutoff, newest first."""
    service, query = request.app[SERVICE], request.query
    ticker, fits = query.get("ticker"), within(query, "min_ts", "max_ts")
    archived = service.archive.time_test()
    only_block = bool(query.get("is_block_trade")) and flag(query, "is_block_trade")
    found: list[TradePrint] = [
        trade
        for listing in service.exchange.catalog.listings.values()
        if not only_block and (not ticker or listing.ticker == ticker)
        for trade in listing.trades
        if archived(trade.at_ms) and fits(trade.at_ms // 1000)
    ]
    found.sort(key=lambda trade: -trade.at_ms)
    shown, cursor = page(found, query, lambda trade: trade.trade_id)
    return answer({"trades": [trade.payload() for trade in shown], "cursor": cursor})


async def fills(request: web.Request, key: ApiKey) -> web.Response:
    """The account's fills before the cutoff, newest first."""
    archived, asked = request.app[SERVICE].archive.fill_test(), fills_asked(request.query, key)
    found = [fill for fill in reversed(_account(request, key).fills) if archived(fill) and asked(fill)]
    shown, cursor = page(found, request.query, lambda fill: f"{fill.trade_id}/{fill.order_id}")
    return answer({"fills": [views.fill_view(fill) for fill in shown], "cursor": cursor})


async def orders(request: web.Request, key: ApiKey) -> web.Response:
    """Orders that ended before the cutoff, newest first."""
    archived, asked = request.app[SERVICE].archive.order_test(), orders_asked(request.query, key)
    kept = reversed(_account(request, key).orders.values())
    found = [order for order in kept if archived(order) and asked(order)]
    shown, cursor = page(found, request.query, lambda order: order.order_id)
    return answer({"orders": [views.order_view(order) for order in shown], "cursor": cursor})


async def positions(request: web.Request, key: ApiKey) -> web.Response:
    """Settled positions before the cutoff."""
    archived, asked = request.app[SERVICE].archive.position_test(), positions_asked(request.query, key)
    found = [p for p in _account(request, key).settled_positions if archived(p) and asked(p)]
    return answer(positions_body(found, request.query))


def historical_candle(candle: Candle) -> Payload:
    """A candle as MarketCandlestickHistorical: the live names without their unit."""
    live = candle.payload()
    return {
        "end_period_ts": live["end_period_ts"],
        **{side: _bare(live[side]) for side in ("yes_bid", "yes_ask", "price")},
        "volume": live["volume_fp"],
        "open_interest": live["open_interest_fp"],
    }


def _bare(span: Payload) -> Payload:
    return {name.removesuffix("_dollars"): value for name, value in span.items()}


def _settled(request: web.Request) -> Listing:
    listing = request.app[SERVICE].exchange.catalog.listings.get(request.match_info["ticker"])
    if listing is None or listing.settled_ms is None:
        raise not_found("market")
    return listing


def _account(request: web.Request, key: ApiKey) -> Account:
    return request.app[SERVICE].reads_from().accounts[key.account_id]
