"""Reads over the wire: whole lists or none, repeats only of reads, answers as published and as captured."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
import stamina
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.scripted_exchange import (
    Ledger,
    ScriptedExchange,
    Step,
    answers,
    drips,
    hangs_up,
    is_silent,
    redirects,
    serving,
)
from trading.domain.book import Book
from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.markets import MarketStatus
from trading.exchange import (
    account_messages,
    account_parsing,
    cash_messages,
    history_messages,
    messages,
    order_messages,
    parsing,
    private_frames,
    public_frames,
)
from trading.exchange.account import Account, open_account
from trading.exchange.auth import Signer
from trading.exchange.channels import Wanted
from trading.exchange.errors import (
    AccessDenied,
    ExchangeError,
    ExchangeRefusal,
    IncompleteList,
    NoAnswer,
    RateLimited,
    Unavailable,
    UnknownThere,
    Unreachable,
    UnreadableAnswer,
)
from trading.exchange.events import BookDelta, BookSnapshot, Gap
from trading.exchange.market_data import MarketData, open_market_data
from trading.exchange.reads import Reads
from trading.exchange.session import Session
from trading.exchange.transport import Timeouts, Transport

SIGNER = Signer("key-1", Ed25519PrivateKey.generate())
PATIENT = Timeouts(connect=10.0, read=20.0, total=20.0)  # an answer that comes is no matter of chance
QUICK = Timeouts(connect=10.0, read=0.3, total=1.5)  # for the silence that is the subject
STATUS = {"exchange_active": True, "trading_active": False}
BALANCE = {"balance": 123, "balance_dollars": "1.2345", "portfolio_value": 0, "updated_ts": 1_786_085_188}


@pytest.fixture(autouse=True)
def repeats_without_pauses() -> Iterator[None]:
    """Three tries, and no waiting between them."""
    with stamina.set_testing(True, attempts=3):
        yield


def public(exchange: ScriptedExchange) -> MarketData:
    return MarketData(Reads(Transport(exchange.url, timeouts=PATIENT)))


def portfolio(exchange: ScriptedExchange, timeouts: Timeouts = PATIENT) -> Account:
    return Account(Reads(Transport(exchange.url, SIGNER, timeouts=timeouts)))


def asked(exchange: ScriptedExchange, times: int) -> bool:
    """Whether it was asked so often. What was sent may be read a little later than given up."""
    deadline = time.monotonic() + 30
    while len(exchange.requests) < times and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(exchange.requests) == times


def fail_with(step: Step, attempts: int) -> ExchangeError:
    """The error of a balance read when every answer is `step`; checks the number of requests."""
    with serving(step) as exchange:
        account = portfolio(exchange, QUICK if step in {is_silent, drips} else PATIENT)
        with pytest.raises(ExchangeError) as failed:
            account.balance()
        account.close()
        assert asked(exchange, attempts)
    return failed.value


@pytest.mark.parametrize(
    ("step", "kind", "attempts"),
    [
        (hangs_up, NoAnswer, 3),
        (is_silent, NoAnswer, 3),
        (drips, NoAnswer, 3),
        (answers({"error": "too many requests"}, 429), RateLimited, 3),
        (answers({"error": {"code": "service_unavailable"}}, 503), Unavailable, 3),
        (answers({"error": {"code": "authentication_error"}}, 401), AccessDenied, 1),
        (answers({"error": {"code": "not_found"}}, 404), UnknownThere, 1),
        (answers({"msg": "limit too large"}, 400), ExchangeRefusal, 1),
        (redirects, UnreadableAnswer, 1),
        (answers(b"<html>", 200), UnreadableAnswer, 1),
        (answers({**BALANCE, "balance_dollars": 1.2345}), UnreadableAnswer, 1),
        (answers({key: BALANCE[key] for key in BALANCE if key != "balance_dollars"}), UnreadableAnswer, 1),
    ],
)
def test_a_read_is_repeated_only_when_that_can_help(
    step: Step, kind: type[ExchangeError], attempts: int
) -> None:
    assert type(fail_with(step, attempts)) is kind


def test_a_read_that_works_at_the_second_try_is_good() -> None:
    with serving(hangs_up, answers(BALANCE)) as exchange:
        account = portfolio(exchange)
        assert account.balance().cash == Decimal("1.2345")
        account.close()
        assert len(exchange.requests) == 2


def test_each_try_is_signed_anew_and_over_the_path_alone() -> None:
    with serving(answers({"orders": [], "cursor": ""})) as exchange:
        account = open_account(exchange.url, SIGNER)
        account.orders(ticker="SIM", status="resting")
        account.close()
        [request] = exchange.requests
    assert request.path == "/trade-api/v2/portfolio/orders"
    assert request.query == "limit=1000&ticker=SIM&status=resting"
    assert request.headers["KALSHI-ACCESS-KEY"] == "key-1"


def test_public_reads_need_no_key() -> None:
    with serving(answers(STATUS)) as exchange:
        client = open_market_data(exchange.url)
        state = client.exchange_state()
        client.close()
        assert "KALSHI-ACCESS-KEY" not in exchange.requests[0].headers
    assert (state.is_active, state.is_trading) == (True, False)


@pytest.mark.parametrize("status", [500, 503, 504])
def test_the_exchanges_status_is_read_from_an_error_answer_too(status: int) -> None:
    with serving(answers({**STATUS, "exchange_active": False}, status)) as exchange:
        client = public(exchange)
        assert not client.exchange_state().is_active
        client.close()


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        client = open_market_data(f"http://127.0.0.1:{probe.getsockname()[1]}/trade-api/v2")
        with pytest.raises(Unreachable) as failed:
            client.user_data_as_of()
        client.close()
    assert failed.value.code == "E601"


def trade(number: int) -> dict[str, Any]:
    return {
        "trade_id": f"t-{number}",
        "ticker": "SIM",
        "count_fp": "1.50",
        "yes_price_dollars": "0.4000",
        "no_price_dollars": "0.6000",
        "taker_outcome_side": "no",
        "taker_book_side": "ask",
        "created_time": "2026-08-05T03:45:00Z",
        "is_block_trade": False,
    }


def test_a_list_is_read_to_its_last_page_with_its_filters_kept() -> None:
    pages = [
        answers({"trades": [trade(1)], "cursor": "c1"}),
        answers({"trades": [trade(2)], "cursor": "c2"}),
        answers({"trades": [trade(3)], "cursor": ""}),
    ]
    with serving(*pages) as exchange:
        client = public(exchange)
        found = client.trades(ticker="SIM")
        client.close()
        queries = [request.query for request in exchange.requests]
    assert [each.trade_id for each in found] == ["t-1", "t-2", "t-3"]
    assert queries == [f"limit=1000&ticker=SIM{more}" for more in ("", "&cursor=c1", "&cursor=c2")]


def test_a_cursor_that_comes_again_makes_the_list_incomplete() -> None:
    with serving(answers({"trades": [trade(1)], "cursor": "c1"})) as exchange:
        client = public(exchange)
        with pytest.raises(IncompleteList):
            client.trades()
        client.close()
        assert len(exchange.requests) == 2


def test_a_list_whose_second_page_fails_is_no_list() -> None:
    with serving(answers({"trades": [trade(1)], "cursor": "c1"}), answers(b"", 500)) as exchange:
        client = public(exchange)
        with pytest.raises(Unavailable):
            client.trades()
        client.close()


def test_a_ticker_from_outside_stays_one_path_segment() -> None:
    with serving(answers({"error": {"code": "not_found"}}, 404)) as exchange:
        client = public(exchange)
        with pytest.raises(UnknownThere):
            client.market("../portfolio/balance?x=1")
        client.close()
        assert exchange.requests[0].path == "/trade-api/v2/markets/..%2Fportfolio%2Fbalance%3Fx%3D1"


# --- what the exchange really sent


def folder(name: str) -> Path:
    if not (where := os.environ.get(name)):
        pytest.skip(f"{name} is not set: no real data here")
    return Path(where)


def capture(name: str) -> Any:
    return json.loads((folder("KALSHI_CAPTURES") / name).read_text(encoding="utf-8"))


def test_captured_events_and_their_markets_are_read() -> None:
    told = msgspec.convert(capture("events_sports_nested.json"), list[messages.Event])
    events = [parsing.event(each) for each in told]
    markets = [market for event in events for market in event.markets]
    assert len(events) == 32
    assert len(markets) == sum(len(each.markets or ()) for each in told) == 245
    assert all(market.quote.yes_bid is None or 0 < market.quote.yes_bid < 1 for market in markets)
    assert any(market.quote.yes_bid is None for market in markets)
    assert all(event.mutually_exclusive == (event.collateral_return == "MECNET") for event in events)


def test_captured_settled_markets_have_result_and_value() -> None:
    told = msgspec.convert(capture("markets_settled.json")["markets"], list[messages.Market])
    settled = [market for market in map(parsing.market, told) if market.status is MarketStatus.FINALIZED]
    assert len(settled) == 42
    for market in settled:
        assert market.result in {"yes", "no"}
        assert market.settlement_value == (1 if market.result == "yes" else 0)


def test_a_captured_market_and_its_book_agree() -> None:
    told = capture("market_single.json")
    market = parsing.market(msgspec.convert(told["single"], messages.MarketAnswer).market)
    nested = parsing.market(msgspec.convert(told["nested"], messages.Market))
    book = Book(market.ticker)
    read = parsing.book(
        market.ticker, msgspec.convert(told["orderbook"], messages.OrderBookAnswer).orderbook_fp
    )
    book.apply_snapshot(read.bids, read.asks)
    assert (book.top().yes_bid, book.top().yes_ask) == (market.quote.yes_bid, market.quote.yes_ask)
    assert nested.ticker == market.ticker


def test_captured_fills_settlements_series_candles_and_books_are_read() -> None:
    fills = msgspec.convert(capture("portfolio_fills.json")["payload"], account_messages.FillsAnswer).fills
    assert len({account_parsing.fill(each).trade_id for each in fills}) == len(fills) == 24
    settled = msgspec.convert(
        capture("portfolio_settlements.json")["payload"], account_messages.SettlementsAnswer
    )
    assert all(account_parsing.settlement(each).payout >= 0 for each in settled.settlements)
    series = capture("series_fee_fields.json")["payloads"]["KXMLBGAME"]
    fees = parsing.series(msgspec.convert(series, messages.SeriesAnswer).series).fees
    assert fees == FeeSchedule(FeeType.QUADRATIC_WITH_MAKER, Decimal("0.5"))
    for market in capture("candlesticks_mlb.json")["markets"].values():
        for each in msgspec.convert(market, messages.CandlesticksAnswer).candlesticks:
            candle = parsing.candle(each)
            assert candle.traded is None or candle.traded.low <= candle.traded.close <= candle.traded.high
    for each in msgspec.convert(capture("combo_orderbooks.json"), list[messages.TickerOrderBook]):
        parsing.book(each.ticker, each.orderbook_fp)


def test_the_captured_stream_has_no_gap_and_folds_into_sound_books() -> None:
    told = capture("ws_orderbook_stream.json")
    wanted, got = Wanted({"orderbook_delta": told["tickers"]}), Ledger()
    session = Session(wanted, got, clock_ms=lambda: 0, use_yes_price=False)
    books = {ticker: Book(ticker) for ticker in told["tickers"]}
    for each in told["frames"]:
        session.receive(json.dumps(each["frame"]))
    for event in got.events:
        if isinstance(event, BookSnapshot):
            books[event.ticker].apply_snapshot(event.bids, event.asks, at_ms=event.at_ms)
        elif isinstance(event, BookDelta):
            books[event.ticker].apply_delta(event.side, event.tick, event.change, at_ms=event.at_ms)
    assert got.of(Gap) == []
    assert len(got.of(BookDelta)) == told["counts"]["orderbook_delta"]
    assert session.trusted == set(told["tickers"])
    assert all(book.is_current for book in books.values())


def test_one_frame_missing_from_the_captured_stream_is_noticed_at_once() -> None:
    told = capture("ws_orderbook_stream.json")
    frames_of = [each["frame"] for each in told["frames"]]
    lost = next(n for n, frame in enumerate(frames_of) if frame["type"] == "orderbook_delta" and n > 100)
    got = Ledger()
    session = Session(Wanted({"orderbook_delta": told["tickers"]}), got, clock_ms=lambda: 0)
    for frame in frames_of[:lost] + frames_of[lost + 1 : lost + 2]:
        session.receive(json.dumps(frame))
    [gap] = got.of(Gap)
    assert set(gap.tickers) == set(told["tickers"])
    assert b"get_snapshot" in session.outbox[-1]


# --- what the exchange publishes

PUBLISHED: dict[str, type[msgspec.Struct]] = {
    "ExchangeStatus": messages.ExchangeStatus,
    "Market": messages.Market,
    "PriceRange": messages.PriceRange,
    "EventData": messages.Event,
    "Series": messages.Series,
    "Trade": messages.PublicTrade,
    "MarketCandlestick": messages.Candlestick,
    "GetBalanceResponse": account_messages.Balance,
    "MarketPosition": account_messages.MarketPosition,
    "Fill": account_messages.Fill,
    "Settlement": account_messages.Settlement,
    "Order": account_messages.Order,
    "CreateOrderV2Response": order_messages.CreatedOrder,
    "CancelOrderV2Response": order_messages.CanceledOrder,
    "GetUserDataTimestampResponse": messages.UserDataTimestamp,
    "GetAccountApiLimitsResponse": account_messages.AccountLimits,
    "GetAccountEndpointCostsResponse": account_messages.EndpointCosts,
    "EndpointTokenCost": account_messages.EndpointCost,
    "EventPosition": account_messages.EventPosition,
    "OrderQueuePosition": account_messages.QueuePosition,
    "GetOrderQueuePositionResponse": account_messages.QueuePositionAnswer,
    "Deposit": account_messages.Payment,
    "Withdrawal": account_messages.Payment,
    "ApiKey": account_messages.ApiKey,
    "SeriesFeeChange": messages.SeriesFeeChange,
    "EventFeeChange": messages.EventFeeChange,
    "GetEventMetadataResponse": messages.EventMetadata,
    "MarketMetadata": messages.MarketMetadata,
    "MarketCandlesticksResponse": messages.TickerCandlesticks,
    "GetEventCandlesticksResponse": messages.EventCandlesticksAnswer,
    "GetHistoricalCutoffResponse": history_messages.Cutoff,
    "MarketCandlestickHistorical": history_messages.Candlestick,
    "PriceDistributionHistorical": history_messages.PriceCandle,
    "AmendOrderV2Response": order_messages.AmendedOrder,
    "DecreaseOrderV2Response": order_messages.DecreasedOrder,
    "OrderGroup": order_messages.Group,
    "GetOrderGroupResponse": order_messages.GroupAnswer,
    "CreateOrderGroupResponse": order_messages.CreatedGroup,
    "SubaccountBalance": cash_messages.SubaccountBalance,
    "SubaccountTransfer": cash_messages.SubaccountTransfer,
    "SubaccountNettingConfig": cash_messages.Netting,
    "IntraExchangeInstanceTransfer": cash_messages.ShardTransfer,
    "GetTargetBalanceAllocationResponse": cash_messages.AllocationsAnswer,
    "TargetBalanceAllocation": cash_messages.Allocation,
    "CreateSubaccountResponse": cash_messages.CreatedSubaccount,
    "IntraExchangeInstanceTransferResponse": cash_messages.CreatedShardTransfer,
}
STREAMED: dict[str, type[msgspec.Struct]] = {
    "orderbookSnapshotPayload": public_frames.SnapshotBody,
    "orderbookDeltaPayload": public_frames.DeltaBody,
    "tickerPayload": public_frames.TickerBody,
    "tradePayload": public_frames.TradeBody,
    "fillPayload": private_frames.FillBody,
    "userOrderPayload": private_frames.UserOrderBody,
    "orderGroupUpdatesPayload": private_frames.OrderGroupBody,
    "cfbenchmarksValuePayload": public_frames.IndexValueBody,
    "cfbenchmarksValue5HzPayload": public_frames.QuickIndexValueBody,
    "pythValuePayload": public_frames.PythValueBody,
    "marketPositionPayload": private_frames.MarketPositionBody,
    "marketLifecycleV2Payload": public_frames.LifecycleBody,
    "eventLifecyclePayload": public_frames.EventLifecycleBody,
    "eventFeeUpdatePayload": public_frames.EventFeeBody,
}


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    text = (folder("KALSHI_CONTRACT_DIR") / "openapi.yaml").read_text(encoding="utf-8")
    schemas: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)["components"]["schemas"]
    return schemas


@pytest.fixture(scope="module")
def streamed() -> dict[str, Any]:
    text = (folder("KALSHI_CONTRACT_DIR") / "asyncapi.yaml").read_text(encoding="utf-8")
    schemas: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)["components"]["schemas"]
    return schemas


def is_money(schema: dict[str, Any]) -> bool:
    return str(schema.get("$ref", "")).endswith(("FixedPointDollars", "FixedPointCount"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_we_demand_nothing_that_is_not_published_as_required(name: str, published: dict[str, Any]) -> None:
    ours = {field.name: field for field in msgspec.structs.fields(PUBLISHED[name])}
    properties, required = published[name]["properties"], set(published[name].get("required", ()))
    assert ours.keys() <= properties.keys()
    assert {field for field, each in ours.items() if each.required} <= required


@pytest.mark.parametrize("name", PUBLISHED)
def test_required_money_is_demanded_and_stays_text(name: str, published: dict[str, Any]) -> None:
    ours = {field.name: field for field in msgspec.structs.fields(PUBLISHED[name])}
    for field, schema in published[name]["properties"].items():
        if field not in ours or not is_money(schema):
            continue
        kinds = get_args(ours[field].type) if get_origin(ours[field].type) else (ours[field].type,)
        assert set(kinds) <= {str, type(None)}, field
        if field in published[name].get("required", ()):
            assert ours[field].required, field


@pytest.mark.parametrize("name", STREAMED)
def test_stream_bodies_demand_nothing_that_is_not_published(name: str, streamed: dict[str, Any]) -> None:
    ours = {field.name: field for field in msgspec.structs.fields(STREAMED[name])}
    body = streamed[name]["properties"]["msg"]
    assert ours.keys() <= body["properties"].keys()
    assert {field for field, each in ours.items() if each.required} <= set(body["required"])
