"""The fault mode over its own door: requests dropped, late, refused or answered wrongly; a stream that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.exchanges import paper_exchange
from tests.paper_venue import BID, PREFIX, A, B, Client, Running, Signer, Stream, running

CONTROL = "/__faults"


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, with_faults=True) as started:
        yield started


async def plan(paper: Running, *rows: dict[str, Any], status: int = 201) -> Any:
    async with paper.reader.session.post(paper.origin + CONTROL, json=list(rows)) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def known_ids(paper: Running) -> list[str]:
    orders = (await paper.trader.get("/portfolio/orders"))["orders"]
    return [order["client_order_id"] for order in reversed(orders)]


async def until(happened: Any) -> None:
    async with asyncio.timeout(30):
        while not await happened():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_without_the_mode_there_is_no_such_door(tmp_path: Path, method: str) -> None:
    async with (
        running(tmp_path) as paper,
        paper.reader.session.request(method, paper.origin + CONTROL, json=[]) as answer,
    ):
        assert answer.status == 404


async def test_a_lost_order_exists_only_if_it_was_lost_after_acceptance(paper: Running) -> None:
    kinds = ("drop_before", "drop_after", "broken_off")
    for kind in kinds:
        await plan(paper, {"endpoint": "create", "kind": kind})
        with pytest.raises((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
            await paper.trader.order("bid", "0.10", "1", client_order_id=kind)
    assert await known_ids(paper) == ["drop_after", "broken_off"]


async def test_errors_before_and_after_and_a_full_bucket_look_like_the_real_ones(paper: Running) -> None:
    rows = (
        {"kind": "error_before", "status": 503},
        {"kind": "rate_limited"},
        {"kind": "error_after", "status": 502},
    )
    answers = []
    for row in rows:
        await plan(paper, {"endpoint": "create", **row})
        answers.append(await paper.trader.order("bid", "0.10", "1", client_order_id=row["kind"]))
    assert [status for status, _ in answers] == [503, 429, 502]
    assert answers[1][1] == {"error": "too many requests"}
    assert answers[0][1]["error"]["code"] == "service_unavailable"
    assert await known_ids(paper) == ["error_after"]


async def test_a_request_can_be_accepted_long_after_its_answer(paper: Running) -> None:
    await plan(paper, {"endpoint": "create", "kind": "late_error", "status": 504, "seconds": 2.0})
    status, _ = await paper.trader.order("bid", "0.10", "1", client_order_id="late")
    assert status == 504
    assert await known_ids(paper) == []

    async def arrived() -> bool:
        return await known_ids(paper) == ["late"]

    await until(arrived)


async def test_a_request_is_accepted_though_its_client_gave_up(paper: Running) -> None:
    await plan(paper, {"endpoint": "create", "kind": "delay_before", "seconds": 0.3})
    asking = asyncio.create_task(paper.trader.order("bid", "0.10", "1", client_order_id="late"))

    async def is_there() -> bool:
        async with paper.reader.session.get(paper.origin + CONTROL) as answer:
            return bool((await answer.json())["faults"][0]["happened"])

    await until(is_there)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async def arrived() -> bool:
        return await known_ids(paper) == ["late"]

    await until(arrived)


async def test_a_refusal_is_no_acceptance_to_lose(paper: Running) -> None:
    await plan(paper, {"endpoint": "create", "kind": "drop_after"})
    assert (await paper.trader.order("bid", "0.105", "1"))[0] == 400
    with pytest.raises(aiohttp.ClientConnectionError):
        await paper.trader.order("bid", "0.10", "1")


async def test_cancels_and_reads_have_faults_of_their_own(paper: Running) -> None:
    _, made = await paper.trader.order("bid", "0.10", "1")
    await plan(
        paper,
        {"endpoint": "cancel", "kind": "error_after", "status": 504},
        {"endpoint": "read", "path": "/portfolio/fills", "kind": "garbage_body"},
    )
    assert (await paper.trader.call("DELETE", f"/portfolio/events/orders/{made['order_id']}"))[0] == 504
    assert (await paper.trader.get(f"/portfolio/orders/{made['order_id']}"))["order"]["status"] == "canceled"
    path = PREFIX + "/portfolio/fills"
    headers = paper.reader.signer.headers("GET", path)
    async with paper.reader.session.get(paper.origin + path, headers=headers) as answer:
        assert (answer.status, (await answer.text())[:6]) == (200, "<html>")


async def test_an_accepted_order_can_be_answered_without_its_id(paper: Running) -> None:
    await plan(paper, {"endpoint": "create", "kind": "no_id"}, {"endpoint": "create", "kind": "wrong_echo"})
    status, body = await paper.trader.order("bid", "0.10", "1", client_order_id="mine")
    assert (status, "order_id" in body, body["client_order_id"]) == (201, False, "mine")
    status, body = await paper.trader.order("bid", "0.10", "1", client_order_id="also-mine")
    assert (status, body["client_order_id"]) == (201, "somebody-else")
    assert await known_ids(paper) == ["mine", "also-mine"]


async def test_pages_can_fail_repeat_and_be_short(paper: Running) -> None:
    for _ in range(3):
        await paper.trader.order("bid", "0.10", "1")
    everything = [order["order_id"] for order in (await paper.trader.get("/portfolio/orders"))["orders"]]
    await plan(
        paper,
        {"kind": "page_short", "path": "/portfolio/orders"},
        {"kind": "error_before", "path": "/portfolio/orders", "page": "later", "status": 503},
        {"kind": "page_repeats", "path": "/portfolio/orders", "page": "later"},
    )
    first = await paper.trader.get("/portfolio/orders", limit=2)
    assert [order["order_id"] for order in first["orders"]] == everything[:1]
    cursor = first["cursor"]
    status, _ = await paper.trader.call("GET", "/portfolio/orders", params={"limit": 2, "cursor": cursor})
    assert status == 503
    again = await paper.trader.get("/portfolio/orders", limit=2, cursor=cursor)
    assert again["cursor"] == cursor
    rest = await paper.trader.get("/portfolio/orders", limit=2, cursor=cursor)
    assert [order["order_id"] for order in rest["orders"]] == everything[1:]


async def test_reads_can_fall_behind_writes_until_the_plan_is_forgotten(paper: Running) -> None:
    await paper.trader.order("bid", "0.10", "1", client_order_id="before")
    await plan(paper, {"kind": "read_lag", "seconds": 60})
    await paper.trader.order("bid", "0.10", "1", client_order_id="after")
    assert await known_ids(paper) == ["before"]
    async with paper.reader.session.delete(paper.origin + CONTROL):
        pass
    assert await known_ids(paper) == ["before", "after"]


async def test_the_plan_is_shown_with_what_happened_and_can_be_forgotten(paper: Running) -> None:
    await plan(paper, {"endpoint": "create", "kind": "error_before", "times": 2, "skip": 1})
    statuses = [(await paper.trader.order("bid", "0.10", "1"))[0] for _ in range(2)]
    assert statuses == [201, 500]
    async with paper.reader.session.get(paper.origin + CONTROL) as answer:
        (row,) = (await answer.json())["faults"]
    assert (row["kind"], row["seen"], row["happened"]) == ("error_before", 2, 1)
    async with paper.reader.session.delete(paper.origin + CONTROL) as answer:
        assert answer.status == 204
    assert (await paper.trader.order("bid", "0.10", "1"))[0] == 201


@pytest.mark.parametrize(
    "row", [{"kind": "dance"}, {"kind": "drop_frame", "endpoint": "create"}, {"knd": 1}, 7]
)
async def test_rows_that_make_no_sense_are_refused(paper: Running, row: Any) -> None:
    await plan(paper, row, status=400)


def move(paper: Running, *lots: int) -> None:
    """Change the book so often."""
    for each in lots:
        paper.exchange.house_submit("crowd", A, BID, 3000, each)


async def deltas(stream: Stream, count: int) -> list[tuple[int, str]]:
    frames = [await stream.next("orderbook_delta") for _ in range(count)]
    return [(frame["seq"], frame["msg"]["delta_fp"]) for frame in frames]


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        ("drop_frame", [(3, "0.02"), (4, "0.03")]),
        ("duplicate_frame", [(2, "0.01"), (2, "0.01"), (3, "0.02"), (4, "0.03")]),
        ("swap_frames", [(3, "0.02"), (2, "0.01"), (4, "0.03")]),
        ("skip_seq", [(2, "0.01"), (4, "0.02"), (5, "0.03")]),
    ],
)
async def test_frames_get_lost_doubled_swapped_and_numbered_wrongly(
    paper: Running, kind: str, heard: list[tuple[int, str]]
) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("orderbook_delta", market_ticker=A)
        await stream.next("orderbook_snapshot")
        await plan(paper, {"endpoint": "stream", "kind": kind, "channel": "orderbook_delta", "market": A})
        move(paper, 1, 2, 3)
        assert await deltas(stream, len(heard)) == heard


async def test_frames_can_be_garbage_or_lack_a_field(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("trade")
        await plan(
            paper,
            {"kind": "frame_missing_field", "frame": "trade", "field": "msg.count_fp"},
            {"kind": "frame_extra_field", "frame": "trade"},
            {"kind": "garbage_frame", "frame": "trade"},
        )
        paper.quote()
        for _ in range(3):
            paper.exchange.house_submit("taker", A, BID, 4200, 100)
        poor, rich = await stream.next("trade"), await stream.next("trade")
        assert ("count_fp" in poor["msg"], rich["msg"]["surprise"]) == (False, "new")
        assert (await stream.socket.receive()).data.startswith("<html>")


async def test_a_channel_error_ends_its_subscriptions_and_no_others(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("orderbook_delta", market_ticker=A)
        await stream.next("orderbook_snapshot")
        await stream.subscribe("trade")
        await plan(paper, {"kind": "channel_error", "channel": "orderbook_delta", "market": B})
        await plan(paper, {"kind": "channel_error", "channel": "orderbook_delta", "market": A})
        error = await stream.next("error")
        assert (error["msg"]["code"], error["sid"]) == (10, 1)
        await stream.send("list_subscriptions")
        assert (await stream.next("ok"))["msg"] == [{"channel": "trade", "sid": 2}]


async def test_connections_end_and_none_is_accepted_for_a_while(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await plan(paper, {"kind": "disconnect", "seconds": 3.0})
        ended = await stream.socket.receive()
        assert ended.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    refused = 0

    async def accepted() -> bool:
        nonlocal refused
        try:
            async with paper.reader.stream():
                return True
        except aiohttp.ClientError:
            refused += 1
            return False

    await until(accepted)
    assert refused > 0


async def test_a_connection_can_end_in_the_middle_of_its_frames(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("orderbook_delta", market_ticker=A)
        await plan(
            paper, {"kind": "cut_connection", "channel": "orderbook_delta", "frame": "orderbook_delta"}
        )
        move(paper, 1)
        await stream.next("orderbook_snapshot")
        assert (await stream.socket.receive()).type is not aiohttp.WSMsgType.TEXT


async def test_silence_keeps_frames_and_answers_back_until_it_ends(paper: Running) -> None:
    async with paper.reader.stream() as stream:
        await stream.subscribe("trade")
        await plan(paper, {"kind": "silence", "seconds": 30})
        await stream.socket.ping(b"are you there")
        await stream.send("list_subscriptions")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.socket.receive()
        async with paper.reader.session.delete(paper.origin + CONTROL):
            pass
        async with asyncio.timeout(30):
            heard = {(await stream.socket.receive()).type for _ in range(2)}
        assert heard == {aiohttp.WSMsgType.PONG, aiohttp.WSMsgType.TEXT}


@pytest.mark.slow
async def test_a_real_process_ends_its_connections_too(tmp_path: Path) -> None:
    """On uvloop, whose transports are not asyncio's by their type."""
    with paper_exchange(tmp_path / "paper", "--simulate", "--faults") as paper:
        origin = paper.rest_url.removesuffix(PREFIX)
        async with aiohttp.ClientSession() as session:
            client = Client(session, origin, Signer.of(paper.home, "desk-read"))
            async with client.stream() as stream:
                await asyncio.to_thread(paper.faults, {"kind": "disconnect"})
                async with asyncio.timeout(30):
                    assert (await stream.socket.receive()).type is not aiohttp.WSMsgType.TEXT
