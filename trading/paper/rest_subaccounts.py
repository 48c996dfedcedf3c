"""Subaccounts and the money between them and between shards, over REST (API.md 12)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from aiohttp import web

from trading.paper.accounts import MOST_SUBACCOUNTS, ApiKey
from trading.paper.auth import require_unlocked
from trading.paper.bodies import read_body
from trading.paper.ledger import Account
from trading.paper.limits import at_least
from trading.paper.paging import page
from trading.paper.records import TransferRecord
from trading.paper.refusals import nested, not_found
from trading.paper.service import SERVICE, answer, reads, writes
from trading.paper.treasury import RESERVATIONS
from trading.paper.views import shard_transfer_view, subaccount_transfer_view
from trading.paper.wire import balance_text

SUBACCOUNTS_FROM = "advanced"
TRANSFER_SCOPE = "write::transfer"
CENTS, CENTI_CENTS = Decimal(100), Decimal(10_000)
MOST_TRANSFERS = 500
Subaccount = Annotated[int, msgspec.Meta(ge=0, le=MOST_SUBACCOUNTS)]
Shard = Annotated[int, msgspec.Meta(ge=0, le=100)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Instance = Literal["event_contract", "margined"]


class OpenSubaccount(msgspec.Struct, frozen=True):
    """The body of `POST /portfolio/subaccounts`."""

    exchange_index: Shard = 0


class SubaccountTransfer(msgspec.Struct, frozen=True):
    """The body of `POST /portfolio/subaccounts/transfer`."""

    client_transfer_id: UUID
    from_subaccount: Subaccount
    to_subaccount: Subaccount
    amount_cents: int
    exchange_index: Shard = 0


class Netting(msgspec.Struct, frozen=True):
    """The body of `PUT /portfolio/subaccounts/netting`."""

    subaccount_number: Subaccount
    enabled: bool


class ShardTransfer(msgspec.Struct, frozen=True):
    """The body of `POST /portfolio/intra_exchange_instance_transfer`; `amount` in centi-cents ($0.0001)."""

    source: Instance
    destination: Instance
    amount: int
    client_transfer_id: UUID | None = None
    source_exchange_shard: Shard = 0
    destination_exchange_shard: Shard = 0
    source_subaccount: Subaccount = 0
    destination_subaccount: Subaccount = 0


class Share(msgspec.Struct, frozen=True):
    """One shard's part of an allocation."""

    exchange_index: Shard
    percent: Percent


class Allocation(msgspec.Struct, frozen=True):
    """The body of `POST /portfolio/target_balance_allocation`."""

    allocations: list[Share]
    resting_margin_reservation: str = "sum"


def routes(prefix: str) -> list[web.RouteDef]:
    """Subaccounts, transfers, allocation."""
    subaccounts, portfolio = prefix + "/portfolio/subaccounts", prefix + "/portfolio"
    shard_transfers = portfolio + "/intra_exchange_instance_transfers"
    allocation = portfolio + "/target_balance_allocation"
    return [
        web.post(subaccounts, writes(open_subaccount, scope=TRANSFER_SCOPE)),
        web.post(subaccounts + "/transfer", writes(transfer, scope=TRANSFER_SCOPE)),
        web.get(subaccounts + "/balances", reads(balances)),
        web.get(subaccounts + "/transfers", reads(transfers)),
        web.put(subaccounts + "/netting", writes(set_netting, scope=TRANSFER_SCOPE)),
        web.get(subaccounts + "/netting", reads(netting)),
        web.post(
            portfolio + "/intra_exchange_instance_transfer", writes(shard_transfer, scope=TRANSFER_SCOPE)
        ),
        web.get(shard_transfers, reads(listed_shard_transfers)),
        web.get(shard_transfers + "/{transfer_id}", reads(shard_transfer_one)),
        web.get(allocation, reads(get_allocation)),
        web.post(allocation, writes(set_allocation, scope=TRANSFER_SCOPE)),
    ]


async def open_subaccount(request: web.Request, key: ApiKey) -> web.Response:
    """201 with the new number; from the Advanced tier on."""
    service, body = request.app[SERVICE], await read_body(request, OpenSubaccount)
    require_unlocked(key)
    if not at_least(service.limits.tier_of(key.account_id).name, SUBACCOUNTS_FROM):
        raise nested(403, "forbidden", "the API usage level does not allow subaccounts", SUBACCOUNTS_FROM)
    number = service.exchange.treasury.open_subaccount(key.account_id, body.exchange_index)
    return answer({"subaccount_number": number}, 201)


async def transfer(request: web.Request, key: ApiKey) -> web.Response:
    """200, at once; 409 for a client_transfer_id that was used."""
    body = await read_body(request, SubaccountTransfer)
    require_unlocked(key)
    shard = body.exchange_index
    request.app[SERVICE].exchange.treasury.transfer(
        key.account_id,
        (body.from_subaccount, shard),
        (body.to_subaccount, shard),
        Decimal(body.amount_cents) / CENTS,
        str(body.client_transfer_id),
    )
    return answer({})


async def balances(request: web.Request, key: ApiKey) -> web.Response:
    """Every purse; a key that is locked to a subaccount sees that one's only."""
    account = _account(request, key)
    shown = [
        {
            "subaccount_number": purse.subaccount,
            "exchange_index": purse.exchange_index,
            "balance": balance_text(purse.balance),
            "updated_ts": purse.updated_ms // 1000,
        }
        for purse in sorted(account.purses_of(key.subaccount), key=lambda p: (p.subaccount, p.exchange_index))
    ]
    return answer({"subaccount_balances": shown})


async def transfers(request: web.Request, key: ApiKey) -> web.Response:
    """Transfers between subaccounts, newest first."""
    found = [
        item
        for item in reversed(_account(request, key).transfers.values())
        if item.within_shard and _concerns(item, key)
    ]
    shown, cursor = page(found, request.query, lambda item: item.transfer_id)
    return answer({"transfers": [subaccount_transfer_view(item) for item in shown], "cursor": cursor})


async def set_netting(request: web.Request, key: ApiKey) -> web.Response:
    """200 without content; collateral return for one subaccount on all its shards."""
    body = await read_body(request, Netting)
    if key.subaccount not in {None, body.subaccount_number}:
        require_unlocked(key)
    request.app[SERVICE].exchange.treasury.set_netting(key.account_id, body.subaccount_number, body.enabled)
    return web.Response(status=200)


async def netting(request: web.Request, key: ApiKey) -> web.Response:
    """The setting of every purse."""
    account = _account(request, key)
    configs = [
        {
            "subaccount_number": purse.subaccount,
            "enabled": account.nets(purse.subaccount),
            "exchange_index": purse.exchange_index,
        }
        for purse in sorted(account.purses_of(key.subaccount), key=lambda p: (p.subaccount, p.exchange_index))
    ]
    return answer({"netting_configs": configs})


async def shard_transfer(request: web.Request, key: ApiKey) -> web.Response:
    """200 with the transfer's id: accepted, and done a moment later.

    Between purses of one shard it is a transfer of the subaccount kind, done at once. Between shards it goes from
    subaccount to subaccount in one step here; the real exchange goes by the primary ones.
    """
    body = await read_body(request, ShardTransfer)
    places = (body.source_subaccount, body.destination_subaccount)
    if "margined" in {body.source, body.destination}:
        raise nested(400, "invalid_parameters", "invalid parameters", "there is no margined exchange here")
    if key.subaccount is not None and set(places) != {key.subaccount}:
        require_unlocked(key)
    if body.client_transfer_id is not None and any(places):
        raise nested(
            400,
            "invalid_parameters",
            "invalid parameters",
            "client_transfer_id is for the primary subaccount",
        )
    made = request.app[SERVICE].exchange.treasury.transfer(
        key.account_id,
        (body.source_subaccount, body.source_exchange_shard),
        (body.destination_subaccount, body.destination_exchange_shard),
        Decimal(body.amount) / CENTI_CENTS,
        str(body.client_transfer_id or ""),
    )
    return answer({"transfer_id": made.transfer_id})


async def listed_shard_transfers(request: web.Request, key: ApiKey) -> web.Response:
    """Transfers between shards, newest first, those of the rebalancing among them."""
    found = [
        item
        for item in reversed(_account(request, key).transfers.values())
        if not item.within_shard and _concerns(item, key)
    ]
    shown, cursor = page(found, request.query, lambda item: item.transfer_id, most=MOST_TRANSFERS)
    body: dict[str, object] = {"transfers": [shard_transfer_view(item) for item in shown]}
    return answer({**body, "cursor": cursor} if cursor else body)


async def shard_transfer_one(request: web.Request, key: ApiKey) -> web.Response:
    item = _account(request, key).transfers.get(request.match_info["transfer_id"])
    if item is None or item.within_shard or not _concerns(item, key):
        raise not_found("transfer")
    return answer({"transfer": shard_transfer_view(item)})


async def get_allocation(request: web.Request, key: ApiKey) -> web.Response:
    allocation = _account(request, key).allocation
    percents = allocation.percents if allocation else {}
    shares = [{"exchange_index": shard, "percent": percent} for shard, percent in percents.items()]
    reservation = allocation.reservation if allocation else "sum"
    return answer({"allocations": shares, "resting_margin_reservation": reservation})


async def set_allocation(request: web.Request, key: ApiKey) -> web.Response:
    """200; replaces what was set. An empty list ends the rebalancing."""
    body = await read_body(request, Allocation)
    require_unlocked(key)
    percents = {share.exchange_index: share.percent for share in body.allocations}
    if len(percents) != len(body.allocations):
        raise nested(400, "invalid_parameters", "invalid parameters", "a shard is named twice")
    if body.resting_margin_reservation not in RESERVATIONS:
        raise nested(400, "invalid_parameters", "invalid parameters", "resting_margin_reservation")
    request.app[SERVICE].exchange.treasury.set_allocation(
        key.account_id, percents, body.resting_margin_reservation
    )
    return answer({})


def _account(request: web.Request, key: ApiKey) -> Account:
    return request.app[SERVICE].exchange.ledger.accounts[key.account_id]


def _concerns(item: TransferRecord, key: ApiKey) -> bool:
    return key.subaccount is None or key.subaccount in {item.from_subaccount, item.to_subaccount}
