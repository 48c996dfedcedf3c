"""Order groups over REST (API.md 11)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from trading.domain.matching import LOTS_PER_CONTRACT, Lots
from trading.paper import group_entry
from trading.paper.accounts import ApiKey
from trading.paper.auth import require_subaccount
from trading.paper.bodies import read_body
from trading.paper.groups import Group
from trading.paper.paging import whole
from trading.paper.refusals import bad_request
from trading.paper.service import SERVICE, answer, reads, writes
from trading.paper.tickets import Subaccount, lots_of
from trading.paper.wire import count_fp

Contracts = Annotated[int, msgspec.Meta(ge=1)]


class LimitBody(msgspec.Struct, frozen=True):
    """The body of a new limit: whole contracts, a count string, or both when they agree."""

    contracts_limit: Contracts | None = None
    contracts_limit_fp: str | None = None


class CreateBody(LimitBody, frozen=True):
    """The body of a new group."""

    subaccount: Subaccount | None = None
    exchange_index: Annotated[int, msgspec.Meta(ge=0)] = 0


def routes(prefix: str) -> list[web.RouteDef]:
    """Everything about order groups."""
    groups = prefix + "/portfolio/order_groups"
    one = groups + "/{order_group_id}"
    return [
        web.get(groups, reads(list_groups)),
        web.post(groups + "/create", writes(create)),
        web.get(one, reads(get_one)),
        web.delete(one, writes(delete)),
        web.put(one + "/reset", writes(reset)),
        web.put(one + "/trigger", writes(trigger)),
        web.put(one + "/limit", writes(limit)),
    ]


async def list_groups(request: web.Request, key: ApiKey) -> web.Response:
    """The groups of one subaccount, or of all."""
    subaccount = require_subaccount(key, whole(request.query, "subaccount"))
    groups = request.app[SERVICE].exchange.ledger.groups.of(key.account_id, subaccount)
    return answer({"order_groups": [{"id": group.record.group_id, **_shown(group)} for group in groups]})


async def create(request: web.Request, key: ApiKey) -> web.Response:
    """201 with the id that the exchange gave it."""
    body = await read_body(request, CreateBody)
    subaccount = require_subaccount(key, body.subaccount) or 0
    record = group_entry.create_group(
        request.app[SERVICE].exchange, key.account_id, _limit(body), subaccount, body.exchange_index
    )
    made = {"order_group_id": record.group_id, "subaccount": subaccount}
    return answer({**made, "exchange_index": record.exchange_index}, 201)


async def get_one(request: web.Request, key: ApiKey) -> web.Response:
    """The group with the ids of the orders that rest in it."""
    subaccount = require_subaccount(key, whole(request.query, "subaccount"))
    group = group_entry.find_group(
        request.app[SERVICE].exchange,
        key.account_id,
        request.match_info["order_group_id"],
        subaccount,
        None,
    )
    return answer({**_shown(group), "orders": list(group.open_orders)})


async def delete(request: web.Request, key: ApiKey) -> web.Response:
    """Its orders are canceled with it."""
    group_entry.delete_group(request.app[SERVICE].exchange, _addressed(request, key))
    return answer({})


async def reset(request: web.Request, key: ApiKey) -> web.Response:
    """Orders are taken again."""
    group_entry.reset_group(request.app[SERVICE].exchange, _addressed(request, key))
    return answer({})


async def trigger(request: web.Request, key: ApiKey) -> web.Response:
    """Its orders are canceled, and new ones refused until it is reset."""
    group_entry.trigger_group(request.app[SERVICE].exchange, _addressed(request, key))
    return answer({})


async def limit(request: web.Request, key: ApiKey) -> web.Response:
    """Another limit, which may trigger it at once."""
    body = await read_body(request, LimitBody)
    group_entry.limit_group(request.app[SERVICE].exchange, _addressed(request, key), _limit(body))
    return answer({})


def _addressed(request: web.Request, key: ApiKey) -> Group:
    """The group that a write is about: in the primary subaccount and on shard 0, unless the query says otherwise."""
    return group_entry.find_group(
        request.app[SERVICE].exchange,
        key.account_id,
        request.match_info["order_group_id"],
        require_subaccount(key, whole(request.query, "subaccount")) or 0,
        whole(request.query, "exchange_index") or 0,
    )


def _limit(body: LimitBody) -> Lots:
    """Raises Refused when no limit is given, or two that differ."""
    lots = None if body.contracts_limit_fp is None else lots_of(body.contracts_limit_fp)
    whole_lots = None if body.contracts_limit is None else body.contracts_limit * LOTS_PER_CONTRACT
    given = {value for value in (lots, whole_lots) if value is not None}
    if len(given) != 1:
        raise bad_request("contracts_limit or contracts_limit_fp is required; both must be the same")
    return given.pop()


def _shown(group: Group) -> dict[str, Any]:
    """`is_auto_cancel_enabled` was seen to mean that the group is triggered: true after a trigger, false after a
    reset."""
    return {
        "contracts_limit_fp": count_fp(group.record.limit_lots),
        "is_auto_cancel_enabled": group.record.is_triggered,
        "exchange_index": group.record.exchange_index,
    }
