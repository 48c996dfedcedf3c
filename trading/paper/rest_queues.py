"""Queue positions over REST (API.md 11)."""

from __future__ import annotations

from aiohttp import web

from trading.paper.accounts import ApiKey
from trading.paper.auth import require_subaccount
from trading.paper.paging import listed, whole
from trading.paper.queues import queue_position, queue_positions
from trading.paper.refusals import not_found
from trading.paper.service import SERVICE, answer, reads
from trading.paper.wire import count_fp


def routes(prefix: str) -> list[web.RouteDef]:
    """The positions of all resting orders and of one."""
    orders = prefix + "/portfolio/orders"
    return [
        web.get(orders + "/queue_positions", reads(all_positions)),
        web.get(orders + "/{order_id}/queue_position", reads(one_position)),
    ]


async def all_positions(request: web.Request, key: ApiKey) -> web.Response:
    """Of the resting orders of one subaccount, by default the primary one, in some markets or in all."""
    service, query = request.app[SERVICE], request.query
    tickers, event = listed(query, "market_tickers"), query.get("event_ticker")
    subaccount = require_subaccount(key, whole(query, "subaccount")) or 0
    chosen: dict[str, set[str]] = {}
    for order in service.exchange.ledger.accounts[key.account_id].resting(subaccount):
        if (tickers is None or order.ticker in tickers) and (not event or order.event_ticker == event):
            chosen.setdefault(order.ticker, set()).add(order.order_id)
    shown = [
        {"order_id": order.order_id, "market_ticker": ticker, "queue_position_fp": count_fp(ahead)}
        for ticker, order_ids in chosen.items()
        for order, ahead in queue_positions(service.exchange.listing(ticker))
        if order.order_id in order_ids
    ]
    return answer({"queue_positions": shown})


async def one_position(request: web.Request, key: ApiKey) -> web.Response:
    """404 for an order that does not rest."""
    service = request.app[SERVICE]
    order = service.exchange.ledger.accounts[key.account_id].orders.get(request.match_info["order_id"])
    if order is None or not order.is_open or require_subaccount(key, order.subaccount) != order.subaccount:
        raise not_found("order")
    ahead = queue_position(service.exchange.listing(order.ticker), order.order_id)
    return answer({"queue_position_fp": count_fp(ahead)})
