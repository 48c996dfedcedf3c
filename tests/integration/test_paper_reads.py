"""Reads of the paper exchange over REST: pages, filters, candlesticks, trades."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.paper_venue import BID, A, B, Running, running


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        yield started


async def test_pages_hold_every_item_once(paper: Running) -> None:
    made = [(await paper.trader.order("bid", f"0.{10 + number}", "1"))[1]["order_id"] for number in range(7)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await paper.trader.get("/portfolio/orders", limit=3, cursor=cursor)
        seen += [order["order_id"] for order in page["orders"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert seen == made[::-1]
    assert (await paper.trader.get("/portfolio/orders", cursor="garbage"))["orders"]


async def test_a_limit_above_the_maximum_is_refused_in_the_bare_shape(paper: Running) -> None:
    for path, limit in (
        ("/markets", 1001), ("/events", 201), ("/portfolio/fills", 1001), ("/markets/trades", 10**30)
    ):  # fmt: skip
        status, body = await paper.reader.call("GET", path, params={"limit": limit})
        assert (status, list(body)) == (400, ["msg"])


async def test_markets_are_filtered_by_the_words_of_the_filter(paper: Running) -> None:
    paper.exchange.close_market(B)

    async def asked(**query: str) -> list[str]:
        return [market["ticker"] for market in (await paper.reader.get("/markets", **query))["markets"]]

    assert await asked(status="open") == [A]
    assert await asked(status="closed") == [B]
    assert await asked(tickers=f"{B},NOWHERE") == [B]
    assert await asked(series_ticker="NOWHERE") == []
    assert (await paper.reader.call("GET", "/markets", params={"status": "weird"}))[0] == 400
    assert (await paper.reader.call("GET", "/markets", params={"min_close_ts": 1, "min_settled_ts": 1}))[
        0
    ] == 400


async def test_candlesticks_tell_trades_and_quotes(paper: Running) -> None:
    paper.quote()
    paper.exchange.house_submit("taker", A, BID, 4200, 500)
    now = paper.exchange.now_ms() // 1000
    query = {"start_ts": now - 60, "end_ts": now + 60, "period_interval": 1}
    body = await paper.reader.get(f"/series/TEST/markets/{A}/candlesticks", **query)
    last = body["candlesticks"][-1]
    assert (last["price"]["close_dollars"], last["volume_fp"]) == ("0.4200", "5.00")
    assert (last["yes_bid"]["close_dollars"], last["yes_ask"]["close_dollars"]) == ("0.4000", "0.4200")
    assert (await paper.reader.call("GET", f"/series/TEST/markets/{A}/candlesticks"))[0] == 400


async def test_trades_are_told_newest_first_and_page_by_page(paper: Running) -> None:
    paper.quote()
    for number in range(5):
        paper.exchange.house_submit("taker", A, BID, 4200, 100 + number)
    first = await paper.reader.get("/markets/trades", limit=2)
    second = await paper.reader.get("/markets/trades", limit=2, cursor=first["cursor"])
    last = await paper.reader.get("/markets/trades", limit=2, cursor=second["cursor"])
    counts = [trade["count_fp"] for page in (first, second, last) for trade in page["trades"]]
    assert counts == ["1.04", "1.03", "1.02", "1.01", "1.00"]
    assert last["cursor"] == ""
    assert (await paper.reader.get(f"/markets/{A}"))["market"]["volume_24h_fp"] == "5.10"
