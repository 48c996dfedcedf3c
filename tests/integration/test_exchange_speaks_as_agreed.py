"""Today's exchange raises no alarm: the table is the published contract, and what was captured and recorded fits it.

What the captures and recordings of August 2026 lack or still have is named here with its date in the exchange's change
log; anything else would be a drift.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import contract_dir
from tests.exchanges import paper_exchange
from tests.scripted_exchange import Ledger
from trading.exchange.auth import open_signer
from trading.exchange.channels import Channel
from trading.exchange.conformity import Departure, DriftKind, departures
from trading.exchange.contract import frame_shape
from trading.exchange.drift import listening
from trading.exchange.events import BookDelta
from trading.exchange.market_data import open_market_data
from trading.exchange.stream import open_stream

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
LINES_A_FILE = 5_000

# Field and the day from which it is sent (missing before) or no longer sent (unknown since), API.md 1.
CHANGED_SINCE = {
    (DriftKind.MISSING_FIELD, "settlement_bounds_type"): "2026-10-01",
    (DriftKind.UNKNOWN_FIELD, "liquidity_dollars"): "2026-10-01",
    (DriftKind.UNKNOWN_FIELD, "available_on_brokers"): "2026-09-10",
    (DriftKind.MISSING_FIELD, "exchange_index"): "2026-08-06",  # sharding; required in account records later
    (DriftKind.MISSING_FIELD, "categories"): "2026-10",
    (DriftKind.MISSING_FIELD, "is_block_trade"): "2026-09",  # on the stream
    (DriftKind.MISSING_FIELD, "clock"): "2026-10",
}


def folder(name: str) -> Path:
    if not (where := os.environ.get(name)):
        pytest.skip(f"{name} is not set: no real data here")
    return Path(where)


def capture(name: str) -> Any:
    return json.loads((folder("KALSHI_CAPTURES") / name).read_text(encoding="utf-8"))


def surprises(shape: str, payload: Any) -> list[Departure]:
    """Departures that the change log does not explain."""
    return [
        each
        for each in departures(shape, json.dumps(payload))
        if (each.kind, each.field.rsplit(".", 1)[-1]) not in CHANGED_SINCE
    ]


def test_our_table_is_the_published_contract() -> None:
    checked = subprocess.run(
        [sys.executable, "ops/exchange_contract.py", "--dir", str(contract_dir())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout.strip()) == (0, "the table is current"), checked.stdout[:2_000]


def _captured() -> Iterable[tuple[str, Any]]:
    yield "GetEventsResponse", {"events": capture("events_sports_nested.json"), "cursor": ""}
    yield "GetMarketsResponse", {"markets": capture("markets_settled.json")["markets"], "cursor": ""}
    single = capture("market_single.json")
    yield "GetMarketResponse", single["single"]
    yield "Market", single["nested"]
    yield "GetMarketOrderbookResponse", single["orderbook"]
    yield "GetFillsResponse", capture("portfolio_fills.json")["payload"]
    yield "GetSettlementsResponse", capture("portfolio_settlements.json")["payload"]
    yield from (
        ("GetSeriesResponse", each) for each in capture("series_fee_fields.json")["payloads"].values()
    )
    for ticker, told in capture("candlesticks_mlb.json")["markets"].items():
        # The capturing project wrote its own query beside the candles.
        yield "GetMarketCandlesticksResponse", {"ticker": ticker, "candlesticks": told["candlesticks"]}
    yield "GetMarketOrderbooksResponse", {"orderbooks": capture("combo_orderbooks.json")}
    for each in capture("ws_orderbook_stream.json")["frames"]:
        yield frame_shape(each["frame"]["type"]), each["frame"]


def test_captured_answers_and_frames_hold_no_surprise() -> None:
    checked = 0
    for shape, payload in _captured():
        assert surprises(shape, payload) == [], shape
        checked += 1
    assert checked > 250


def test_recorded_frames_hold_no_surprise() -> None:
    checked = 0
    for path in sorted((folder("KALSHI_RECORDINGS") / "events").glob("*/*.ndjson.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in itertools.islice(lines, LINES_A_FILE):
                frame = json.loads(line)["event"]
                assert surprises(frame_shape(frame["type"]), frame) == [], frame
                checked += 1
    assert checked > 50_000


def test_recorded_definitions_hold_no_surprise() -> None:
    for path in (folder("KALSHI_RECORDINGS") / "metadata").glob("*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))["response"]
        assert surprises("GetEventResponse", told) == [], path.name


async def test_a_replayed_exchange_speaks_as_agreed_today(tmp_path: Path) -> None:
    recordings = folder("KALSHI_RECORDINGS")
    with (
        paper_exchange(tmp_path / "paper", "--replay", str(recordings), "--speed", "20") as paper,
        listening() as sentinel,
    ):
        client = open_market_data(paper.rest_url)
        markets = client.markets()
        client.series_list()
        client.events(with_markets=True)
        client.order_book(markets[0].ticker)
        client.trades()
        client.close()
        got = Ledger()
        channels: dict[Channel, Collection[str] | None] = {
            "orderbook_delta": [market.ticker for market in markets],
            "trade": None,
            "market_lifecycle_v2": None,
        }
        stream = open_stream(paper.ws_url, open_signer(*paper.key("desk-read")), channels)
        running = asyncio.create_task(stream.run(got))
        async with asyncio.timeout(30):
            while len(got.of(BookDelta)) < 500:
                await asyncio.sleep(0.02)
        await stream.stop()
        await running
    heard = sentinel.take()
    assert [str(each.drift) for each in heard.sightings] == []
    assert (heard.answers >= 5, heard.frames >= 3) == (True, True)
