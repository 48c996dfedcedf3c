"""The account itself over REST: usage tier and costs, and its API keys (API.md 3, 7; openapi.yaml `account`,
`api-keys`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from trading.paper.accounts import MOST_SUBACCOUNTS, ApiKey
from trading.paper.auth import require_unlocked
from trading.paper.bodies import read_body
from trading.paper.ledger import Account
from trading.paper.limits import LEVELS, UPGRADE_COST, at_least, endpoint_costs
from trading.paper.records import LevelGranted
from trading.paper.refusals import nested, not_found
from trading.paper.service import SERVICE, Service, answer, public, reads, writes
from trading.paper.wire import count_fp, to_ms

UPGRADED_LEVEL = "advanced"
OWN_KEY_LEVEL = "premier"  # who may bring a public key instead of having a pair made
LATEST_ORDERS = 100
VOLUME_SPAN = timedelta(days=30)
Name = Annotated[str, msgspec.Meta(min_length=1)]
Subaccount = Annotated[int, msgspec.Meta(ge=0, le=MOST_SUBACCOUNTS)]


class CreateKey(msgspec.Struct, frozen=True):
    """The body of `POST /api_keys`."""

    name: Name
    public_key: str
    scopes: list[str] | None = None
    subaccount: Subaccount | None = None
    fcm_subtrader_id: str | None = None


class GenerateKey(msgspec.Struct, frozen=True):
    """The body of `POST /api_keys/generate`."""

    name: Name
    key_type: Literal["rsa", "ed25519"] = "rsa"
    scopes: list[str] | None = None
    subaccount: Subaccount | None = None
    fcm_subtrader_id: str | None = None


def routes(prefix: str) -> list[web.RouteDef]:
    """Tier, costs and keys."""
    keys, account = prefix + "/api_keys", prefix + "/account"
    upgrade_path = account + "/api_usage_level/upgrade"
    return [
        web.get(account + "/limits", reads(account_limits)),
        web.get(account + "/endpoint_costs", public(costs)),
        web.post(upgrade_path, writes(upgrade, cost=UPGRADE_COST, scope="write")),
        web.get(account + "/api_usage_level/volume_progress", reads(volume_progress)),
        web.get(keys, reads(listed_keys)),
        web.post(keys, writes(create_key, scope="write")),
        web.post(keys + "/generate", writes(generate_key, scope="write")),
        web.delete(keys + "/{api_key}", writes(delete_key, scope="write")),
    ]


async def account_limits(request: web.Request, key: ApiKey) -> web.Response:
    return answer(request.app[SERVICE].limits.payload(key.account_id))


async def costs(request: web.Request) -> web.Response:
    """The endpoints that cost more or less than usual."""
    prefix = request.path.removesuffix("/account/endpoint_costs")
    return answer(endpoint_costs(prefix))


async def upgrade(request: web.Request, key: ApiKey) -> web.Response:
    """201: the Advanced level for good. 403 for an account that has no order yet among its latest hundred."""
    service = request.app[SERVICE]
    account = service.exchange.ledger.accounts[key.account_id]
    if not account.orders:
        raise nested(403, "forbidden", "no API-created order among the latest orders")
    if not at_least(account.level or LEVELS[0], UPGRADED_LEVEL):
        with service.exchange.steps.step():
            service.exchange.steps.book(LevelGranted(account.account_id, UPGRADED_LEVEL))
        service.limits.grant(account.account_id, UPGRADED_LEVEL)
    return web.Response(status=201)


async def volume_progress(request: web.Request, key: ApiKey) -> web.Response:
    """The volume of the last thirty days. The real goals are not published: none are shown."""
    exchange = request.app[SERVICE].exchange
    account = exchange.ledger.accounts[key.account_id]
    since_ms = to_ms(exchange.now() - VOLUME_SPAN)
    progress = {
        "computed_ts": exchange.now_ms() // 1000,
        "trailing_30d_volume_fp": count_fp(_volume(account, since_ms)),
        "goals": [],
    }
    return answer({"volume_progress": [progress]})


async def listed_keys(request: web.Request, key: ApiKey) -> web.Response:
    """All keys of the account, never their private halves."""
    found = request.app[SERVICE].keyring.of(key.account_id)
    return answer({"api_keys": [_key_view(item) for item in found]})


async def create_key(request: web.Request, key: ApiKey) -> web.Response:
    """201 for a public key that the caller brings; only from the Premier level on."""
    service, body = request.app[SERVICE], await read_body(request, CreateKey)
    if not at_least(service.limits.tier_of(key.account_id).name, OWN_KEY_LEVEL):
        raise nested(403, "forbidden", "the API usage level does not allow own keys", OWN_KEY_LEVEL)
    _require_mintable(service, key, body)
    made = service.keyring.register(key.account_id, body.name, body.public_key, body.scopes, body.subaccount)
    return answer({"api_key_id": made.key_id}, 201)


async def generate_key(request: web.Request, key: ApiKey) -> web.Response:
    """201 with a fresh pair; the private half is told this once."""
    service, body = request.app[SERVICE], await read_body(request, GenerateKey)
    _require_mintable(service, key, body)
    made, private = await service.keyring.generate(
        key.account_id, body.name, body.key_type, body.scopes, body.subaccount
    )
    shown = {"api_key_id": made.key_id, "key_type": body.key_type, "private_key": private}
    return answer(shown, 201)


async def delete_key(request: web.Request, key: ApiKey) -> web.Response:
    """204; the key is refused from now on."""
    require_unlocked(key)
    request.app[SERVICE].keyring.delete(key.account_id, request.match_info["api_key"])
    return web.Response(status=204)


def _require_mintable(service: Service, key: ApiKey, body: CreateKey | GenerateKey) -> None:
    require_unlocked(key)
    if body.fcm_subtrader_id:
        raise nested(403, "forbidden", "only FCM members bind keys to subtraders")
    account = service.exchange.ledger.accounts[key.account_id]
    if body.subaccount is not None and body.subaccount not in account.subaccounts:
        raise not_found("subaccount")


def _key_view(key: ApiKey) -> dict[str, object]:
    shown: dict[str, object] = {"api_key_id": key.key_id, "name": key.name, "scopes": sorted(key.scopes)}
    return shown if key.subaccount is None else {**shown, "subaccount": key.subaccount}


def _volume(account: Account, since_ms: int) -> int:
    return sum(fill.lots for fill in account.fills if fill.at_ms >= since_ms)
