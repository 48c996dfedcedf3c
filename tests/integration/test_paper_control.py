"""The levers of the exchange: pauses of one shard, fee changes, voids and disputes, through a real process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exchanges import paper_exchange
from tests.integration.test_paper_account import owner_home
from tests.paper_venue import Client, Signer, running

pytestmark = pytest.mark.slow


async def pull(desk: Client, **act: Any) -> int:
    async with desk.session.post(desk.origin + "/__control", json=act) as response:
        return response.status


async def test_levers_work_through_a_real_process(tmp_path: Path) -> None:
    home = tmp_path / "paper"
    async with aiohttp.ClientSession() as session:
        with paper_exchange(home, "--simulate", "--faults", "--shards", "2", "--tier", "unlimited") as paper:
            desk = Client(
                session, paper.rest_url.removesuffix("/trade-api/v2"), Signer.of(home, "desk-trade")
            )
            assert await pull(desk, act="pause", what="trading", active=False, shard=0) == 204
            shards = (await desk.get("/exchange/status"))["exchange_index_statuses"]
            assert [shard["trading_active"] for shard in shards] == [False, True]
            async with asyncio.timeout(20):
                while (ticker := await open_on(desk, shard=0)) is None:
                    await asyncio.sleep(0.05)
            status, body = await desk.order("bid", "0.01", "1", ticker=ticker)
            assert (status, body["error"]["code"]) == (409, "trading_is_paused")
            assert await pull(desk, act="pause", what="trading", active=True) == 204
            assert await pull(desk, act="pause", what="trading", active=False, shard=7) == 400
            event = (await desk.get(f"/markets/{ticker}"))["market"]["event_ticker"]
            fee = {"ticker": event, "fee_type": "quadratic", "multiplier": "2"}
            assert await pull(desk, act="event_fee", **fee) == 204
            async with asyncio.timeout(10):
                while (await desk.get(f"/events/{event}"))["event"].get("fee_multiplier_override") != 2:
                    await asyncio.sleep(0.02)
            assert await pull(desk, act="market", ticker=ticker, to="void") == 204
            assert await pull(desk, act="market", ticker=ticker, to="disputed") == 204
            assert await pull(desk, act="market", ticker=ticker, to="settled") == 204
            assert (await desk.get(f"/markets/{ticker}"))["market"]["status"] == "disputed"
            assert await pull(desk, act="determine", ticker=ticker, result="yes") == 204
            assert (await desk.get(f"/markets/{ticker}"))["market"]["status"] == "amended"
            assert await pull(desk, act="market", ticker="NOBODY", to="void") == 404
            assert await pull(desk, act="dance") == 400


async def test_simulated_markets_of_another_shard_need_their_money_there(tmp_path: Path) -> None:
    home = owner_home(tmp_path / "paper")
    moved = {"source": "event_contract", "destination": "event_contract", "amount": 500_000}
    async with aiohttp.ClientSession() as session:
        with paper_exchange(home, "--simulate", "--shards", "2", "--tier", "unlimited") as paper:
            desk = Client(
                session, paper.rest_url.removesuffix("/trade-api/v2"), Signer.of(home, "desk-trade")
            )
            async with asyncio.timeout(20):
                while (ticker := await open_on(desk, shard=1)) is None:
                    await asyncio.sleep(0.05)
            status, body = await desk.order("bid", "0.01", "1", ticker=ticker)
            assert (status, body["error"]["code"]) == (400, "insufficient_balance")
            path = "/portfolio/intra_exchange_instance_transfer"
            await desk.call("POST", path, json={**moved, "destination_exchange_shard": 1})
            async with asyncio.timeout(10):
                while (await desk.get("/portfolio/balance", exchange_index=1))["balance"] != 5_000:
                    await asyncio.sleep(0.02)
            status, made = await desk.order("bid", "0.01", "1", ticker=ticker)
            assert status == 201
            order = (await desk.get(f"/portfolio/orders/{made['order_id']}"))["order"]
            assert order["exchange_index"] == 1


async def open_on(desk: Client, *, shard: int) -> str | None:
    markets = (await desk.get("/markets", status="open", limit=1000))["markets"]
    there = [market for market in markets if market["exchange_index"] == shard]
    return max(there, key=lambda market: market["close_time"])["ticker"] if there else None


async def test_without_the_fault_mode_there_are_no_levers(tmp_path: Path) -> None:
    async with running(tmp_path) as paper:
        assert await pull(paper.trader, act="pause", what="trading", active=False) == 404
