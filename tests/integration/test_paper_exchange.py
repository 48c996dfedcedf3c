"""The paper exchange over its real sockets: who may ask, what orders do, what money does, what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from tests.paper_venue import ASK, BID, ORDERS, PREFIX, A, B, QuietWorld, Running, running
from trading.paper.server import WorldEnded
from trading.paper.world import Venue


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        yield started


def code(body: Any) -> str:
    return str(body["error"]["code"])


# Who asks


async def test_both_kinds_of_keys_are_let_in(paper: Running) -> None:
    for client in (paper.reader, paper.trader):
        assert (await client.get("/portfolio/balance"))["balance"] == 1_000_000


async def test_the_signature_covers_the_path_but_not_the_query(paper: Running) -> None:
    headers = paper.reader.signer.headers("GET", f"{PREFIX}/portfolio/orders")
    ask = paper.reader.session.get
    async with ask(f"{paper.origin}{PREFIX}/portfolio/orders?status=resting", headers=headers) as response:
        assert response.status == 200
    async with ask(f"{paper.origin}{PREFIX}/portfolio/fills", headers=headers) as response:
        assert (response.status, code(await response.json())) == (401, "authentication_error")


@pytest.mark.parametrize("name", ["reader", "trader"])
async def test_a_signature_of_another_method_is_refused(paper: Running, name: str) -> None:
    client = getattr(paper, name)
    headers = client.signer.headers("POST", f"{PREFIX}/portfolio/balance")
    status, body = await client.call("GET", "/portfolio/balance", headers=headers)
    assert (status, code(body), body["error"]["details"]) == (
        401,
        "authentication_error",
        "INCORRECT_API_KEY_SIGNATURE",
    )


@pytest.mark.parametrize(
    ("skew", "status"), [(-10_000, 200), (10_000, 200), (30_000, 200), (-30_000, 401), (60_000, 401)]
)
async def test_timestamps_are_accepted_as_the_real_exchange_was_seen_to(
    paper: Running, skew: int, status: int
) -> None:
    headers = paper.reader.signer.headers("GET", f"{PREFIX}/portfolio/balance", skew_ms=skew)
    got, body = await paper.reader.call("GET", "/portfolio/balance", headers=headers)
    assert got == status
    assert status == 200 or code(body) == "header_timestamp_expired"


async def test_unknown_and_missing_keys_are_told_apart(paper: Running) -> None:
    status, body = await paper.reader.call(
        "GET", "/portfolio/balance", headers={"KALSHI-ACCESS-KEY": "nobody"}
    )
    assert (status, body["error"]["details"]) == (401, "NOT_FOUND")
    async with paper.reader.session.get(f"{paper.origin}{PREFIX}/portfolio/balance") as response:
        assert code(await response.json()) == "signature_is_missing_from_headers"


async def test_a_read_key_may_not_trade_and_nothing_happens(paper: Running) -> None:
    status, body = await paper.reader.order("bid", "0.40", "1")
    assert (status, code(body)) == (403, "insufficient_scope")
    assert (await paper.reader.call("DELETE", ORDERS))[0] == 403
    assert (await paper.reader.get("/portfolio/orders"))["orders"] == []


# What orders do


async def test_an_order_rests_is_seen_in_the_book_and_can_be_canceled(paper: Running) -> None:
    status, made = await paper.trader.order("bid", "0.40", "2.50", client_order_id="mine")
    assert (status, made["fill_count"], made["remaining_count"]) == (201, "0.00", "2.50")
    assert "average_fill_price" not in made
    book = await paper.trader.get(f"/markets/{A}/orderbook")
    assert book == {"orderbook_fp": {"yes_dollars": [["0.4000", "2.50"]], "no_dollars": []}}
    seen = (await paper.trader.get(f"/portfolio/orders/{made['order_id']}"))["order"]
    assert (seen["status"], seen["book_side"], seen["client_order_id"]) == ("resting", "bid", "mine")
    status, canceled = await paper.trader.call(
        "DELETE", f"{ORDERS}/{made['order_id']}", params={"market_ticker": A}
    )
    assert (status, canceled["reduced_by"]) == (200, "2.50")
    status, body = await paper.trader.call("DELETE", f"{ORDERS}/{made['order_id']}")
    assert (status, code(body)) == (404, "not_found")


async def test_a_no_bid_is_shown_on_the_no_scale(paper: Running) -> None:
    await paper.trader.order("ask", "0.66", "1")
    book = await paper.trader.get(f"/markets/{A}/orderbook")
    assert book["orderbook_fp"]["no_dollars"] == [["0.3400", "1.00"]]
    market = (await paper.trader.get(f"/markets/{A}"))["market"]
    assert (market["yes_ask_dollars"], market["no_bid_dollars"], market["yes_bid_dollars"]) == (
        "0.6600",
        "0.3400",
        "0.0000",
    )


async def test_a_taker_fill_carries_the_published_fee_to_the_digit(paper: Running) -> None:
    paper.exchange.house_submit("maker", A, ASK, 5200, 100)
    status, made = await paper.trader.order("bid", "0.52", "1")
    assert (status, made["fill_count"], made["average_fill_price"], made["average_fee_paid"]) == (
        201,
        "1.00",
        "0.5200",
        "0.017500",
    )
    (fill,) = (await paper.trader.get("/portfolio/fills"))["fills"]
    assert (fill["fee_cost"], fill["is_taker"], fill["yes_price_dollars"]) == ("0.017500", True, "0.5200")
    assert "client_order_id" not in fill
    balance = await paper.trader.get("/portfolio/balance")
    assert (balance["balance_dollars"], balance["balance"]) == ("9999.4625", 999_946)
    order = (await paper.trader.get(f"/portfolio/orders/{made['order_id']}"))["order"]
    assert (order["status"], order["taker_fees_dollars"], order["taker_fill_cost_dollars"]) == (
        "executed",
        "0.017500",
        "0.520000",
    )


async def test_immediate_or_cancel_without_a_match_answers_both_counts_zero(paper: Running) -> None:
    status, made = await paper.trader.order("bid", "0.40", "1", time_in_force="immediate_or_cancel")
    assert (status, made["fill_count"], made["remaining_count"]) == (201, "0.00", "0.00")
    order = (await paper.trader.get(f"/portfolio/orders/{made['order_id']}"))["order"]
    assert (order["status"], order["remaining_count_fp"]) == ("canceled", "0.00")


async def test_a_fill_or_kill_that_cannot_fill_is_a_definite_no(paper: Running) -> None:
    paper.quote(lots=50)
    status, body = await paper.trader.order(
        "bid", "0.42", "1", time_in_force="fill_or_kill", client_order_id="f"
    )
    assert (status, code(body)) == (409, "fill_or_kill_insufficient_resting_volume")
    assert (await paper.trader.get("/portfolio/orders"))["orders"] == []
    assert (await paper.trader.order("bid", "0.42", "0.5", client_order_id="f"))[0] == 409


async def test_a_crossing_post_only_order_is_refused(paper: Running) -> None:
    paper.quote()
    status, body = await paper.trader.order("bid", "0.42", "1", post_only=True)
    assert (status, code(body), body["error"]["details"]) == (400, "invalid_order", "post only cross")


async def test_a_repeated_client_order_id_is_a_conflict_and_not_a_second_order(paper: Running) -> None:
    assert (await paper.trader.order("bid", "0.40", "1", client_order_id="once"))[0] == 201
    status, body = await paper.trader.order("bid", "0.40", "1", client_order_id="once")
    assert (status, body) == (
        409,
        {"error": {"code": "order_already_exists", "message": "order already exists"}},
    )
    assert len((await paper.trader.get("/portfolio/orders"))["orders"]) == 1


async def test_cancel_all_leaves_nothing_resting(paper: Running) -> None:
    for ticker in (A, B, A):
        await paper.trader.order("bid", "0.10", "1", ticker=ticker)
    assert await paper.trader.call("DELETE", ORDERS) == (204, None)
    assert (await paper.trader.get("/portfolio/orders", status="resting"))["orders"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/portfolio/orders"), ("DELETE", "/portfolio/orders/x"), ("POST", "/portfolio/orders/x/amend")],
)
async def test_legacy_writes_are_gone(paper: Running, method: str, path: str) -> None:
    status, body = await paper.trader.call(method, path, json={})
    assert (status, code(body)) == (410, "deprecated_v1_order_endpoint")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"price": "0.405"}, (400, "invalid_price")),
        ({"price": 0.4}, (400, "bad_request")),
        ({"count": 1}, (400, "bad_request")),
        ({"count": "0.001"}, (400, "invalid_order_size")),
        ({"count": "30000"}, (400, "insufficient_balance")),
        ({"ticker": "NOWHERE"}, (404, "not_found")),
        ({"time_in_force": "market"}, (400, "bad_request")),
        ({"price": "0.\u0664\u0660"}, (400, "invalid_price")),
        ({"count": "\u0661"}, (400, "invalid_order_size")),
        ({"expiration_time": 253_402_300_800}, (400, "bad_request")),
        ({"expiration_time": 10**22}, (400, "bad_request")),
    ],
)
async def test_bad_orders_are_refused_with_their_code(
    paper: Running, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    whole = {"side": "bid", "price": "0.40", "count": "1", **fields}
    status, body = await paper.trader.order(**whole)
    assert (status, code(body)) == expected


async def test_the_latest_expiry_that_is_taken_can_be_shown(paper: Running) -> None:
    assert (await paper.trader.order("bid", "0.40", "1", expiration_time=253_402_300_799))[0] == 201
    _, listed = await paper.trader.call("GET", "/portfolio/orders")
    assert listed["orders"][0]["expiration_time"].startswith("9999-12-31T23:59:59")


async def test_what_is_no_json_gets_the_flat_shape(paper: Running) -> None:
    status, body = await paper.trader.call(
        "POST", ORDERS, data=b"{", headers={"Content-Type": "application/json"}
    )
    assert (status, body["code"]) == (400, "invalid_json")
    status, body = await paper.trader.call("POST", ORDERS, data=b"{}", headers={"Content-Type": "text/plain"})
    assert (status, body["code"]) == (400, "invalid_content_type")


# Money


async def test_balances_add_up_after_random_trading_and_settlement(tmp_path: Path) -> None:
    chance = Random(7)
    async with running(tmp_path, world=QuietWorld("quadratic_with_maker_fees")) as paper:
        for _ in range(60):
            side, price = chance.choice([BID, ASK]), chance.randint(40, 60)
            paper.exchange.house_submit("crowd", A, side, price * 100, chance.randint(1, 800))
            await paper.trader.order(
                chance.choice(["bid", "ask"]),
                f"0.{chance.randint(40, 60)}",
                f"{chance.randint(1, 800) / 100:.2f}",
                self_trade_prevention_type="maker",
            )
        paper.exchange.determine(A, "yes")
        paper.exchange.settle(A)
        fills = (await paper.trader.get("/portfolio/fills", limit=1000))["fills"]
        (settled,) = (await paper.trader.get("/portfolio/settlements"))["settlements"]
        balance = Decimal((await paper.trader.get("/portfolio/balance"))["balance_dollars"])
    assert len(fills) > 20
    assert {fill["is_taker"] for fill in fills} == {True, False}
    net = Decimal(0)
    for fill in fills:
        count, price = Decimal(fill["count_fp"]), Decimal(fill["yes_price_dollars"])
        net += (-price if fill["book_side"] == "bid" else price) * count - Decimal(fill["fee_cost"])
    position = sum(
        (Decimal(f["count_fp"]) * (1 if f["book_side"] == "bid" else -1) for f in fills), Decimal(0)
    )
    held = Decimal(settled["yes_count_fp"]) - Decimal(settled["no_count_fp"])
    assert held == position
    assert balance == Decimal(10_000) + net + position, "cash, fees and what YES paid"
    assert Decimal(settled["fee_cost"]) == sum(Decimal(fill["fee_cost"]) for fill in fills)


async def test_positions_are_signed_and_summed_by_event(paper: Running) -> None:
    paper.quote()
    await paper.trader.order("ask", "0.40", "10")
    body = await paper.trader.get("/portfolio/positions")
    (position,) = body["market_positions"]
    assert (position["position_fp"], position["market_exposure_dollars"]) == ("-10.00", "6.000000")
    assert body["event_positions"][0]["event_exposure_dollars"] == "6.000000"
    paper.exchange.determine(A, "no")
    paper.exchange.settle(A)
    assert (await paper.trader.get("/portfolio/positions"))["market_positions"] == []
    settled = await paper.trader.get("/portfolio/positions", settlement_status="settled")
    assert settled["market_positions"][0]["position_fp"] == "0.00"


# Limits and failures


async def test_rate_limits_bind_by_tier_and_refill(tmp_path: Path) -> None:
    now = [0.0]
    async with running(tmp_path, tier="basic") as paper:
        paper.server.service.limits._clock = lambda: now[0]  # before the first request: buckets keep theirs
        answers = [(await paper.trader.order("bid", "0.10", "1"))[0] for _ in range(15)]
        assert answers == [201] * 10 + [429] * 5
        assert (await paper.trader.call("GET", "/portfolio/balance"))[0] == 200
        status, body = await paper.trader.call("GET", "/portfolio/balance")
        assert (status, body) == (429, {"error": "too many requests"})
        limits = await paper.trader.get("/account/limits")
        assert (limits["usage_tier"], limits["write"]) == (
            "basic",
            {"refill_rate": 100, "bucket_capacity": 100},
        )
        now[0] += 0.3
        answers = [(await paper.trader.order("bid", "0.10", "1"))[0] for _ in range(4)]
        assert answers == [201] * 3 + [429]


class BrokenWorld(QuietWorld):
    async def run(self, exchange: Venue) -> None:
        await asyncio.sleep(0.01)
        raise RuntimeError("the sky fell")


async def test_a_world_that_breaks_stops_the_exchange(tmp_path: Path) -> None:
    async with running(tmp_path, world=BrokenWorld()) as paper:
        with pytest.raises(WorldEnded, match="the sky fell"):
            await paper.server.run(asyncio.Event())


class StillbornWorld(QuietWorld):
    async def run(self, exchange: Venue) -> None:
        raise RuntimeError("no sky at all")


async def test_a_world_that_cannot_begin_opens_no_port(tmp_path: Path) -> None:
    with pytest.raises(WorldEnded, match="no sky at all"):
        async with running(tmp_path, world=StillbornWorld()):
            pass


async def test_planned_faults_happen_once_and_only_where_offered(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "plain") as paper,
        paper.trader.session.post(f"{paper.origin}/__faults") as answer,
    ):
        assert answer.status == 404
    async with running(tmp_path / "faulty", with_faults=True) as paper:
        await _plan(paper, kind="drop_after")
        with pytest.raises(aiohttp.ClientConnectionError):
            await paper.trader.order("bid", "0.10", "1", client_order_id="lost")
        await _plan(paper, kind="drop_before")
        with pytest.raises(aiohttp.ClientConnectionError):
            await paper.trader.order("bid", "0.10", "1", client_order_id="never")
        await _plan(paper, kind="error_before")
        assert (await paper.trader.order("bid", "0.10", "1", client_order_id="never"))[0] == 500
        seen = (await paper.trader.get("/portfolio/orders"))["orders"]
        assert [order["client_order_id"] for order in seen] == ["lost"]
        assert (await paper.trader.order("bid", "0.10", "1"))[0] == 201


async def _plan(paper: Running, **fault: Any) -> None:
    async with paper.trader.session.post(
        f"{paper.origin}/__faults", json={"endpoint": "create", **fault}
    ) as answer:
        assert answer.status == 201
