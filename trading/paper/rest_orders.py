"""Order writes over REST: V2 create, cancel, cancel-all, amend, decrease; the legacy paths that are gone (API.md
11)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from trading.domain.orders import BookSide
from trading.paper import entry, order_answers
from trading.paper.accounts import ApiKey
from trading.paper.amends import Amendment, amend, decrease
from trading.paper.auth import require_subaccount
from trading.paper.bodies import read_body
from trading.paper.gates import Address, find_order
from trading.paper.limits import CANCEL_COST
from trading.paper.paging import whole
from trading.paper.refusals import bad_request, flat, nested
from trading.paper.service import SERVICE, answer, writes
from trading.paper.tickets import LATEST_SECOND, ClientOrderId, Shard, Ticket, lots_of, read_ticket, ticks_of


class AmendBody(msgspec.Struct, frozen=True):
    """The body of an amend. `count` is what is filled plus what shall rest; `expiration_time` 0 clears the expiry."""

    ticker: str
    side: BookSide
    price: str
    count: str
    client_order_id: ClientOrderId = ""
    updated_client_order_id: ClientOrderId = ""
    expiration_time: Annotated[int, msgspec.Meta(ge=0, le=LATEST_SECOND)] | None = None
    exchange_index: Shard | None = None


class DecreaseBody(msgspec.Struct, frozen=True):
    """The body of a decrease: exactly one of the two."""

    reduce_by: str | None = None
    reduce_to: str | None = None
    exchange_index: Shard | None = None
    market_ticker: str | None = None


def routes(prefix: str) -> list[web.RouteDef]:
    """All writes of single orders."""
    orders = prefix + "/portfolio/events/orders"
    legacy = prefix + "/portfolio/orders"
    return [
        web.post(orders, writes(create)),
        web.delete(orders, writes(cancel_all, cost=CANCEL_COST)),
        web.delete(orders + "/{order_id}", writes(cancel, cost=CANCEL_COST)),
        web.post(orders + "/{order_id}/amend", writes(amend_one)),
        web.post(orders + "/{order_id}/decrease", writes(decrease_one)),
        web.post(legacy, writes(gone)),
        web.post(legacy + "/batched", writes(gone)),
        web.delete(legacy + "/batched", writes(gone, cost=CANCEL_COST)),
        web.delete(legacy + "/{order_id}", writes(gone, cost=CANCEL_COST)),
        web.post(legacy + "/{order_id}/amend", writes(gone)),
        web.post(legacy + "/{order_id}/decrease", writes(gone)),
    ]


async def create(request: web.Request, key: ApiKey) -> web.Response:
    """201 with the counts after matching; there is no status in the answer."""
    service = request.app[SERVICE]
    if request.content_type != "application/json":
        raise flat(400, "invalid_content_type", "the content type must be application/json")
    body = await request.read()
    order = entry.create(service.exchange, key.account_id, own_ticket(key, read_ticket(body)))
    await service.journal.settled()
    return answer(order_answers.created(order), 201)


async def cancel(request: web.Request, key: ApiKey) -> web.Response:
    """200 with what was taken off; 404 when the order does not rest, canceled and executed alike."""
    service, order_id = request.app[SERVICE], request.match_info["order_id"]
    shard = whole(request.query, "exchange_index")
    address = Address(request.query.get("market_ticker"), shard, _subaccount(request, key))
    order = find_order(service.exchange, key.account_id, order_id, address)
    order, reduced = entry.cancel(service.exchange, order)
    await service.journal.settled()
    return answer(order_answers.canceled(order, reduced))


async def cancel_all(request: web.Request, key: ApiKey) -> web.Response:
    """204 without a body, once everything that rested is off. Unlike the real exchange's, it never cancels what is
    placed during the following minute: that a client keeps away from the exchange meanwhile is for it to see to."""
    service = request.app[SERVICE]
    entry.cancel_all(
        service.exchange, key.account_id, require_subaccount(key, whole(request.query, "subaccount"))
    )
    await service.journal.settled()
    return web.Response(status=204)


async def amend_one(request: web.Request, key: ApiKey) -> web.Response:
    """200 with what the amend filled, and with the sizes where they changed."""
    service, order_id = request.app[SERVICE], request.match_info["order_id"]
    body = await read_body(request, AmendBody)
    address = Address(body.ticker, body.exchange_index, _subaccount(request, key))
    before = find_order(service.exchange, key.account_id, order_id, address)
    wanted = Amendment(
        side=body.side,
        price_ticks=ticks_of(body.price),
        total_lots=lots_of(body.count),
        client_order_id=body.client_order_id,
        updated_client_order_id=body.updated_client_order_id,
        expires_ms=body.expiration_time * 1000 if body.expiration_time else None,
        keeps_expiry=body.expiration_time is None,
    )
    after = amend(service.exchange, before, wanted)
    await service.journal.settled()
    return answer(order_answers.amended(before, after))


async def decrease_one(request: web.Request, key: ApiKey) -> web.Response:
    """200 with what rests now; at zero the order is canceled."""
    service, order_id = request.app[SERVICE], request.match_info["order_id"]
    body = await read_body(request, DecreaseBody)
    if (body.reduce_by is None) == (body.reduce_to is None):
        raise bad_request("exactly one of reduce_by and reduce_to is required")
    address = Address(body.market_ticker, body.exchange_index, _subaccount(request, key))
    order = find_order(service.exchange, key.account_id, order_id, address)
    order = decrease(
        service.exchange,
        order,
        by=None if body.reduce_by is None else lots_of(body.reduce_by),
        to=None if body.reduce_to is None else lots_of(body.reduce_to, least=0),
    )
    await service.journal.settled()
    return answer(order_answers.decreased(order))


async def gone(request: web.Request, key: ApiKey) -> web.Response:
    """Legacy order writes were switched off in June 2026."""
    raise nested(
        410, "deprecated_v1_order_endpoint", "this endpoint is deprecated", "use /portfolio/events/orders"
    )


def own_ticket(key: ApiKey, ticket: Ticket) -> Ticket:
    """The ticket for the subaccount that the key may trade on. Raises Refused (403)."""
    subaccount = require_subaccount(key, ticket.subaccount)
    return (
        ticket if subaccount == ticket.subaccount else msgspec.structs.replace(ticket, subaccount=subaccount)
    )


def _subaccount(request: web.Request, key: ApiKey) -> int:
    """The subaccount of the query, by default the key's own, else the primary one."""
    return require_subaccount(key, whole(request.query, "subaccount")) or 0
