"""Reads of what is listed: series, events, combos, markets by their filters, candles of many; refusals and contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_paper_account import require_contract
from tests.paper_venue import BID, A, B, Running, running

COMBO, COLLECTION = "COMBO-1-X", "COLLECTION"


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as started:
        exchange = started.exchange
        exchange.add_series({"ticker": "COMBO", "category": "Combos", "tags": ["many", "quiet"]})
        exchange.add_event({"event_ticker": "COMBO-1", "series_ticker": "COMBO"})
        whole = {"ticker": COMBO, "event_ticker": "COMBO-1", "mve_collection_ticker": COLLECTION}
        exchange.add_market({**exchange.listing(A).definition, **whole})
        started.quote()
        exchange.house_submit("taker", A, BID, 4200, 500)
        yield started


async def read(paper: Running, path: str, **query: Any) -> Any:
    body = await paper.reader.get(path, **query)
    require_contract("GET", path, 200, body)
    return body


async def refused(paper: Running, path: str, **query: Any) -> bool:
    return (await paper.reader.call("GET", path, params=query))[0] == 400


async def test_combos_stand_apart_from_other_events(paper: Running) -> None:
    async def events(path: str, **query: Any) -> list[str]:
        return [event["event_ticker"] for event in (await read(paper, path, **query))["events"]]

    assert await events("/events") == ["TEST-1"]
    assert await events("/events/multivariate") == ["COMBO-1"]
    assert await events("/events/multivariate", collection_ticker=COLLECTION) == ["COMBO-1"]
    assert await events("/events/multivariate", collection_ticker="OTHER") == []
    assert await events("/events/multivariate", series_ticker="COMBO", with_nested_markets="true")
    assert await refused(paper, "/events/multivariate", collection_ticker=COLLECTION, series_ticker="COMBO")

    async def markets(**query: Any) -> list[str]:
        return sorted(market["ticker"] for market in (await read(paper, "/markets", **query))["markets"])

    assert await markets() == [COMBO, A, B]
    assert await markets(mve_filter="only") == [COMBO]
    assert await markets(mve_filter="exclude") == [A, B]


async def test_only_what_was_updated_since_is_told(paper: Running) -> None:
    now = paper.exchange.now_ms() // 1000
    for path, key in (("/series", "series"), ("/events", "events")):
        assert (await read(paper, path, min_updated_ts=now - 60))[key]
        assert (await read(paper, path, min_updated_ts=now + 60))[key] == []
        assert (await read(paper, path, min_updated_ts=10**20))[key] == [], "later than any date"
    assert (await read(paper, "/events", min_close_ts=10**20))["events"] == []
    paper.exchange.listing(A).updated_ms = 1_000
    old = await read(paper, "/markets", min_updated_ts=now - 60)
    assert A not in [market["ticker"] for market in old["markets"]]
    before = paper.exchange.catalog.series["TEST"]
    paper.exchange.add_series(dict(before))
    assert paper.exchange.catalog.series["TEST"] is before, "listed again unchanged is not updated"


@pytest.mark.parametrize(
    "query",
    [
        {"min_created_ts": 1, "status": "closed"},
        {"min_close_ts": 1, "status": "open"},
        {"min_settled_ts": 1, "status": "open"},
        {"min_created_ts": 1, "max_close_ts": 2},
        {"min_updated_ts": 1, "status": "open"},
        {"min_updated_ts": 1, "event_ticker": "TEST-1"},
        {"min_updated_ts": 1, "tickers": A},
        {"min_updated_ts": 1, "series_ticker": "TEST"},
        {"min_updated_ts": 1, "mve_filter": "only"},
        {"mve_filter": "sometimes"},
        {"status": "open,closed"},
    ],
)
async def test_filters_that_do_not_go_together_are_refused(paper: Running, query: dict[str, Any]) -> None:
    assert await refused(paper, "/markets", **query)


async def test_filters_that_go_together_are_served(paper: Running) -> None:
    for query in (
        {"min_created_ts": 1, "status": "open"},
        {"max_close_ts": 1, "status": "closed"},
        {"min_updated_ts": 1, "series_ticker": "TEST", "mve_filter": "exclude"},
    ):
        await read(paper, "/markets", **query)


async def test_series_tell_their_volume_and_more_on_request(paper: Running) -> None:
    paper.exchange.add_series({**paper.exchange.catalog.series["TEST"], "product_metadata": {"a": 1}})
    (plain,) = (await read(paper, "/series", category="Tests"))["series"]
    assert not {"volume_fp", "product_metadata"} & plain.keys()
    (whole,) = (await read(paper, "/series", tags="quiet", category="Tests", include_volume="true"))["series"]
    assert whole["volume_fp"] == "5.00"
    one = await read(paper, "/series/TEST", include_volume="true")
    assert one["series"]["volume_fp"] == "5.00"
    assert "product_metadata" in (await read(paper, "/series", include_product_metadata="true"))["series"][0]


async def test_tags_are_found_by_category(paper: Running) -> None:
    assert await read(paper, "/search/tags_by_categories") == {
        "tags_by_categories": {"Combos": ["many", "quiet"], "Tests": ["quiet"]}
    }


async def test_an_events_metadata_names_its_markets(paper: Running) -> None:
    body = await read(paper, "/events/TEST-1/metadata")
    assert [item["market_ticker"] for item in body["market_details"]] == [A, B]
    assert (await paper.reader.call("GET", "/events/NOBODY/metadata"))[0] == 404
    assert await refused(paper, "/events/TEST-1", with_nested_markets="true", exclude_markets="true")


async def test_candles_of_many_markets_and_of_an_event(paper: Running) -> None:
    now = paper.exchange.now_ms() // 1000
    span = {"start_ts": now - 120, "end_ts": now + 60, "period_interval": 1}
    many = await read(paper, "/markets/candlesticks", market_tickers=f"{A},{B},NOBODY", **span)
    assert [item["market_ticker"] for item in many["markets"]] == [A, B]
    assert many["markets"][0]["candlesticks"][-1]["volume_fp"] == "5.00"
    event = await read(paper, "/series/TEST/events/TEST-1/candlesticks", **span)
    assert (event["market_tickers"], event["adjusted_end_ts"]) == ([A, B], now + 60)
    long = {**span, "start_ts": now - 60 * 10_000}
    shortened = await read(paper, "/series/TEST/events/TEST-1/candlesticks", **long)
    assert shortened["adjusted_end_ts"] == long["start_ts"] + 2_500 * 60
    assert await refused(paper, "/markets/candlesticks", market_tickers=f"{A},{B}", **long)
    assert await refused(paper, "/markets/candlesticks", **span)
    assert await refused(paper, "/markets/candlesticks", market_tickers=A, **{**span, "period_interval": 5})
    assert (await paper.reader.call("GET", "/series/COMBO/events/TEST-1/candlesticks", params=span))[0] == 404
    before = {**span, "start_ts": now + 120, "end_ts": now + 180, "include_latest_before_start": "true"}
    (latest,) = (await read(paper, "/markets/candlesticks", market_tickers=A, **before))["markets"]
    first = latest["candlesticks"][0]
    assert (first["price"]["open_dollars"], first["price"]["previous_dollars"]) == (None, "0.4200")


async def test_fee_changes_are_told_before_and_after_they_come(paper: Running) -> None:
    now = paper.exchange.now()
    paper.exchange.change_series_fee("TEST", "quadratic", Decimal("0.5"), now + timedelta(hours=1))
    paper.exchange.change_series_fee("TEST", "quadratic", Decimal(2), now)
    paper.exchange.change_event_fee("TEST-1", "quadratic", Decimal(3), now)
    paper.exchange.change_event_fee("TEST-1", None, None, now + timedelta(hours=1))
    paper.exchange.pass_time()
    coming = await read(paper, "/series/fee_changes", series_ticker="TEST")
    assert [item["fee_multiplier"] for item in coming["series_fee_change_arr"]] == [0.5]
    every = await read(paper, "/series/fee_changes", show_historical="true")
    assert [item["fee_multiplier"] for item in every["series_fee_change_arr"]] == [2, 0.5]
    first = await read(paper, "/events/fee_changes", limit=1)
    second = await read(paper, "/events/fee_changes", limit=1, cursor=first["cursor"])
    told = [first["event_fee_changes"][0], second["event_fee_changes"][0]]
    assert [item["fee_multiplier_override"] for item in told] == [None, 3]
    assert (await read(paper, "/events/TEST-1"))["event"]["fee_multiplier_override"] == 3
    assert (await read(paper, "/events/fee_changes", event_ticker="OTHER"))["event_fee_changes"] == []


async def test_the_stream_tells_a_new_event_fee(paper: Running) -> None:
    async with paper.trader.stream() as stream:
        await stream.subscribe("market_lifecycle_v2")
        paper.exchange.change_event_fee("TEST-1", "quadratic", Decimal("1.5"), paper.exchange.now())
        paper.exchange.pass_time()
        frame = await stream.next("event_fee_update")
    assert frame["msg"] == {
        "event_ticker": "TEST-1",
        "fee_type_override": "quadratic",
        "fee_multiplier_override": 1.5,
    }
