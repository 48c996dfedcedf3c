"""The account itself: usage tiers, token costs and API keys, over REST and through a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from tests.contract import at_hand, operation
from tests.paper_venue import ORDERS, Client, Running, Signer, running
from trading.paper.accounts import make_key


def require_contract(method: str, path: str, status: int, body: Any) -> None:
    """The answer is as published, where the contract is at hand."""
    if at_hand():
        found = operation(method, path)
        assert found is not None, path
        assert found.answer_faults(status, json.dumps(body).encode() if body is not None else b"") == []


def owner_home(home: Path, **account: Any) -> Path:
    """A home whose desk keys may do everything."""
    home.mkdir(parents=True, exist_ok=True)
    keys = [make_key(home, name, "ed25519", ("read", "write")) for name in ("desk-read", "desk-trade")]
    desk = {"account_id": "desk", "name": "desk", "balance": "10000.00", "keys": keys, **account}
    (home / "accounts.json").write_text(json.dumps({"accounts": [desk]}), encoding="utf-8")
    return home


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(owner_home(tmp_path)) as started:
        yield started


def holder(paper: Running, key_id: str, private_pem: str) -> Client:
    private = serialization.load_pem_private_key(private_pem.encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    return Client(paper.trader.session, paper.origin, Signer(key_id, private))


@pytest.mark.parametrize("key_type", ["rsa", "ed25519"])
async def test_a_generated_key_works_at_once_and_after_a_restart_and_never_after_its_end(
    tmp_path: Path, key_type: str
) -> None:
    home = owner_home(tmp_path)
    async with running(home) as paper:
        asked = {"name": "fresh", "key_type": key_type, "scopes": ["read"]}
        status, made = await paper.trader.call("POST", "/api_keys/generate", json=asked)
        assert status == 201
        require_contract("POST", "/api_keys/generate", status, made)
        header = "BEGIN RSA PRIVATE KEY" if key_type == "rsa" else "BEGIN PRIVATE KEY"
        assert header in made["private_key"]
        fresh = holder(paper, made["api_key_id"], made["private_key"])
        assert (await fresh.call("GET", "/portfolio/orders"))[0] == 200
        assert (await fresh.order("bid", "0.10", "1"))[0] == 403, "a key without write may not trade"
    assert made["private_key"].splitlines()[1] not in (home / "accounts.json").read_text(encoding="utf-8")
    async with running(home) as paper:
        fresh = holder(paper, made["api_key_id"], made["private_key"])
        listed = await fresh.get("/api_keys")
        require_contract("GET", "/api_keys", 200, listed)
        assert [key["name"] for key in listed["api_keys"]] == ["desk-read", "desk-trade", "fresh"]
        assert (await paper.trader.call("DELETE", f"/api_keys/{made['api_key_id']}"))[0] == 204
        status, body = await fresh.call("GET", "/portfolio/orders")
        assert (status, body["error"]["details"]) == (401, "NOT_FOUND")
        assert (await paper.trader.call("DELETE", f"/api_keys/{made['api_key_id']}"))[0] == 404


async def test_a_key_may_be_brought_from_the_premier_tier_on(tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    asked = {"name": "own", "public_key": public.decode()}
    async with running(owner_home(tmp_path / "low"), tier="advanced") as paper:
        assert (await paper.trader.call("POST", "/api_keys", json=asked))[0] == 403
    async with running(owner_home(tmp_path / "high"), tier="premier") as paper:
        status, made = await paper.trader.call("POST", "/api_keys", json=asked)
        require_contract("POST", "/api_keys", status, made)
        own = Client(paper.trader.session, paper.origin, Signer(made["api_key_id"], private))
        assert (await own.order("bid", "0.10", "1"))[0] == 201, "without scopes a key has full access"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"scopes": ["write"]}, 400),
        ({"scopes": ["everything"]}, 400),
        ({"name": 7}, 400),
        ({"subaccount": 64}, 400),
        ({"subaccount": 5}, 404),
        ({"fcm_subtrader_id": "me_A"}, 403),
        ({"key_type": "dsa"}, 400),
    ],
)
async def test_keys_that_cannot_be_are_refused(paper: Running, change: dict[str, Any], status: int) -> None:
    answer = await paper.trader.call("POST", "/api_keys/generate", json={"name": "odd", **change})
    assert answer[0] == status
    assert len((await paper.trader.get("/api_keys"))["api_keys"]) == 2


async def test_only_a_key_that_may_write_makes_keys(tmp_path: Path) -> None:
    async with running(tmp_path) as paper:
        for key in (paper.reader, paper.trader):
            assert (await key.call("POST", "/api_keys/generate", json={"name": "more"}))[0] == 403


async def test_limits_and_costs_are_told_as_they_are_billed(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path), tier="expert") as paper:
        limits = await paper.trader.get("/account/limits")
        require_contract("GET", "/account/limits", 200, limits)
        assert limits["write"] == {"refill_rate": 600, "bucket_capacity": 1800}
        costs = await paper.trader.get("/account/endpoint_costs")
        require_contract("GET", "/account/endpoint_costs", 200, costs)
        listed = {(item["method"], item["path"]): item["cost"] for item in costs["endpoint_costs"]}
        assert costs["default_cost"] == 10
        assert listed["DELETE", f"/trade-api/v2{ORDERS}/{{order_id}}"] == 2
        assert listed["GET", "/trade-api/v2/portfolio/orders/{order_id}"] == 2


async def test_the_advanced_level_is_granted_to_who_has_traded_by_api_and_stays(tmp_path: Path) -> None:
    home = owner_home(tmp_path)
    async with running(home, tier="basic") as paper:
        assert (await paper.trader.call("POST", "/account/api_usage_level/upgrade"))[0] == 403
        await paper.trader.order("bid", "0.10", "1")
        assert (await paper.trader.call("POST", "/account/api_usage_level/upgrade"))[0] == 201
        progress = await paper.trader.get("/account/api_usage_level/volume_progress")
        require_contract("GET", "/account/api_usage_level/volume_progress", 200, progress)
    async with running(home, tier="basic") as paper:
        limits = await paper.trader.get("/account/limits")
        require_contract("GET", "/account/limits", 200, limits)
        assert (limits["usage_tier"], limits["grants"][0]["level"]) == ("advanced", "advanced")


async def test_an_unlimited_tier_refuses_nothing(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path), tier="unlimited") as paper:
        for _ in range(8):
            assert (await paper.trader.call("GET", "/portfolio/balance"))[0] == 200
