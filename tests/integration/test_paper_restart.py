"""kill -9 of the paper exchange: what was acknowledged is still there, what was not is whole or absent."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exchanges import ROOT, PaperExchange, paper_exchange
from tests.paper_venue import Client, Signer
from trading.domain.matching import to_lots

pytestmark = pytest.mark.slow


def client(session: aiohttp.ClientSession, paper: PaperExchange) -> Client:
    return Client(session, paper.rest_url.removesuffix("/trade-api/v2"), Signer.of(paper.home, "desk-trade"))


async def open_market(desk: Client) -> dict[str, Any]:
    """A simulated market that stays open for a while, has an offer, and is far from where a bid of one cent fills."""
    async with asyncio.timeout(20):
        while True:
            for market in (await desk.get("/markets", status="open", limit=1000))["markets"]:
                lasts = market["close_time"] > _in_two_minutes()
                if lasts and to_lots(market["yes_ask_size_fp"]) and market["yes_bid_dollars"] > "0.2000":
                    found: dict[str, Any] = market
                    return found
            await asyncio.sleep(0.1)


def _in_two_minutes() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))


async def trade_until_killed(
    desk: Client, paper: PaperExchange, ticker: str, price: str
) -> list[dict[str, Any]]:
    """Send orders side by side; kill the exchange in the middle; the answers that had arrived by then."""
    acknowledged: list[dict[str, Any]] = []

    async def send(number: int) -> None:
        fields = {"ticker": ticker, "client_order_id": f"kill-{number}"}
        # Every third order takes what is offered, the others rest far below.
        terms = ("bid", price, "1") if number % 3 == 0 else ("bid", "0.01", "1")
        status, body = await desk.order(*terms, **fields)
        assert status == 201, body
        acknowledged.append({**body, "number": number})

    tasks = [asyncio.create_task(send(number)) for number in range(600)]
    while len(acknowledged) < 40:
        await asyncio.sleep(0.001)
    paper.kill()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(answer, aiohttp.ClientError | OSError) for answer in answers), (
        "the kill came too late"
    )
    return acknowledged


async def books(desk: Client) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    orders = {
        order["order_id"]: order for order in (await desk.get("/portfolio/orders", limit=1000))["orders"]
    }
    fills = (await desk.get("/portfolio/fills", limit=1000))["fills"]
    return orders, fills, await desk.get("/portfolio/balance")


async def test_no_acknowledged_order_or_fill_is_lost_by_kill_9(tmp_path: Path) -> None:
    home = tmp_path / "paper"
    options = ("--simulate", "--seed", "5", "--tier", "prestige")
    async with aiohttp.ClientSession() as session:
        with paper_exchange(home, *options) as paper:
            desk = client(session, paper)
            market = await open_market(desk)
            acknowledged = await trade_until_killed(desk, paper, market["ticker"], market["yes_ask_dollars"])
        with paper_exchange(home, *options) as paper:
            desk = client(session, paper)
            orders, fills, _ = await books(desk)
            for answer in acknowledged:
                order = orders[answer["order_id"]]
                assert to_lots(order["fill_count_fp"]) >= to_lots(answer["fill_count"])
                assert order["client_order_id"] == f"kill-{answer['number']}"
            filled: dict[str, int] = {}
            for fill in fills:
                filled[fill["order_id"]] = filled.get(fill["order_id"], 0) + to_lots(fill["count_fp"])
            assert filled == {
                number: lots for number, order in orders.items() if (lots := to_lots(order["fill_count_fp"]))
            }, "every order has exactly the fills that it counts"
            status, body = await desk.order(
                "bid", "0.01", "1", client_order_id="kill-0", ticker=market["ticker"]
            )
            assert (status, body["error"]["code"]) == (409, "order_already_exists")
            resting = [order for order in orders.values() if order["status"] == "resting"]
            assert resting
            assert (await desk.call("DELETE", "/portfolio/events/orders"))[0] == 204


async def test_groups_amends_and_places_survive_kill_9(tmp_path: Path) -> None:
    home = tmp_path / "paper"
    options = ("--simulate", "--seed", "5", "--tier", "prestige")
    groups, orders = "/portfolio/order_groups", "/portfolio/events/orders"
    async with aiohttp.ClientSession() as session:
        with paper_exchange(home, *options) as paper:
            desk = client(session, paper)
            ticker = (await open_market(desk))["ticker"]
            made = [
                await desk.call("POST", f"{groups}/create", json={"contracts_limit": 50}) for _ in range(2)
            ]
            kept, ended = (str(body["order_group_id"]) for _, body in made)
            sent = {"ticker": ticker, "order_group_id": kept}
            first, second = [(await desk.order("bid", "0.01", "5", **sent))[1]["order_id"] for _ in range(2)]
            larger = {"ticker": ticker, "side": "bid", "price": "0.01", "count": "6"}
            assert (await desk.call("POST", f"{orders}/{first}/amend", json=larger))[0] == 200
            assert (await desk.call("PUT", f"{groups}/{ended}/trigger"))[0] == 200
            paper.kill()
        with paper_exchange(home, *options) as paper:
            desk = client(session, paper)
            listed = {group["id"]: group for group in (await desk.get(groups))["order_groups"]}
            assert {key: listed[key]["is_auto_cancel_enabled"] for key in (kept, ended)} == {
                kept: False,
                ended: True,
            }
            assert sorted((await desk.get(f"{groups}/{kept}"))["orders"]) == sorted([first, second])
            told = (await desk.get("/portfolio/orders/queue_positions"))["queue_positions"]
            places = {each["order_id"]: to_lots(each["queue_position_fp"]) for each in told}
            assert places[first] >= places[second] + 500, "the one that was made larger stands behind"
            late = {"ticker": ticker, "order_group_id": ended, "client_order_id": "late"}
            status, body = await desk.order("bid", "0.01", "1", **late)
            assert (status, body["error"]["code"]) == (400, "exceeded_order_group_risk_limit")


async def test_a_second_exchange_in_the_same_home_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "paper"
    with paper_exchange(home, "--simulate"):
        command = [sys.executable, "-m", "trading.paper", "--home", str(home)]
        second = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    assert second.returncode == 2
    assert "another paper exchange" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "paper"
    with paper_exchange(home, "--simulate") as paper:
        assert json.loads((home / "ready.json").read_text())["ws_url"] == paper.ws_url
        paper.process.send_signal(number)
        assert await asyncio.to_thread(paper.process.wait, 10) == 0
    assert not (home / "ready.json").exists()
