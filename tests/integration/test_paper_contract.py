"""The paper exchange against the published contract: every answer and every frame fits Kalshi's own schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract import contract_dir, frame_faults, operation
from tests.paper_venue import ASK, BID, ORDERS, A, B, Running, Stream, running


def require(method: str, path: str, body: Any) -> None:
    """The answer of a success fits the schema of its operation."""
    known = operation(method, path)
    assert known is not None, path
    assert known.answer_faults(known.success, msgspec.json.encode(body)) == []


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    contract_dir()
    async with running(tmp_path) as started:
        started.quote()
        started.exchange.house_submit("maker", B, BID, 4000, 1000)
        await started.trader.order(
            "bid", "0.30", "2", expiration_time=started.exchange.now_ms() // 1000 + 600
        )
        await started.trader.order("ask", "0.40", "3.25")
        await started.trader.order("ask", "0.40", "1", ticker=B)
        await started.trader.order("bid", "0.02", "1", time_in_force="immediate_or_cancel")
        started.exchange.determine(B, "no")
        started.exchange.settle(B)
        yield started


READS = [
    "/exchange/status",
    "/exchange/schedule",
    "/exchange/user_data_timestamp",
    "/series",
    "/series/fee_changes",
    "/series/{series_ticker}",
    "/events",
    "/events/{event_ticker}",
    "/markets",
    "/markets/trades",
    "/markets/{ticker}",
    "/markets/{ticker}/orderbook",
    "/markets/orderbooks",
    "/series/{series_ticker}/markets/{ticker}/candlesticks",
    "/portfolio/balance",
    "/portfolio/orders",
    "/portfolio/orders/{order_id}",
    "/portfolio/positions",
    "/portfolio/fills",
    "/portfolio/settlements",
    "/account/limits",
]


@pytest.mark.parametrize("path", READS)
async def test_every_read_fits_its_schema(paper: Running, path: str) -> None:
    order_id = (await paper.trader.get("/portfolio/orders"))["orders"][0]["order_id"]
    names = {"series_ticker": "TEST", "event_ticker": "TEST-1", "ticker": A, "order_id": order_id}
    now = paper.exchange.now_ms() // 1000
    query: dict[str, Any] = {}
    if path.endswith("candlesticks"):
        query = {"start_ts": now - 60, "end_ts": now + 60, "period_interval": 1}
    elif path == "/markets/orderbooks":
        query = {"tickers": A}
    elif path.startswith("/events"):
        query = {"with_nested_markets": "true"}
    body = await paper.trader.get(path.format(**names), **query)
    assert body
    require("GET", path, body)


async def test_settled_positions_and_filled_reads_are_not_empty(paper: Running) -> None:
    settled = await paper.trader.get("/portfolio/positions", settlement_status="all")
    assert len(settled["market_positions"]) == 2
    require("GET", "/portfolio/positions", settled)
    for kind in ("fills", "settlements", "orders"):
        assert (await paper.trader.get(f"/portfolio/{kind}"))[kind]


async def test_create_and_cancel_fit_their_schemas(paper: Running) -> None:
    _, taken = await paper.trader.order("bid", "0.42", "1.50")
    _, made = await paper.trader.order("bid", "0.10", "1")
    for body in (taken, made):
        require("POST", ORDERS, body)
    _, canceled = await paper.trader.call("DELETE", f"{ORDERS}/{made['order_id']}")
    require("DELETE", f"{ORDERS}/{{order_id}}", canceled)


FRAMES = {
    *(
        "subscribed",
        "ok",
        "error",
        "unsubscribed",
        "orderbook_snapshot",
        "orderbook_delta",
        "ticker",
        "trade",
    ),
    *("fill", "user_order", "market_position", "market_lifecycle_v2", "event_lifecycle"),
}


async def gather(
    stream: Stream, seen: dict[str, list[Any]], is_last: Callable[[dict[str, Any]], bool]
) -> None:
    """Keep every frame by its type, up to the last one that is waited for."""
    while True:
        frame = await stream.receive()
        seen.setdefault(frame["type"], []).append(frame)
        if is_last(frame):
            return


def is_settlement(frame: dict[str, Any], ticker: str) -> bool:
    body = frame.get("msg", {})
    return body.get("event_type") == "settled" and body.get("market_ticker") == ticker


async def test_every_frame_fits_its_schema(paper: Running) -> None:
    seen: dict[str, list[dict[str, Any]]] = {}
    async with paper.trader.stream() as stream:
        await stream.send(
            "subscribe",
            channels=[
                "orderbook_delta",
                "ticker",
                "trade",
                "fill",
                "user_orders",
                "market_positions",
                "market_lifecycle_v2",
            ],
            market_tickers=[A],
        )
        await stream.send("update_subscription", sid=1, action="dance")
        await stream.send("unsubscribe", sids=[99])
        await paper.trader.order("bid", "0.42", "1", client_order_id="c")
        paper.exchange.house_submit("taker", A, ASK, 4000, 100)
        paper.exchange.add_event({"event_ticker": "TEST-2", "series_ticker": "TEST"})
        paper.exchange.add_market(
            {**paper.exchange.listing(A).definition, "ticker": "T2", "event_ticker": "TEST-2"}
        )
        paper.exchange.update_market(
            A, {"close_time": "2099-01-01T00:00:00Z", "yes_sub_title": "other words"}
        )
        paper.exchange.pause_market(A)
        paper.exchange.open_market(A)
        paper.exchange.determine(A, "yes")
        paper.exchange.settle(A)
        await gather(stream, seen, lambda frame: is_settlement(frame, A))
        await stream.send("subscribe", channels=["orderbook_delta"], market_tickers=["T2"])
        await stream.send("unsubscribe", sids=[1])
        await gather(stream, seen, lambda frame: frame["type"] == "unsubscribed")
    assert seen.keys() == FRAMES
    told = {frame["msg"]["event_type"] for frame in seen["market_lifecycle_v2"]}
    assert told == {
        *(
            "created",
            "close_date_updated",
            "metadata_updated",
            "deactivated",
            "activated",
            "determined",
            "settled",
        ),
    }
    faults = [
        (kind, fault) for kind, frames in seen.items() for frame in frames for fault in frame_faults(frame)
    ]
    assert faults == []
