"""Subaccounts and shards over REST: money, orders and reads by purse; keys that are locked to one; the contract."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_paper_account import holder, owner_home, require_contract
from tests.paper_venue import ORDERS, A, Client, Running, running


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(owner_home(tmp_path), shards=2) as started:
        started.quote()
        yield started


async def posted(
    client: Client, path: str, body: dict[str, Any] | None = None, status: int = 200, method: str = "POST"
) -> Any:
    """The body of a write that must have this status and fit the contract."""
    got, answer = await client.call(method, path, **({} if body is None else {"json": body}))
    assert got == status, answer
    require_contract(method, path, status, answer)
    return answer


async def read(client: Client, path: str, **query: Any) -> Any:
    body = await client.get(path, **query)
    require_contract("GET", path, 200, body)
    return body


def transfer(number: int, cents: int, **more: Any) -> dict[str, Any]:
    ids = {"client_transfer_id": str(uuid.uuid4()), "from_subaccount": 0, "to_subaccount": number}
    return {**ids, "amount_cents": cents, **more}


async def test_money_moves_to_a_new_subaccount_once(paper: Running) -> None:
    desk = paper.trader
    assert await posted(desk, "/portfolio/subaccounts", status=201) == {"subaccount_number": 1}
    body = transfer(1, 12_345)
    await posted(desk, "/portfolio/subaccounts/transfer", body)
    status, refused = await desk.call("POST", "/portfolio/subaccounts/transfer", json=body)
    assert (status, refused["error"]["code"]) == (409, "transfer_already_exists")
    shown = await read(desk, "/portfolio/subaccounts/balances")
    balances = {
        (item["subaccount_number"], item["exchange_index"]): item["balance"]
        for item in shown["subaccount_balances"]
    }
    assert balances == {(0, 0): "9876.5500", (1, 0): "123.4500"}
    (moved,) = (await read(desk, "/portfolio/subaccounts/transfers"))["transfers"]
    assert (moved["from_subaccount"], moved["to_subaccount"], moved["amount_cents"]) == (0, 1, 12_345)
    for query, cents in (({}, 987_655), ({"subaccount": 1}, 12_345)):
        assert (await read(desk, "/portfolio/balance", **query))["balance"] == cents


async def test_an_omitted_subaccount_means_all_for_lists_and_the_primary_one_for_positions(
    paper: Running,
) -> None:
    desk = paper.trader
    await posted(desk, "/portfolio/subaccounts", status=201)
    await posted(desk, "/portfolio/subaccounts/transfer", transfer(1, 10_000))
    assert (await desk.order("bid", "0.42", "2"))[0] == 201
    assert (await desk.order("bid", "0.42", "3", subaccount=1))[0] == 201
    for kind in ("orders", "fills"):
        everything = (await read(desk, f"/portfolio/{kind}"))[kind]
        assert sorted(item["subaccount_number"] for item in everything) == [0, 1]
        assert len((await read(desk, f"/portfolio/{kind}", subaccount=1))[kind]) == 1
        assert (await read(desk, f"/portfolio/{kind}", exchange_index=1))[kind] == []
    held = (await read(desk, "/portfolio/positions"))["market_positions"]
    assert [item["position_fp"] for item in held] == ["2.00"]
    held = (await read(desk, "/portfolio/positions", subaccount=1))["market_positions"]
    assert [item["position_fp"] for item in held] == ["3.00"]
    assert (await desk.order("bid", "0.42", "3", subaccount=9))[0] == 404
    assert (await desk.order("bid", "0.42", "3", subaccount=64))[0] == 400


async def test_a_locked_key_reads_and_trades_on_its_subaccount_only(paper: Running) -> None:
    desk = paper.trader
    for _ in range(2):
        await posted(desk, "/portfolio/subaccounts", status=201)
    await posted(desk, "/portfolio/subaccounts/transfer", transfer(1, 10_000))
    await desk.order("bid", "0.10", "1")
    made = await posted(desk, "/api_keys/generate", {"name": "one", "subaccount": 1}, 201)
    locked = holder(paper, made["api_key_id"], made["private_key"])
    assert (await locked.order("bid", "0.10", "1", subaccount=1))[0] == 201
    assert (await locked.order("bid", "0.10", "1", subaccount=0))[0] == 403
    orders = (await locked.get("/portfolio/orders"))["orders"]
    assert [order["subaccount_number"] for order in orders] == [1]
    other = (await desk.get("/portfolio/orders", subaccount=0))["orders"][0]["order_id"]
    assert (await locked.call("GET", f"/portfolio/orders/{other}"))[0] == 404
    assert (await locked.call("GET", "/portfolio/orders", params={"subaccount": 0}))[0] == 403
    balance = await read(locked, "/portfolio/balance")
    assert balance["balance"] == 10_000
    assert "balance_breakdown" not in balance
    shown = (await read(locked, "/portfolio/subaccounts/balances"))["subaccount_balances"]
    assert {item["subaccount_number"] for item in shown} == {1}
    for path, body in (
        ("/portfolio/subaccounts", {}),
        ("/portfolio/subaccounts/transfer", transfer(2, 100)),
        ("/api_keys/generate", {"name": "more"}),
    ):
        assert (await locked.call("POST", path, json=body))[0] == 403
    assert (await locked.call("DELETE", ORDERS))[0] == 204
    left = (await desk.get("/portfolio/orders", status="resting"))["orders"]
    assert [order["subaccount_number"] for order in left] == [0], "it cancels what is its own"


async def test_money_moves_between_shards_in_centi_cents_and_is_told_per_shard(paper: Running) -> None:
    desk = paper.trader
    asked = {"source": "event_contract", "destination": "event_contract", "amount": 12_345}
    body = {**asked, "destination_exchange_shard": 1, "client_transfer_id": str(uuid.uuid4())}
    path = "/portfolio/intra_exchange_instance_transfer"
    made = await posted(desk, path, body)
    assert (await desk.call("POST", path, json=body))[0] == 409
    paper.exchange.pass_time()
    one = await read(desk, f"/portfolio/intra_exchange_instance_transfers/{made['transfer_id']}")
    assert (one["transfer"]["amount"], one["transfer"]["status"]) == ("1.2345", "complete")
    listed = await read(desk, "/portfolio/intra_exchange_instance_transfers", limit=500)
    assert [item["transfer_id"] for item in listed["transfers"]] == [made["transfer_id"]]
    balance = await read(desk, "/portfolio/balance")
    assert balance["balance_dollars"] == "10000.0000"
    assert balance["balance_breakdown"] == [
        {"exchange_index": 0, "balance": "9998.7655"},
        {"exchange_index": 1, "balance": "1.2345"},
    ]
    for odd in (
        {"destination": "margined"},
        {"destination_exchange_shard": 2},
        {"amount": 0},
        {"amount": 10**12},
        {"client_transfer_id": str(uuid.uuid4()), "source_subaccount": 1},
    ):
        assert (await desk.call("POST", path, json={**asked, "destination_exchange_shard": 1, **odd}))[0] in {
            400,
            404,
        }
    assert (await desk.call("GET", "/portfolio/intra_exchange_instance_transfers/nobody"))[0] == 404


async def test_netting_and_allocation_are_kept_over_a_restart(tmp_path: Path) -> None:
    home = owner_home(tmp_path)
    async with running(home, shards=2) as paper:
        desk = paper.trader
        assert (await desk.call("PUT", "/portfolio/subaccounts/netting", json=netting(0, True)))[0] == 200
        assert (await desk.call("PUT", "/portfolio/subaccounts/netting", json=netting(7, True)))[0] == 404
        shares = [{"exchange_index": 0, "percent": 40}, {"exchange_index": 1, "percent": 60}]
        path = "/portfolio/target_balance_allocation"
        assert await read(desk, path) == {"allocations": [], "resting_margin_reservation": "sum"}
        await posted(desk, path, {"allocations": shares, "resting_margin_reservation": "max"})
        short = {"allocations": shares[:1]}
        assert (await desk.call("POST", path, json=short))[0] == 400
    async with running(home, shards=2) as paper:
        configs = (await read(paper.trader, "/portfolio/subaccounts/netting"))["netting_configs"]
        assert configs[0] == {"subaccount_number": 0, "enabled": True, "exchange_index": 0}
        kept = await read(paper.trader, path)
        assert kept == {"allocations": shares, "resting_margin_reservation": "max"}


def netting(number: int, enabled: bool) -> dict[str, Any]:
    return {"subaccount_number": number, "enabled": enabled}


async def test_each_shard_has_a_status_of_its_own(paper: Running) -> None:
    paper.exchange.shards.trading_active[1] = False
    shown = await read(paper.trader, "/exchange/status")
    assert (shown["trading_active"], shown["intra_exchange_transfers_active"]) == (True, True)
    assert [item["trading_active"] for item in shown["exchange_index_statuses"]] == [True, False]
    assert (await paper.trader.order("bid", "0.10", "1", ticker=A))[0] == 201


async def test_subaccounts_begin_with_the_advanced_tier(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path), tier="basic") as paper:
        assert (await paper.trader.call("POST", "/portfolio/subaccounts"))[0] == 403


async def test_a_locked_keys_stream_tells_of_its_subaccount_only(paper: Running) -> None:
    desk = paper.trader
    await posted(desk, "/portfolio/subaccounts", status=201)
    await posted(desk, "/portfolio/subaccounts/transfer", transfer(1, 10_000))
    made = await posted(desk, "/api_keys/generate", {"name": "one", "subaccount": 1}, 201)
    locked = holder(paper, made["api_key_id"], made["private_key"])
    async with locked.stream() as stream:
        await stream.subscribe("user_orders", "fill", "market_positions")
        await desk.order("bid", "0.42", "2")
        await desk.order("bid", "0.42", "3", subaccount=1)
        fill = await stream.next("fill")
        position = await stream.next("market_position")
    assert (fill["msg"]["subaccount"], fill["msg"]["count_fp"]) == (1, "3.00")
    assert (position["msg"]["subaccount"], position["msg"]["position_fp"]) == (1, "3.00")
    assert {frame["msg"]["subaccount_number"] for frame in stream.kept if frame["type"] == "user_order"} == {
        1
    }
