"""Batches of orders over REST (API.md 7, 11): up to a full write bucket of creates or cancels, each with its result.

A batch is billed per item and fits the bucket whole or is refused whole. Its items are carried out one after the other,
as if they had come alone: one that is refused holds up none of the others.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from trading.paper import entry, order_answers
from trading.paper.accounts import ApiKey
from trading.paper.auth import require_subaccount
from trading.paper.bodies import read_body
from trading.paper.gates import Address, find_order
from trading.paper.limits import CANCEL_COST, DEFAULT_COST
from trading.paper.refusals import Refused, bad_request
from trading.paper.rest_orders import own_ticket
from trading.paper.service import SERVICE, Service, answer, writes
from trading.paper.tickets import Shard, Subaccount, Ticket


class CreateBatch(msgspec.Struct, frozen=True):
    """The body of a batch of creates."""

    orders: list[Ticket]


class CancelItem(msgspec.Struct, frozen=True):
    """One cancel of a batch."""

    order_id: str
    subaccount: Subaccount | None = None
    exchange_index: Shard | None = None
    market_ticker: str | None = None


class CancelBatch(msgspec.Struct, frozen=True):
    """The body of a batch of cancels."""

    orders: list[CancelItem]


def routes(prefix: str) -> list[web.RouteDef]:
    """Batches of creates and of cancels."""
    path = prefix + "/portfolio/events/orders/batched"
    return [
        web.post(path, writes(create_batch, billed=False)),
        web.delete(path, writes(cancel_batch, billed=False)),
    ]


async def create_batch(request: web.Request, key: ApiKey) -> web.Response:
    """201 with a result or an error per order, in their order."""
    service = request.app[SERVICE]
    tickets = (await read_body(request, CreateBatch)).orders
    if not tickets or not all(ticket.ticker for ticket in tickets):
        raise bad_request("orders, each with its ticker, are required")
    service.limits.write(key.account_id, DEFAULT_COST * len(tickets))
    items = [_create(service, key, ticket) for ticket in tickets]
    await service.journal.settled()
    return answer({"orders": items}, 201)


async def cancel_batch(request: web.Request, key: ApiKey) -> web.Response:
    """200 with what was taken off or an error per order, in their order."""
    service = request.app[SERVICE]
    wanted = (await read_body(request, CancelBatch)).orders
    if not wanted:
        raise bad_request("orders are required")
    service.limits.write(key.account_id, CANCEL_COST * len(wanted))
    items = [_cancel(service, key, item) for item in wanted]
    await service.journal.settled()
    return answer({"orders": items})


def _create(service: Service, key: ApiKey, ticket: Ticket) -> order_answers.Body:
    try:
        order = entry.create(service.exchange, key.account_id, own_ticket(key, ticket))
    except Refused as refused:
        return order_answers.refused_item(ticket.client_order_id, refused)
    return order_answers.created_item(order)


def _cancel(service: Service, key: ApiKey, item: CancelItem) -> order_answers.Body:
    try:
        subaccount = require_subaccount(key, item.subaccount) or 0
        address = Address(item.market_ticker, item.exchange_index, subaccount)
        order = find_order(service.exchange, key.account_id, item.order_id, address)
        return order_answers.canceled_item(*entry.cancel(service.exchange, order))
    except Refused as refused:
        return order_answers.kept_item(item.order_id, refused)
