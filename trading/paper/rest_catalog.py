"""What is listed, over REST: series, events, combos, their fees to come, the words to search by (API.md 8, 9)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from aiohttp import web

from trading.paper import views
from trading.paper.catalog import Catalog
from trading.paper.definitions import Payload
from trading.paper.listing import Listing
from trading.paper.paging import flag, listed, page, whole, word
from trading.paper.refusals import bare, not_found
from trading.paper.service import SERVICE, Service, answer, public
from trading.paper.wire import count_fp

MOST_EVENTS = 200
USUAL_COMBOS = 100
EVENT_WORDS = ("unopened", "open", "closed", "settled")

Query = Mapping[str, str]


def routes(prefix: str) -> list[web.RouteDef]:
    """All reads of series and events; literal paths before those with names."""
    table = {
        "/series": series_list,
        "/series/fee_changes": series_fee_changes,
        "/series/{series_ticker}": series_one,
        "/events": events_list,
        "/events/multivariate": combos,
        "/events/fee_changes": event_fee_changes,
        "/events/{event_ticker}": event_one,
        "/events/{event_ticker}/metadata": event_metadata,
        "/search/tags_by_categories": tags_by_categories,
    }
    return [web.get(prefix + path, public(handler)) for path, handler in table.items()]


async def series_list(request: web.Request) -> web.Response:
    """All series, in one page."""
    query, catalog = request.query, request.app[SERVICE].exchange.catalog
    category, tags, after = query.get("category"), listed(query, "tags"), whole(query, "min_updated_ts")
    found = [
        series
        for series in catalog.series.values()
        if (not category or category in series["categories"])
        and (tags is None or tags & set(series["tags"] or ()))
        and (after is None or _updated_after(series, after))
    ]
    return answer({"series": [_series_view(catalog, series, query) for series in found]})


async def series_one(request: web.Request) -> web.Response:
    catalog = request.app[SERVICE].exchange.catalog
    series = catalog.series.get(request.match_info["series_ticker"])
    if series is None:
        raise not_found("series")
    return answer({"series": _series_view(catalog, series, request.query, whole_one=True)})


async def events_list(request: web.Request) -> web.Response:
    """Events without combos."""
    service, query = request.app[SERVICE], request.query
    catalog = service.exchange.catalog
    status, tickers = word(query, "status", EVENT_WORDS), listed(query, "tickers")
    series, close_after = query.get("series_ticker"), whole(query, "min_close_ts")
    after = whole(query, "min_updated_ts")
    flag(query, "with_milestones")  # there are none here
    found = [
        event
        for ticker, event in catalog.events.items()
        if not catalog.is_combo(ticker)
        and (tickers is None or ticker in tickers)
        and (not series or event["series_ticker"] == series)
        and (status is None or catalog.event_has(ticker, status))
        and (close_after is None or _closes_after(catalog.markets_of(ticker), close_after))
        and (after is None or _updated_after(event, after))
    ]
    shown, cursor = page(
        found, query, lambda event: str(event["event_ticker"]), most=MOST_EVENTS, usual=MOST_EVENTS
    )
    return answer({"events": _nested(service, query, shown), "milestones": [], "cursor": cursor})


async def combos(request: web.Request) -> web.Response:
    """Events of multivariate collections."""
    service, query = request.app[SERVICE], request.query
    catalog = service.exchange.catalog
    series, collection = query.get("series_ticker"), query.get("collection_ticker")
    if series and collection:
        raise bare("collection_ticker cannot be used together with series_ticker")
    tickers = listed(query, "tickers")
    found = [
        event
        for ticker, event in catalog.events.items()
        if catalog.is_combo(ticker)
        and (tickers is None or ticker in tickers)
        and (not series or event["series_ticker"] == series)
        and (not collection or collection in catalog.collections_of(ticker))
    ]
    shown, cursor = page(
        found, query, lambda event: str(event["event_ticker"]), most=MOST_EVENTS, usual=USUAL_COMBOS
    )
    return answer({"events": _nested(service, query, shown), "cursor": cursor})


async def event_one(request: web.Request) -> web.Response:
    service, ticker = request.app[SERVICE], request.match_info["event_ticker"]
    event = service.exchange.catalog.events.get(ticker)
    if event is None:
        raise not_found("event")
    nested, without = flag(request.query, "with_nested_markets"), flag(request.query, "exclude_markets")
    if nested and without:
        raise bare("exclude_markets cannot be combined with with_nested_markets")
    markets = [] if without else _markets(service, ticker)
    return answer({"event": {**event, "markets": markets} if nested else event, "markets": markets})


async def event_metadata(request: web.Request) -> web.Response:
    """Pictures and colours, which this exchange has none of, and the sources of settlement."""
    catalog, ticker = request.app[SERVICE].exchange.catalog, request.match_info["event_ticker"]
    event = catalog.events.get(ticker)
    if event is None:
        raise not_found("event")
    details = [
        {"market_ticker": listing.ticker, "image_url": "", "color_code": ""}
        for listing in catalog.markets_of(ticker)
    ]
    sources = event["settlement_sources"] or []
    return answer({"image_url": "", "market_details": details, "settlement_sources": sources})


async def series_fee_changes(request: web.Request) -> web.Response:
    """Changes to come, and with `show_historical` those that came."""
    service, series = request.app[SERVICE], request.query.get("series_ticker")
    past = flag(request.query, "show_historical")
    found = [
        change
        for change in service.exchange.ledger.fee_changes.values()
        if not change.event_ticker
        and (not series or change.series_ticker == series)
        and (past or not change.applied)
    ]
    found.sort(key=lambda change: change.scheduled_ms)
    return answer({"series_fee_change_arr": [views.series_fee_change_view(change) for change in found]})


async def event_fee_changes(request: web.Request) -> web.Response:
    """Overrides to come and those that came, latest first."""
    service, event = request.app[SERVICE], request.query.get("event_ticker")
    found = [
        change
        for change in service.exchange.ledger.fee_changes.values()
        if change.event_ticker and (not event or change.event_ticker == event)
    ]
    found.sort(key=lambda change: (-change.scheduled_ms, change.change_id))
    shown, cursor = page(found, request.query, lambda change: change.change_id)
    return answer(
        {"event_fee_changes": [views.event_fee_change_view(change) for change in shown], "cursor": cursor}
    )


async def tags_by_categories(request: web.Request) -> web.Response:
    """Every category with the tags of its series."""
    found: dict[str, set[str]] = defaultdict(set)
    for series in request.app[SERVICE].exchange.catalog.series.values():
        for category in series["categories"]:
            found[category] |= set(series["tags"] or ())
    return answer({"tags_by_categories": {name: sorted(tags) for name, tags in sorted(found.items())}})


def _series_view(catalog: Catalog, series: Payload, query: Query, *, whole_one: bool = False) -> Payload:
    """A series with what was asked for: its volume, its product metadata."""
    shown = dict(series)
    if not whole_one and not flag(query, "include_product_metadata"):
        shown.pop("product_metadata", None)
    if flag(query, "include_volume"):
        shown["volume_fp"] = count_fp(sum(item.volume for item in catalog.of_series(series["ticker"])))
    return shown


def _nested(service: Service, query: Query, events: list[Payload]) -> list[Payload]:
    if not flag(query, "with_nested_markets"):
        return events
    return [{**event, "markets": _markets(service, event["event_ticker"])} for event in events]


def _markets(service: Service, event_ticker: str) -> list[Payload]:
    """An event's markets of the live tier."""
    now_ms, archived = service.exchange.now_ms(), service.archive.market_test()
    found = service.exchange.catalog.markets_of(event_ticker)
    return [listing.payload(now_ms) for listing in found if not archived(listing)]


def _updated_after(payload: Payload, ts: int) -> bool:
    """Whether a definition changed after a second; one of a journal that noted no times did not."""
    stamp = payload.get("last_updated_ts")
    return stamp is not None and datetime.fromisoformat(stamp).timestamp() > ts


def _closes_after(listings: list[Listing], close_ts: int) -> bool:
    return any(listing.closes_at.timestamp() > close_ts for listing in listings)
