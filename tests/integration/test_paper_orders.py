"""Order entry of the paper exchange over its real socket: amend, decrease, batches, queue positions, order groups,
times in force, and every refusal in the exchange's own shape and code.

Where the published contract is at hand, each answer is also held against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.contract import at_hand, frame_faults, operation
from tests.paper_venue import ASK, BID, ORDERS, A, Client, Running, running
from trading.paper.exchange import Exchange
from trading.paper.journal import Journal
from trading.paper.limits import CANCEL_COST, TIERS

GROUPS = "/portfolio/order_groups"
NO_FILLS = {"average_fill_price": None, "average_fee_paid": None}


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, shards=2) as started:
        yield started


async def call(client: Client, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """One request whose answer fits the published contract, when that is at hand."""
    status, body = await client.call(method, path, **options)
    known = operation(method, path) if at_hand() else None
    if known is not None:
        encoded = b"" if body is None else msgspec.json.encode(body)
        assert known.answer_faults(status, encoded) == [], (method, path, body)
    return status, body


async def refused(client: Client, method: str, path: str, **options: Any) -> tuple[int, str]:
    """Status and code of a nested refusal."""
    status, body = await call(client, method, path, **options)
    return status, str(body["error"]["code"])


async def resting(paper: Running, price: str = "0.40", count: str = "5", **fields: Any) -> str:
    """The id of a fresh order that rests."""
    status, made = await paper.trader.order("bid", price, count, **fields)
    assert (status, made["remaining_count"]) == (201, count + ".00" if "." not in count else count)
    return str(made["order_id"])


def amendment(**fields: Any) -> dict[str, Any]:
    return {"ticker": A, "side": "bid", "price": "0.40", "count": "5", **fields}


def ticket(price: str, count: str = "1", **fields: Any) -> dict[str, Any]:
    whole = {"ticker": A, "side": "bid", "price": price, "count": count, **fields}
    return {
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
        **whole,
    }


async def position(paper: Running, order_id: str) -> str:
    path = f"/portfolio/orders/{order_id}/queue_position"
    status, body = await call(paper.reader, "GET", path)
    assert status == 200
    return str(body["queue_position_fp"])


# Amend


async def test_an_amend_to_a_smaller_size_keeps_the_place_and_says_what_rests(paper: Running) -> None:
    order = await resting(paper)
    await paper.trader.order("bid", "0.40", "3")
    status, body = await call(
        paper.trader,
        "POST",
        f"{ORDERS}/{order}/amend",
        json=amendment(count="2", updated_client_order_id="n"),
    )
    assert status == 200
    assert (body["client_order_id"], body["remaining_count"], body["fill_count"]) == ("n", "2.00", "0.00")
    assert {key: body[key] for key in NO_FILLS} == NO_FILLS
    assert await position(paper, order) == "0.00"
    seen = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
    assert (seen["client_order_id"], seen["remaining_count_fp"]) == ("n", "2.00")


async def test_an_amend_of_the_expiry_alone_tells_no_counts_and_keeps_the_place(paper: Running) -> None:
    order = await resting(paper)
    await paper.trader.order("bid", "0.40", "3")
    later = paper.exchange.now_ms() // 1000 + 60
    for expiry, shown in ((later, True), (0, False)):
        status, body = await call(
            paper.trader, "POST", f"{ORDERS}/{order}/amend", json=amendment(expiration_time=expiry)
        )
        assert (status, body["remaining_count"], body["fill_count"]) == (200, None, None)
        seen = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
        assert ("expiration_time" in seen) is shown
    assert await position(paper, order) == "0.00"


async def test_a_crossing_amend_trades_at_once_and_tells_the_average_of_its_own_fills(paper: Running) -> None:
    order = await resting(paper)
    paper.exchange.house_submit("taker", A, ASK, 4000, 100)
    paper.exchange.house_submit("maker", A, ASK, 4500, 100)
    paper.exchange.house_submit("maker", A, ASK, 4600, 100)
    await paper.server.service.journal.settled()  # the streams have been told of all this
    async with paper.trader.stream() as stream:
        await stream.subscribe("user_orders", "orderbook_delta", market_tickers=[A], use_yes_price=True)
        status, body = await call(
            paper.trader, "POST", f"{ORDERS}/{order}/amend", json=amendment(price="0.46", count="6")
        )
        told = (await stream.next("user_order"))["msg"]
    assert (status, body["fill_count"], body["remaining_count"]) == (200, "2.00", "3.00")
    assert (body["average_fill_price"], body["average_fee_paid"]) == ("0.4550", "0.017400")
    assert (told["yes_price_dollars"], told["last_update_reason"]) == ("0.4600", "Trade")
    assert (told["initial_count_fp"], told["fill_count_fp"], told["remaining_count_fp"]) == (
        "6.00",
        "3.00",
        "3.00",
    )
    levels = [
        (f["msg"]["price_dollars"], f["msg"]["delta_fp"])
        for f in stream.kept
        if f["type"] == "orderbook_delta"
    ]
    assert sorted(levels) == [
        ("0.4000", "-4.00"),
        ("0.4500", "-1.00"),
        ("0.4600", "-1.00"),
        ("0.4600", "3.00"),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"side": "ask"}, (400, "order_side_mismatch")),
        ({"ticker": "TEST-1-B"}, (400, "order_ticker_mismatch")),
        ({"client_order_id": "no"}, (400, "order_id_and_client_order_id_mismatch")),
        ({"price": "0.405"}, (400, "invalid_price")),
        ({"price": "1.00"}, (400, "invalid_price")),
        ({"count": "0"}, (400, "invalid_order_size")),
        ({"expiration_time": 1}, (400, "invalid_order")),
        ({"expiration_time": -1}, (400, "bad_request")),
        ({"count": 5}, (400, "bad_request")),
        ({"price": "0.99", "count": "100000"}, (400, "insufficient_balance")),
        ({"exchange_index": 1}, (404, "not_found")),
        ({"updated_client_order_id": "once"}, (409, "order_already_exists")),
    ],
)
async def test_a_refused_amend_has_its_code_and_changes_nothing(
    paper: Running, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    await paper.trader.order("bid", "0.10", "1", client_order_id="once")
    order = await resting(paper)
    before = await paper.reader.get(f"/portfolio/orders/{order}")
    path = f"{ORDERS}/{order}/amend"
    assert await refused(paper.trader, "POST", path, json=amendment(**fields)) == expected
    assert await paper.reader.get(f"/portfolio/orders/{order}") == before


async def test_an_order_that_is_gone_or_in_another_subaccount_is_not_found(paper: Running) -> None:
    order = await resting(paper)
    paths = (("amend", amendment()), ("decrease", {"reduce_by": "1"}))
    for verb, body in paths:
        for path in (f"{ORDERS}/nobody/{verb}", f"{ORDERS}/{order}/{verb}"):
            params = {"subaccount": 3} if order in path else {}
            assert await refused(paper.trader, "POST", path, json=body, params=params) == (404, "not_found")
    await paper.trader.call("DELETE", f"{ORDERS}/{order}")
    for verb, body in paths:
        assert (await refused(paper.trader, "POST", f"{ORDERS}/{order}/{verb}", json=body))[0] == 404


# Decrease


async def test_a_decrease_by_or_to_keeps_the_place_and_at_zero_cancels(paper: Running) -> None:
    order = await resting(paper)
    await paper.trader.order("bid", "0.40", "3")
    path = f"{ORDERS}/{order}/decrease"
    for body, left in (({"reduce_by": "1.50"}, "3.50"), ({"reduce_to": "2", "market_ticker": A}, "2.00")):
        status, told = await call(paper.trader, "POST", path, json=body)
        assert (status, told["remaining_count"]) == (200, left)
    assert await position(paper, order) == "0.00"
    status, told = await call(paper.trader, "POST", path, json={"reduce_to": "0"})
    assert (status, told["remaining_count"]) == (200, "0.00")
    seen = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
    assert (seen["status"], seen["remaining_count_fp"]) == ("canceled", "0.00")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "bad_request")),
        ({"reduce_by": "1", "reduce_to": "1"}, (400, "bad_request")),
        ({"reduce_by": "0"}, (400, "invalid_order_size")),
        ({"reduce_by": "5.01"}, (400, "invalid_order_size")),
        ({"reduce_to": "6"}, (400, "invalid_order_size")),
        ({"reduce_by": 1}, (400, "bad_request")),
        ({"reduce_by": "1", "exchange_index": -1}, (400, "bad_request")),
        ({"reduce_by": "1", "exchange_index": 1}, (404, "not_found")),
        ({"reduce_by": "1", "market_ticker": "TEST-1-B"}, (400, "order_ticker_mismatch")),
    ],
)
async def test_a_refused_decrease_has_its_code(
    paper: Running, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    order = await resting(paper)
    assert await refused(paper.trader, "POST", f"{ORDERS}/{order}/decrease", json=body) == expected


# Batches


async def test_a_batch_of_creates_has_a_result_or_an_error_for_each(paper: Running) -> None:
    paper.quote()
    orders = [
        ticket("0.10", client_order_id="a"),
        ticket("0.105", client_order_id="b"),
        ticket("0.42", "2", client_order_id="c"),
        ticket("0.10", client_order_id="a"),
        ticket("0.10", ticker="NONE"),
        ticket("0.02", time_in_force="fill_or_kill", client_order_id="f"),
    ]
    status, body = await call(paper.trader, "POST", f"{ORDERS}/batched", json={"orders": orders})
    assert status == 201
    codes = [each["error"] and each["error"]["code"] for each in body["orders"]]
    assert codes == [
        *(None, "invalid_price", None, "order_already_exists", "not_found"),
        "fill_or_kill_insufficient_resting_volume",
    ]
    first, wrong, taken = body["orders"][:3]
    assert (first["client_order_id"], first["remaining_count"], first["average_fill_price"]) == (
        "a",
        "1.00",
        None,
    )
    assert (taken["fill_count"], taken["average_fill_price"]) == ("2.00", "0.4200")
    assert (wrong["client_order_id"], wrong.get("order_id"), wrong["ts_ms"]) == ("b", None, None)


async def test_a_batch_of_cancels_tells_zero_where_nothing_was_taken_off(paper: Running) -> None:
    first, second = await resting(paper), await resting(paper, "0.39", "2.50")
    items = [
        {"order_id": first},
        {"order_id": second, "market_ticker": A},
        {"order_id": "nobody"},
        {"order_id": first},
        {"order_id": second, "exchange_index": 1},
    ]
    status, body = await call(paper.trader, "DELETE", f"{ORDERS}/batched", json={"orders": items})
    assert status == 200
    told = [(each["reduced_by"], (each["error"] or {}).get("code")) for each in body["orders"]]
    assert told == [("5.00", None), ("2.50", None), *[("0.00", "not_found")] * 3]
    assert [each["order_id"] for each in body["orders"]] == [item["order_id"] for item in items]


async def test_a_batch_is_billed_per_item_and_fits_the_bucket_whole_or_not_at_all(tmp_path: Path) -> None:
    """Basic: a hundred tokens; ten per create, two per cancel."""
    async with running(tmp_path, tier="basic") as paper:
        nine = {"orders": [ticket("0.10") for _ in range(9)]}
        eleven = {"orders": [ticket("0.10") for _ in range(11)]}
        status, body = await call(paper.trader, "POST", f"{ORDERS}/batched", json=eleven)
        assert (status, body) == (429, {"error": "too many requests"})
        status, made = await call(paper.trader, "POST", f"{ORDERS}/batched", json=nine)
        assert (status, len(made["orders"])) == (201, 9)
        ids = [{"order_id": each["order_id"]} for each in made["orders"]]
        wanted = {"orders": ids * 6}  # 108 tokens: more than a full bucket holds
        assert (await call(paper.trader, "DELETE", f"{ORDERS}/batched", json=wanted))[0] == 429
        left = (await paper.reader.get("/portfolio/orders", status="resting"))["orders"]
        assert len(left) == 9, "a batch that does not fit has done nothing"


@pytest.mark.parametrize("body", [{}, {"orders": []}, {"orders": [{}]}, {"orders": [{"order_id": 1}]}])
async def test_a_batch_that_is_none_is_a_bad_request(paper: Running, body: dict[str, Any]) -> None:
    for method in ("POST", "DELETE"):
        assert (await refused(paper.trader, method, f"{ORDERS}/batched", json=body)) == (400, "bad_request")


# Queue positions


async def test_queue_positions_count_better_prices_and_older_orders(paper: Running) -> None:
    paper.exchange.house_submit("early", A, BID, 4000, 300)
    mine = await resting(paper, "0.40", "5")
    paper.exchange.house_submit("late", A, BID, 4000, 300)
    behind = await resting(paper, "0.40", "2")
    paper.exchange.house_submit("better", A, BID, 4100, 150)
    assert await position(paper, mine) == "4.50"
    assert await position(paper, behind) == "12.50"
    status, body = await call(
        paper.reader, "GET", "/portfolio/orders/queue_positions", params={"market_tickers": A}
    )
    assert (status, {each["order_id"]: each["queue_position_fp"] for each in body["queue_positions"]}) == (
        200,
        {mine: "4.50", behind: "12.50"},
    )
    nothing = await paper.reader.get("/portfolio/orders/queue_positions", event_ticker="OTHER-1")
    assert nothing == {"queue_positions": []}
    await paper.trader.call("DELETE", f"{ORDERS}/{mine}")
    path = f"/portfolio/orders/{mine}/queue_position"
    assert await refused(paper.reader, "GET", path) == (404, "not_found")


# Order groups


async def make_group(paper: Running, **body: Any) -> str:
    status, made = await call(paper.trader, "POST", f"{GROUPS}/create", json={"contracts_limit": 10, **body})
    assert (status, made["subaccount"]) == (201, 0)
    return str(made["order_group_id"])


async def test_a_groups_whole_life_is_told_over_rest_and_stream(paper: Running) -> None:
    async with paper.trader.stream() as stream:
        await stream.subscribe("order_group_updates")
        group = await make_group(paper)
        order = await resting(paper, order_group_id=group)
        status, seen = await call(paper.reader, "GET", f"{GROUPS}/{group}")
        assert (status, seen) == (
            200,
            {
                "contracts_limit_fp": "10.00",
                "is_auto_cancel_enabled": False,
                "exchange_index": 0,
                "orders": [order],
            },
        )
        shown = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
        assert shown["order_group_id"] == group
        for verb, body in (("limit", {"contracts_limit_fp": "20.5"}), ("trigger", None)):
            assert await call(paper.trader, "PUT", f"{GROUPS}/{group}/{verb}", json=body) == (200, {})
        status, listed = await call(paper.reader, "GET", GROUPS)
        assert [(each["id"], each["is_auto_cancel_enabled"]) for each in listed["order_groups"]] == [
            (group, True)
        ]
        assert (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]["status"] == "canceled"
        over = await paper.trader.order("bid", "0.40", "1", order_group_id=group)
        assert (over[0], over[1]["error"]["code"]) == (400, "exceeded_order_group_risk_limit")
        assert await call(paper.trader, "PUT", f"{GROUPS}/{group}/reset") == (200, {})
        await resting(paper, order_group_id=group)
        assert await call(paper.trader, "DELETE", f"{GROUPS}/{group}") == (200, {})
        frames = [await stream.next("order_group_updates") for _ in range(5)]
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5]
    assert [(f["msg"]["event_type"], f["msg"].get("contracts_limit_fp")) for f in frames] == [
        *(("created", "10.00"), ("limit_updated", "20.50"), ("triggered", None), ("reset", None)),
        ("deleted", None),
    ]
    if at_hand():
        assert [frame_faults(frame) for frame in frames] == [[]] * 5
    assert (await paper.reader.get("/portfolio/orders", status="resting"))["orders"] == []


async def test_a_group_that_matches_too_much_is_triggered_by_the_market(paper: Running) -> None:
    group = await make_group(paper, contracts_limit=2)
    order = await resting(paper, order_group_id=group)
    await resting(paper, "0.39", order_group_id=group)
    async with paper.trader.stream() as stream:
        await stream.subscribe("order_group_updates", "user_orders")
        paper.exchange.house_submit("taker", A, ASK, 4000, 201)
        assert (await stream.next("order_group_updates"))["msg"]["event_type"] == "triggered"
    seen = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
    assert (seen["status"], seen["fill_count_fp"]) == ("canceled", "2.01")
    assert (await paper.reader.get("/portfolio/orders", status="resting"))["orders"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"contracts_limit": None},
        {"contracts_limit": 0},
        {"contracts_limit": 10, "contracts_limit_fp": "11"},
        {"contracts_limit": 1_000_001},
        {"contracts_limit": "10"},
    ],
)
async def test_a_group_needs_one_sensible_limit(paper: Running, body: dict[str, Any]) -> None:
    given = {key: value for key, value in body.items() if value is not None}
    assert await refused(paper.trader, "POST", f"{GROUPS}/create", json=given) == (400, "bad_request")


async def test_a_group_is_found_on_its_own_shard_only(paper: Running) -> None:
    group = await make_group(paper, exchange_index=1)
    for method, path in (("PUT", f"{GROUPS}/{group}/trigger"), ("DELETE", f"{GROUPS}/{group}")):
        assert await refused(paper.trader, method, path) == (404, "not_found")
        assert await call(paper.trader, method, path, params={"exchange_index": 1}) == (200, {})
    assert await refused(paper.trader, "GET", f"{GROUPS}/{group}") == (404, "not_found")


async def test_groups_and_amended_places_survive_a_restart_of_the_exchange(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with running(home) as paper:
        group = await make_group(paper)
        first, second = await resting(paper, order_group_id=group), await resting(paper)
        await call(paper.trader, "POST", f"{ORDERS}/{first}/amend", json=amendment(count="6"))
    async with running(home) as again:
        seen = await again.reader.get(f"{GROUPS}/{group}")
        assert (seen["contracts_limit_fp"], seen["orders"]) == ("10.00", [first])
        assert (await position(again, second), await position(again, first)) == ("0.00", "5.00")


# Times in force, pauses, addresses


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ({"time_in_force": "immediate_or_cancel", "count": "150"}, (201, ("100.00", "0.00"))),
        ({"time_in_force": "good_till_canceled", "count": "150"}, (201, ("100.00", "50.00"))),
        ({"time_in_force": "fill_or_kill", "count": "100"}, (201, ("100.00", "0.00"))),
        (
            {"time_in_force": "fill_or_kill", "count": "101"},
            (409, "fill_or_kill_insufficient_resting_volume"),
        ),
        ({"post_only": True}, (400, "invalid_order")),
        ({"post_only": True, "time_in_force": "immediate_or_cancel"}, (400, "invalid_order")),
        ({"reduce_only": True}, (400, "invalid_order")),
        ({"reduce_only": True, "time_in_force": "immediate_or_cancel"}, (201, ("0.00", "0.00"))),
        ({"time_in_force": "good_till_time"}, (400, "bad_request")),
        ({"time_in_force": "fill_or_kill", "expiration_time": 4_000_000_000}, (400, "invalid_order")),
        ({"order_group_id": "nobody"}, (400, "order_group_not_found")),
        ({"exchange_index": 1}, (404, "not_found")),
        ({"exchange_index": -1, "count": "1"}, (201, ("1.00", "0.00"))),
    ],
)
async def test_a_create_is_answered_as_its_fields_ask(
    paper: Running, fields: dict[str, Any], answered: tuple[int, Any]
) -> None:
    paper.quote()
    status, body = await call(paper.trader, "POST", ORDERS, json=ticket("0.42", **fields))
    told = (body["fill_count"], body["remaining_count"]) if status == 201 else body["error"]["code"]
    assert (status, told) == answered


async def test_an_order_on_another_shard_is_reached_by_its_market_or_by_its_shard(paper: Running) -> None:
    """API.md 11: without market and shard a cancel or a decrease goes to shard 0; an amend names its market always."""
    await on_shard_1(paper)
    order = await resting(paper, ticker="SECOND-1-A")
    path, shares = f"{ORDERS}/{order}", {"reduce_by": "1"}
    seen = (await paper.reader.get(f"/portfolio/orders/{order}"))["order"]
    assert seen["exchange_index"] == 1
    missed = (404, "not_found")
    assert await refused(paper.trader, "POST", f"{path}/decrease", json=shares) == missed
    assert await refused(paper.trader, "DELETE", path) == missed
    assert await refused(paper.trader, "DELETE", path, params={"exchange_index": 0}) == missed
    for route in ({"market_ticker": "SECOND-1-A"}, {"exchange_index": 1}):
        assert (await call(paper.trader, "POST", f"{path}/decrease", json={**shares, **route}))[0] == 200
    body = {"ticker": "SECOND-1-A", "side": "bid", "price": "0.41", "count": "3", "exchange_index": -1}
    assert (await call(paper.trader, "POST", f"{path}/amend", json=body))[0] == 200
    wanted = {"orders": [{"order_id": order}, {"order_id": order, "exchange_index": 1}]}
    _, told = await call(paper.trader, "DELETE", f"{ORDERS}/batched", json=wanted)
    assert [each["reduced_by"] for each in told["orders"]] == ["0.00", "3.00"]


async def on_shard_1(paper: Running) -> None:
    """A market on the second shard, and money there."""
    paper.exchange.add_series({"ticker": "SECOND"})
    paper.exchange.add_event({"event_ticker": "SECOND-1", "series_ticker": "SECOND", "exchange_index": 1})
    times = {key: paper.exchange.listing(A).definition[key] for key in ("open_time", "close_time")}
    paper.exchange.add_market({"ticker": "SECOND-1-A", "event_ticker": "SECOND-1", **times})
    cash = ((0, 0), (0, 1), Decimal(100), "to shard 1")
    paper.exchange.treasury.transfer("desk", *cash)
    paper.exchange.pass_time()


async def test_pauses_are_refused_and_told_apart_as_the_table_says(paper: Running) -> None:
    """API.md 8: while trading is paused an order can be canceled and decreased, while the exchange is, neither."""
    order = await resting(paper)
    paused = (409, "trading_is_paused")
    path = f"{ORDERS}/{order}"
    paper.exchange.trading_active = False
    assert await refused(paper.trader, "POST", ORDERS, json=ticket("0.40")) == paused
    assert await refused(paper.trader, "POST", f"{path}/amend", json=amendment()) == paused
    assert (await call(paper.trader, "POST", f"{path}/decrease", json={"reduce_by": "1"}))[0] == 200
    paper.exchange.exchange_active = False
    assert await refused(paper.trader, "POST", f"{path}/decrease", json={"reduce_by": "1"}) == paused
    assert await refused(paper.trader, "DELETE", path) == paused
    assert await refused(paper.trader, "DELETE", ORDERS) == paused
    paper.exchange.exchange_active = True
    assert (await call(paper.trader, "DELETE", path))[1]["reduced_by"] == "4.00"


async def test_a_batch_for_a_whole_bucket_of_the_highest_tier_is_read(tmp_path: Path) -> None:
    async with running(tmp_path, tier="prestige") as paper:
        most = TIERS["prestige"].write_capacity // CANCEL_COST
        items = [{"order_id": str(UUID(int=number))} for number in range(most)]
        status, body = await paper.trader.call("DELETE", f"{ORDERS}/batched", json={"orders": items})
    assert (status, len(body["orders"])) == (200, most)


async def test_an_expiry_that_cannot_be_shown_is_no_amend(paper: Running) -> None:
    path = f"{ORDERS}/{await resting(paper)}/amend"
    wanted = amendment(expiration_time=253_402_300_800)
    assert await refused(paper.trader, "POST", path, json=wanted) == (400, "bad_request")


async def test_bodies_that_cannot_be_read_are_refused_flat(paper: Running) -> None:
    order = await resting(paper)
    headers = {"Content-Type": "application/json"}
    for path in (
        f"{ORDERS}/{order}/amend",
        f"{ORDERS}/{order}/decrease",
        f"{ORDERS}/batched",
        f"{GROUPS}/create",
    ):
        status, body = await call(paper.trader, "POST", path, data=b"{", headers=headers)
        assert (status, body["code"]) == (400, "invalid_json")
        status, body = await call(
            paper.trader, "POST", path, data=b"{}", headers={"Content-Type": "text/plain"}
        )
        assert (status, body["code"]) == (400, "invalid_content_type")


async def test_a_query_that_cannot_be_read_is_refused_bare(paper: Running) -> None:
    order = await resting(paper)
    status, body = await call(paper.trader, "DELETE", f"{ORDERS}/{order}", params={"exchange_index": "x"})
    assert (status, body) == (400, {"msg": "exchange_index must be an integer"})


async def test_a_read_key_changes_nothing_by_any_of_the_new_doors(paper: Running) -> None:
    order, group = await resting(paper), await make_group(paper)
    doors = [
        ("POST", f"{ORDERS}/{order}/amend"),
        ("POST", f"{ORDERS}/{order}/decrease"),
        ("POST", f"{ORDERS}/batched"),
        ("DELETE", f"{ORDERS}/batched"),
        ("POST", f"{GROUPS}/create"),
        *(("PUT", f"{GROUPS}/{group}/{verb}") for verb in ("reset", "trigger", "limit")),
        ("DELETE", f"{GROUPS}/{group}"),
    ]
    for method, path in doors:
        assert await refused(paper.reader, method, path, json={}) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("POST", "/batched"),
        ("DELETE", "/batched"),
        ("DELETE", "/some"),
        ("POST", "/some/amend"),
        ("POST", "/some/decrease"),
    ],
)
async def test_the_legacy_writes_stay_gone(paper: Running, method: str, path: str) -> None:
    gone = await refused(paper.trader, method, f"/portfolio/orders{path}", json={})
    assert gone == (410, "deprecated_v1_order_endpoint")


# What was acknowledged is durable


async def test_what_was_acknowledged_is_in_the_journal(tmp_path: Path) -> None:
    """The file as it lies on the disk at the moment of the answer, read by a second engine, tells the same."""
    home = tmp_path / "home"
    home.mkdir()
    async with running(home) as paper:
        order, group = await resting(paper), await make_group(paper)
        await call(paper.trader, "POST", f"{ORDERS}/{order}/amend", json=amendment(price="0.41", count="7"))
        await call(paper.trader, "PUT", f"{GROUPS}/{group}/trigger")
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(await asyncio.to_thread((home / "journal.jsonl").read_bytes))
    known = Exchange(Journal(copy)).ledger
    found = known.order(order)
    assert found is not None
    assert (found.price_ticks, found.remaining_lots) == (4100, 700)
    (kept,) = known.groups.of("desk")
    assert kept.record.is_triggered
