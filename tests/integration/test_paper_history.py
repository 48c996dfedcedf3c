"""The historical tier and lagging reads over REST, and through a real process that is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exchanges import paper_exchange
from tests.integration.test_paper_account import owner_home, require_contract
from tests.paper_venue import ASK, BID, A, B, Client, Running, Signer, running
from trading.paper.conduct import Conduct

pytestmark = pytest.mark.slow

AT_ONCE = Conduct(order_horizon=timedelta(0), horizon=timedelta(0))


@pytest.fixture
async def traded(tmp_path: Path) -> AsyncIterator[Running]:
    """A settled market, a fill in it and in the other one, an order that rests; all of it older than the horizons."""
    async with running(owner_home(tmp_path), conduct=AT_ONCE) as paper:
        paper.quote()
        paper.exchange.house_submit("maker", B, BID, 4000, 1000)
        await paper.trader.order("bid", "0.42", "2")
        await paper.trader.order("ask", "0.40", "1", ticker=B)
        await paper.trader.order("bid", "0.10", "1")
        paper.exchange.house_submit("taker", B, ASK, 4000, 100)
        paper.exchange.determine(B, "no")
        paper.exchange.settle(B)
        await asyncio.sleep(0.01)  # what happened within this millisecond is not yet older than the cutoff
        yield paper


async def read(paper: Running, path: str, **query: Any) -> Any:
    body = await paper.trader.get(path, **query)
    require_contract("GET", path, 200, body)
    return body


async def test_what_has_left_the_live_tier_is_served_by_the_historical_one(traded: Running) -> None:
    assert [o["status"] for o in (await read(traded, "/portfolio/orders"))["orders"]] == ["resting"]
    old = (await read(traded, "/historical/orders"))["orders"]
    assert sorted(order["status"] for order in old) == ["executed", "executed"]
    assert (await traded.trader.call("GET", f"/portfolio/orders/{old[0]['order_id']}"))[0] == 404
    assert (await read(traded, "/portfolio/fills"))["fills"] == []
    assert len((await read(traded, "/historical/fills"))["fills"]) == 2
    assert len((await read(traded, "/historical/fills", ticker=B))["fills"]) == 1
    assert (await read(traded, "/portfolio/settlements"))["settlements"] == []
    live = await read(traded, "/portfolio/positions", settlement_status="all")
    assert [item["ticker"] for item in live["market_positions"]] == [A]
    past = await read(traded, "/historical/positions")
    assert [item["ticker"] for item in past["market_positions"]] == [B]


async def test_settled_markets_leave_with_their_trades_and_candles(traded: Running) -> None:
    assert [m["ticker"] for m in (await read(traded, "/markets"))["markets"]] == [A]
    assert [m["ticker"] for m in (await read(traded, "/historical/markets"))["markets"]] == [B]
    assert (await read(traded, "/historical/markets", event_ticker="OTHER"))["markets"] == []
    assert (await traded.trader.call("GET", f"/markets/{B}"))[0] == 404
    assert (await read(traded, f"/historical/markets/{B}"))["market"]["result"] == "no"
    assert (await traded.trader.call("GET", f"/historical/markets/{A}"))[0] == 404
    nested = await read(traded, "/events/TEST-1", with_nested_markets="true")
    assert [market["ticker"] for market in nested["event"]["markets"]] == [A]
    assert (await read(traded, "/markets/trades"))["trades"] == []
    assert len((await read(traded, "/historical/trades", ticker=B))["trades"]) == 2
    now = traded.exchange.now_ms() // 1000
    span = {"start_ts": now - 60, "end_ts": now + 60, "period_interval": 1}
    candles = await read(traded, f"/historical/markets/{B}/candlesticks", **span)
    assert sum(Decimal(each["volume"]) for each in candles["candlesticks"]) == 2, "in one minute, or in two"
    assert (await traded.trader.call("GET", f"/series/TEST/markets/{B}/candlesticks", params=span))[0] == 404
    refused = {"event_ticker": "TEST-1", "tickers": B}
    assert (await traded.trader.call("GET", "/historical/markets", params=refused))[0] == 400


async def test_the_cutoffs_follow_the_horizons(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path)) as paper:
        now = paper.exchange.now()
        cutoff = await read(paper, "/historical/cutoff")
        assert cutoff["orders_updated_ts"] < cutoff_of(now - timedelta(days=13))
        assert cutoff["market_settled_ts"] < cutoff_of(now - timedelta(days=89))
        await paper.trader.order("bid", "0.10", "1")
        assert (await read(paper, "/historical/orders"))["orders"] == []
        paper.exchange.determine(B, "no")
        paper.exchange.settle(B)
        assert (await read(paper, f"/historical/markets/{B}"))["market"]["ticker"] == B, (
            "the archive knows it at once"
        )


def cutoff_of(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


async def test_deposits_withdrawals_and_the_worth_of_what_rests(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path), shards=2) as paper:
        await paper.trader.order("bid", "0.10", "10.5")
        await paper.trader.order("ask", "0.90", "2")
        (deposit,) = (await read(paper, "/portfolio/deposits"))["deposits"]
        assert (deposit["amount_cents"], deposit["status"]) == (1_000_000, "applied")
        assert (await read(paper, "/portfolio/withdrawals"))["withdrawals"] == []
        worth = await read(paper, "/portfolio/summary/total_resting_order_value")
        assert worth["total_resting_order_value"] == 125
        assert worth["resting_order_value_breakdown"] == [
            {"exchange_index": 0, "balance": "1.2500"},
            {"exchange_index": 1, "balance": "0.0000"},
        ]
        assert (await paper.trader.call("GET", "/portfolio/deposits", params={"limit": 501}))[0] == 400


async def test_reads_lag_and_say_so_but_answers_and_the_stream_do_not(tmp_path: Path) -> None:
    lagging = Conduct(read_lag=timedelta(hours=1))
    async with running(owner_home(tmp_path), conduct=lagging) as paper, paper.trader.stream() as stream:
        await stream.subscribe("user_orders")
        status, made = await paper.trader.order("bid", "0.10", "1")
        assert status == 201
        assert (await stream.next("user_order"))["msg"]["order_id"] == made["order_id"]
        assert (await read(paper, "/portfolio/orders"))["orders"] == []
        assert (await paper.trader.call("GET", f"/portfolio/orders/{made['order_id']}"))[0] == 404
        as_of = (await read(paper, "/exchange/user_data_timestamp"))["as_of_time"]
        assert as_of < cutoff_of(paper.exchange.now() - timedelta(minutes=59))


async def test_maintenance_is_announced_where_it_is_kept(tmp_path: Path) -> None:
    async with running(owner_home(tmp_path / "keeps"), conduct=Conduct(maintenance=True)) as paper:
        schedule = (await read(paper, "/exchange/schedule"))["schedule"]
        assert len(schedule["maintenance_windows"]) == 4
    async with running(owner_home(tmp_path / "does-not")) as paper:
        assert (await read(paper, "/exchange/schedule"))["schedule"]["maintenance_windows"] == []


async def shards(desk: Client) -> list[str]:
    return [item["balance"] for item in (await desk.get("/portfolio/balance"))["balance_breakdown"]]


async def test_money_history_and_settings_survive_kill_9(tmp_path: Path) -> None:
    """Through the real process and its own command line."""
    home = owner_home(tmp_path / "paper")
    options = ("--simulate", "--seed", "5", "--tier", "unlimited", "--shards", "2", "--archive-after", "3600")
    path = "/portfolio/subaccounts/transfer"
    body = {
        "client_transfer_id": "8a0c2f9e-6e0a-4f0d-9f57-0a8ab7b0a001",
        "from_subaccount": 0,
        "to_subaccount": 1,
        "amount_cents": 5_000,
    }
    across = {"source": "event_contract", "destination": "event_contract", "amount": 1_000_000}
    async with aiohttp.ClientSession() as session:
        with paper_exchange(home, *options) as paper:
            desk = Client(
                session, paper.rest_url.removesuffix("/trade-api/v2"), Signer.of(home, "desk-trade")
            )
            assert (await desk.call("POST", "/portfolio/subaccounts"))[0] == 201
            assert (await desk.call("POST", path, json=body))[0] == 200
            moved = {**across, "destination_exchange_shard": 1}
            assert (await desk.call("POST", "/portfolio/intra_exchange_instance_transfer", json=moved))[
                0
            ] == 200
            on = {"subaccount_number": 1, "enabled": True}
            assert (await desk.call("PUT", "/portfolio/subaccounts/netting", json=on))[0] == 200
            status, made = await desk.call("POST", "/api_keys/generate", json={"name": "late"})
            assert status == 201
            paper.kill()
        with paper_exchange(home, *options) as paper:
            desk = Client(
                session, paper.rest_url.removesuffix("/trade-api/v2"), Signer.of(home, "desk-trade")
            )
            async with asyncio.timeout(10):  # the money between the shards arrives when the clock looks next
                while await shards(desk) != ["9850.0000", "100.0000"]:
                    await asyncio.sleep(0.02)
            assert (await desk.get("/portfolio/balance", subaccount=1))["balance"] == 5_000
            assert (await desk.call("POST", path, json=body))[0] == 409
            configs = (await desk.get("/portfolio/subaccounts/netting"))["netting_configs"]
            assert {c["subaccount_number"] for c in configs if c["enabled"]} == {1}
            keys = (await desk.get("/api_keys"))["api_keys"]
            assert made["api_key_id"] in {key["api_key_id"] for key in keys}
            stored = json.loads((home / "accounts.json").read_text(encoding="utf-8"))
            assert len(stored["accounts"][0]["keys"]) == 3
