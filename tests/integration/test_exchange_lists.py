"""What comes in parts comes whole or not at all: shortened spans of candles, capped batches, archived forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest
import stamina

from tests.scripted_exchange import Connection, Request, answers, serving
from trading.domain.fees import FeeType
from trading.exchange.errors import IncompleteList, UnreadableAnswer
from trading.exchange.history import open_history
from trading.exchange.market_data import open_market_data

START = datetime(2026, 10, 1, tzinfo=UTC)
QUOTE = {
    "open_dollars": "0.4000",
    "low_dollars": "0.3900",
    "high_dollars": "0.4100",
    "close_dollars": "0.4000",
}


@pytest.fixture(autouse=True)
def one_try() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1):
        yield


def candle(at: datetime) -> dict[str, Any]:
    return {
        "end_period_ts": int(at.timestamp()),
        "yes_bid": QUOTE,
        "yes_ask": QUOTE,
        "price": {"previous_dollars": "0.4000"},
        "volume_fp": "0.00",
        "open_interest_fp": "3.00",
    }


def an_hour_at_most(connection: Connection, request: Request) -> None:
    """Candles of every minute asked for, an hour of them in one answer."""
    query = {name: int(values[0]) for name, values in parse_qs(request.query).items()}
    end = min(query["end_ts"], query["start_ts"] + 3_600)
    moments = range(query["start_ts"] // 60 * 60, end + 1, 60)
    told = [candle(datetime.fromtimestamp(at, UTC)) for at in moments]
    payload = {"market_tickers": ["A", "B"], "market_candlesticks": [told, []], "adjusted_end_ts": end}
    answers(payload)(connection, request)


def test_an_events_candles_are_asked_for_until_the_span_is_whole() -> None:
    with serving(an_hour_at_most) as exchange, closing(open_market_data(exchange.url)) as client:
        found = client.event_candles("S", "E", since=START, until=START + timedelta(hours=3, minutes=30))
        assert len(exchange.requests) == 4
    assert found["B"] == []
    ends = [each.end_at for each in found["A"]]
    assert ends == [START + timedelta(minutes=number) for number in range(211)]  # each once, in order
    assert found["A"][0].previous == Decimal("0.4")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"market_tickers": ["A"], "market_candlesticks": [[]], "adjusted_end_ts": 0}, IncompleteList),
        (
            {"market_tickers": ["A", "B"], "market_candlesticks": [[]], "adjusted_end_ts": 9},
            UnreadableAnswer,
        ),
    ],
)
def test_a_span_that_never_comes_whole_is_no_answer(told: dict[str, Any], error: type[Exception]) -> None:
    with (
        serving(answers(told)) as exchange,
        closing(open_market_data(exchange.url)) as client,
        pytest.raises(error),
    ):
        client.event_candles("S", "E", since=START, until=START + timedelta(hours=1))


def test_a_batch_of_candles_never_asks_for_more_than_one_answer_holds() -> None:
    def step(connection: Connection, request: Request) -> None:
        names = parse_qs(request.query)["market_tickers"][0].split(",")
        markets = [{"market_ticker": name, "candlesticks": [candle(START)]} for name in names]
        answers({"markets": markets})(connection, request)

    tickers = [f"T-{number}" for number in range(25)]
    with serving(step) as exchange, closing(open_market_data(exchange.url)) as client:
        found = client.candles_of(tickers, since=START, until=START + timedelta(hours=16))
        asked = [parse_qs(each.query)["market_tickers"][0].split(",") for each in exchange.requests]
        with pytest.raises(ValueError, match="10000"):
            client.candles_of(tickers, since=START, until=START + timedelta(days=8))
        assert len(exchange.requests) == len(asked)
    assert list(found) == tickers
    # 962 candles each: ten markets fit into 10,000.
    assert [len(each) for each in asked] == [10, 10, 5]


def test_archived_candles_read_like_live_ones() -> None:
    quote = {"open": "0.4000", "low": "0.3900", "high": "0.4100", "close": "0.4000"}
    told = {
        "end_period_ts": int(START.timestamp()),
        "yes_bid": quote,
        "yes_ask": quote,
        "price": {**dict.fromkeys(("open", "low", "high", "close", "mean")), "previous": "0.4000"},
        "volume": "0.00",
        "open_interest": "3.00",
    }
    live = {"ticker": "A", "candlesticks": [candle(START)]}
    with (
        serving(answers({"ticker": "A", "candlesticks": [told]}), answers(live)) as exchange,
        closing(open_history(exchange.url)) as history,
        closing(open_market_data(exchange.url)) as client,
    ):
        span: dict[str, Any] = {"since": START, "until": START + timedelta(minutes=1)}
        assert history.candles("A", **span) == client.candles("S", "A", **span)


def test_a_fee_change_of_an_event_may_clear_what_was_overridden() -> None:
    change = {
        "id": "c-1",
        "event_ticker": "E",
        "series_ticker": "S",
        "fee_type_override": None,
        "fee_multiplier_override": None,
        "scheduled_ts": "2026-10-01T00:00:00Z",
    }
    other = {**change, "id": "c-2", "fee_type_override": "quadratic", "fee_multiplier_override": 0.5}
    pages = [
        answers({"event_fee_changes": [change], "cursor": "n"}),
        answers({"event_fee_changes": [other], "cursor": ""}),
    ]
    with serving(*pages) as exchange, closing(open_market_data(exchange.url)) as client:
        cleared, half = client.event_fee_changes()
    assert (cleared.fee_type, cleared.multiplier, cleared.at) == (None, None, START)
    assert (half.fee_type, half.multiplier) == (FeeType.QUADRATIC, Decimal("0.5"))


def test_a_filter_takes_a_hundred_names_and_says_so_beyond() -> None:
    with (
        serving(answers({"events": [], "cursor": ""})) as exchange,
        closing(open_market_data(exchange.url)) as client,
    ):
        client.events(tickers=[f"E-{number}" for number in range(100)])
        with pytest.raises(ValueError, match="101"):
            client.events(tickers=[f"E-{number}" for number in range(101)])
        assert len(exchange.requests) == 1
        assert json.dumps(exchange.requests[0].query).count("%2C") == 99


@pytest.mark.parametrize("name", ["next_cursor", "page_token", "has_more"])
def test_a_page_whose_cursor_goes_by_another_name_is_not_taken_for_the_last(name: str) -> None:
    with (
        serving(answers({"trades": [], name: "abc"})) as exchange,
        closing(open_market_data(exchange.url)) as client,
        pytest.raises(IncompleteList, match=name),
    ):
        client.trades()
    with serving(answers({"trades": []})) as exchange, closing(open_market_data(exchange.url)) as client:
        assert client.trades() == []
