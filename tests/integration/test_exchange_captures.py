"""What the exchange really sent is read without loss, and the fee rule gives every fee that it really charged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trading.domain.fees import DIRECT_GRID, FeeSchedule, FeeType, charge
from trading.exchange import account_messages, account_parsing, messages, parsing

D = Decimal
AS_SENT = msgspec.json.Encoder(decimal_format="number")

# Fields that we leave behind on purpose: on their way out or gone (API.md 1), or the capturing project's own.
LEFT_BEHIND = {
    "side",
    "action",
    "taker_side",
    "expiration_time",
    "liquidity_dollars",
    "available_on_brokers",
    "response_price_units",
    "fractional_trading_enabled",
    "tick_size",
    "query",
    "note",
}
# The multipliers of the series in the captured fills, as their series' definitions or the published schedule have them;
# every other one is at 1.
HALF = ("KXMLBGAME", "KXMLBKS")
# One fill whose fee is a grid step above that of a single match: see the test.
JOINED_MATCHES = "KXMVECROSSCATEGORY-REDACTED005"


def capture(name: str) -> Any:
    if not (where := os.environ.get("KALSHI_CAPTURES")):
        pytest.skip("KALSHI_CAPTURES is not set: no real data here")
    text = (Path(where) / name).read_text(encoding="utf-8")
    return json.loads(text, parse_float=Decimal)


def lost(told: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Paths of a payload whose value did not come through into our message unchanged."""
    if isinstance(told, dict) and isinstance(kept, msgspec.Struct):
        for name, value in told.items():
            if name in LEFT_BEHIND:
                continue
            if name not in kept.__struct_fields__:
                yield f"{path}.{name}"
            else:
                yield from lost(value, getattr(kept, name), f"{path}.{name}")
    elif isinstance(told, list):
        if len(told) != len(kept):
            yield path
        for one, other in zip(told, kept, strict=False):
            yield from lost(one, other, f"{path}[]")
    elif told != kept:
        yield path


def payloads() -> Iterator[tuple[str, Any, Any]]:
    """Name, payload and the message that it is read as."""
    yield "fills", capture("portfolio_fills.json")["payload"], account_messages.FillsAnswer
    yield "settlements", capture("portfolio_settlements.json")["payload"], account_messages.SettlementsAnswer
    yield "events", capture("events_sports_nested.json"), list[messages.Event]
    yield "settled markets", capture("markets_settled.json")["markets"], list[messages.Market]
    single = capture("market_single.json")
    yield "market", single["single"], messages.MarketAnswer
    yield "nested market", single["nested"], messages.Market
    yield "book", single["orderbook"], messages.OrderBookAnswer
    yield "combo books", capture("combo_orderbooks.json"), list[messages.TickerOrderBook]
    for ticker, told in capture("series_fee_fields.json")["payloads"].items():
        yield f"series {ticker}", told, messages.SeriesAnswer
    for ticker, told in capture("candlesticks_mlb.json")["markets"].items():
        yield f"candles {ticker}", {"candlesticks": told["candlesticks"]}, messages.CandlesticksAnswer


def test_no_field_of_a_captured_payload_is_lost_or_changed() -> None:
    read = 0
    for name, told, kind in payloads():
        # Over bytes, as from the wire: the decoder of the client, not a conversion of Python values.
        kept = msgspec.json.decode(AS_SENT.encode(told), type=kind)
        assert set(lost(told, kept)) == set(), name
        read += 1
    assert read >= 12


def test_a_loss_would_be_noticed() -> None:
    """The negative control: a field that no message has, and a value that did not come through."""
    book = messages.OrderBook([("0.4200", "10.00")], [])
    assert list(lost({"yes_dollars": [["0.4200", "10.00"]], "depth": 3}, book)) == [".depth"]
    assert list(lost({"yes_dollars": [["0.4200", "10.50"]]}, book)) == [".yes_dollars[][]"]
    assert list(lost({"yes_dollars": []}, book)) == [".yes_dollars"]


def test_money_in_our_reports_is_what_the_wire_said_to_the_last_digit() -> None:
    told = capture("portfolio_fills.json")["payload"]["fills"]
    for each, fill in zip(told, msgspec.convert(told, list[account_messages.Fill]), strict=True):
        report = account_parsing.fill(fill)
        assert report.price == D(each["yes_price_dollars"]) == 1 - D(each["no_price_dollars"])
        assert (report.quantity, report.fee) == (D(each["count_fp"]), D(each["fee_cost"]))
    told = capture("portfolio_settlements.json")["payload"]["settlements"]
    for each, settlement in zip(told, msgspec.convert(told, list[account_messages.Settlement]), strict=True):
        paid = account_parsing.settlement(settlement)
        assert paid.payout * 100 == each["revenue"]
        assert (paid.yes_quantity, paid.no_quantity) == (D(each["yes_count_fp"]), D(each["no_count_fp"]))
        assert paid.yes_cost == D(each["yes_total_cost_dollars"])
        assert paid.fee == D(each["fee_cost"])


def schedule_of(ticker: str) -> FeeSchedule:
    series = ticker.split("-", maxsplit=1)[0]
    known = capture("series_fee_fields.json")["payloads"].get(series)
    if known is not None:
        return parsing.series(msgspec.convert(known, messages.SeriesAnswer).series).fees
    return FeeSchedule(FeeType.QUADRATIC, D("0.5") if series in HALF else D(1))


def fee_of(fees: FeeSchedule, price: Decimal, quantity: Decimal, paid_for_one: Decimal) -> Decimal:
    """The fee of an order's first fill, by the rule."""
    trade_fee = fees.trade_fee(price, quantity, is_taker=True)
    return charge(trade_fee, -paid_for_one * quantity, D(0)).fee


def captured_fills() -> Iterator[tuple[str, FeeSchedule, Decimal, Decimal, Decimal, Decimal]]:
    for each in capture("portfolio_fills.json")["payload"]["fills"]:
        price = D(each["yes_price_dollars"])
        paid = price if each["book_side"] == "bid" else 1 - price
        yield (
            each["ticker"],
            schedule_of(each["ticker"]),
            price,
            D(each["count_fp"]),
            paid,
            D(each["fee_cost"]),
        )


def test_the_fee_rule_gives_each_captured_fee_to_the_last_digit() -> None:
    computed = {
        ticker: (fee_of(fees, price, quantity, paid), fee)
        for ticker, fees, price, quantity, paid, fee in captured_fills()
    }
    assert len(computed) == 24
    differing = {ticker for ticker, (ours, theirs) in computed.items() if ours != theirs}
    assert differing == {JOINED_MATCHES}


def test_the_one_fee_that_is_a_grid_step_higher_is_that_of_two_matches_rounded_each_by_itself() -> None:
    """71.94 contracts at 0.013 cost $0.064780, one step of $0.0001 more than one match of that size.

    Each match of an order is rounded up to the account's grid by itself, and what was rounded too much comes back with
    a later fill (API.md 13, 3). Many ways to part the 71.94 contracts in two give exactly the reported fee: the record
    joins matches, and the step that they were rounded up twice is still owed by the order's accumulator.
    """
    [(_, fees, price, quantity, paid, fee)] = [each for each in captured_fills() if each[0] == JOINED_MATCHES]
    assert fee - fee_of(fees, price, quantity, paid) == DIRECT_GRID
    parts = (D(lots) / 100 for lots in range(1, int(quantity * 100)))
    fitting = [
        part
        for part in parts
        if fee_of(fees, price, part, paid) + fee_of(fees, price, quantity - part, paid) == fee
    ]
    assert len(fitting) > 1_000


@pytest.mark.parametrize("naive", [D("0.01"), D("0.000001")])
def test_a_rule_with_another_grid_would_not_fit(naive: Decimal) -> None:
    """The negative control: whole cents, as in the published tables, or no grid at all."""
    wrong = 0
    for _, fees, price, quantity, paid, fee in captured_fills():
        trade_fee = fees.trade_fee(price, quantity, is_taker=True)
        wrong += charge(trade_fee, -paid * quantity, D(0), grid=naive).fee != fee
    assert wrong >= 20
