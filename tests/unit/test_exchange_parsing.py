"""What the exchange says becomes what we mean: exact numbers, missing prices missing, nothing guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.markets import MarketStatus
from trading.domain.orders import BookSide, OrderState, TimeInForce
from trading.exchange import account_messages, account_parsing, messages, parsing, values
from trading.exchange.errors import UnreadableAnswer
from trading.exchange.orders import create_body
from trading.exchange.reports import EventDefinition, SeriesDefinition, fees_of

MARKET: dict[str, Any] = {
    "ticker": "SIMX-1",
    "event_ticker": "SIMX",
    "market_type": "binary",
    "yes_sub_title": "Above 5",
    "no_sub_title": "Not above 5",
    "created_time": "2026-08-04T00:01:12.51883Z",
    "updated_time": "2026-08-05T04:00:04Z",
    "open_time": "2026-08-05T03:45:00Z",
    "close_time": "2026-08-05T00:00:00-04:00",
    "latest_expiration_time": "2026-08-12T04:00:00Z",
    "settlement_timer_seconds": 1,
    "status": "active",
    "yes_bid_dollars": "0.3300",
    "yes_bid_size_fp": "12.50",
    "yes_ask_dollars": "0.3400",
    "yes_ask_size_fp": "7.00",
    "no_bid_dollars": "0.6600",
    "no_ask_dollars": "0.6700",
    "last_price_dollars": "0.3350",
    "previous_yes_bid_dollars": "0.0000",
    "previous_yes_ask_dollars": "1.0000",
    "previous_price_dollars": "0.0000",
    "volume_fp": "23727.91",
    "volume_24h_fp": "0.00",
    "open_interest_fp": "6556.98",
    "notional_value_dollars": "1.0000",
    "result": "",
    "can_close_early": True,
    "expiration_value": "",
    "rules_primary": "If …",
    "rules_secondary": "",
    "price_level_structure": "linear_cent",
    "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": "0.0100"}],
    "settlement_bounds_type": "default",
    "floor_strike": 4128.56,
    "a_field_of_tomorrow": {"ignored": True},
}
ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "user_id": "u-1",
    "client_order_id": "kp-1",
    "ticker": "SIMX-1",
    "outcome_side": "no",
    "book_side": "ask",
    "type": "limit",
    "status": "canceled",
    "yes_price_dollars": "0.4000",
    "no_price_dollars": "0.6000",
    "initial_count_fp": "10.00",
    "remaining_count_fp": "0.00",
    "fill_count_fp": "2.50",
    "taker_fill_cost_dollars": "1.000000",
    "maker_fill_cost_dollars": "0.500000",
    "taker_fees_dollars": "0.042000",
    "maker_fees_dollars": "0.001000",
    "expiration_time": None,
    "created_time": "2026-08-05T03:45:00Z",
}


def market(**changes: Any) -> messages.Market:
    return msgspec.convert({**MARKET, **changes}, messages.Market)


def order(**changes: Any) -> account_messages.Order:
    return msgspec.convert({**ORDER, **changes}, account_messages.Order)


def test_a_market_is_read_exactly() -> None:
    read = parsing.market(market())
    assert read.quote.yes_bid == Decimal("0.33")
    assert read.quote.yes_ask_quantity == Decimal(7)
    assert read.last_price == Decimal("0.335")
    assert read.status is MarketStatus.ACTIVE
    assert read.close_at == datetime(2026, 8, 5, 4, tzinfo=UTC)
    assert read.close_at.utcoffset() == UTC.utcoffset(None)
    assert read.grid.holds(Decimal("0.07"))
    assert not read.grid.holds(Decimal("0.075"))
    assert read.floor_strike == Decimal("4128.56")
    assert read.result is None


def test_an_empty_side_and_an_untraded_market_have_no_price() -> None:
    read = parsing.market(
        market(
            yes_bid_dollars="0.0000",
            yes_ask_dollars="1.0000",
            last_price_dollars="0.0000",
            yes_bid_size_fp="0.00",
            yes_ask_size_fp="0.00",
        )
    )
    assert (read.quote.yes_bid, read.quote.yes_ask, read.last_price) == (None, None, None)
    assert read.quote.mid is None


def test_a_settled_market_keeps_the_values_zero_and_one() -> None:
    read = parsing.market(market(status="finalized", result="no", settlement_value_dollars="0.0000"))
    assert (read.result, read.settlement_value) == ("no", Decimal(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "sleeping"},
        {"result": "perhaps"},
        {"yes_bid_dollars": "33"},
        {"yes_bid_dollars": "NaN"},
        {"yes_bid_dollars": ""},
        {"yes_ask_dollars": "-0.1000"},
        {"volume_fp": "-1.00"},
        {"volume_fp": "1e3"},
        {"close_time": "soon"},
        {"close_time": "2026-08-05T03:45:00"},
        {"price_ranges": []},
        {"price_ranges": [{"start": "0", "end": "1", "step": "0"}]},
    ],
)
def test_a_market_with_an_impossible_value_is_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableAnswer, match="SIMX-1") as refused:
        parsing.market(market(**changes))
    assert refused.value.code == "E606"


@pytest.mark.parametrize("name", ["yes_bid_dollars", "close_time", "price_ranges", "status", "volume_fp"])
@pytest.mark.parametrize("damage", ["absent", "null", "retyped"])
def test_a_required_field_that_is_damaged_raises(name: str, damage: str) -> None:
    payload = dict(MARKET)
    payload[name] = {"null": None, "retyped": 42}.get(damage)
    if damage == "absent":
        del payload[name]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(payload), type=messages.Market)


def test_an_order_sums_its_two_costs_and_fees() -> None:
    read = account_parsing.order(order())
    assert read.book_side is BookSide.ASK
    assert read.state is OrderState.CANCELED
    assert read.filled_quantity == Decimal("2.5")
    assert read.fill_cost == Decimal("1.5")
    assert read.fees == Decimal("0.043")
    assert read.expires_at is None


@pytest.mark.parametrize("changes", [{"status": "pending"}, {"outcome_side": "yes"}, {"book_side": "both"}])
def test_an_order_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreadableAnswer):
        account_parsing.order(order(**changes))


def test_the_two_money_units_of_a_settlement_are_kept_apart() -> None:
    told = account_messages.Settlement(
        ticker="T",
        event_ticker="E",
        market_result="yes",
        yes_count_fp="10.00",
        yes_total_cost_dollars="0.400000",
        no_count_fp="0.00",
        no_total_cost_dollars="0.000000",
        revenue=1000,
        settled_time="2026-08-17T14:00:00Z",
        fee_cost="0.026900",
        value=100,
    )
    read = account_parsing.settlement(told)
    assert (read.payout, read.value, read.yes_cost) == (Decimal(10), Decimal(1), Decimal("0.4"))


def test_a_balance_is_read_in_dollars_not_in_its_cents() -> None:
    told = account_messages.Balance(
        balance=123, balance_dollars="1.2345", portfolio_value=5000, updated_ts=1_786_085_188
    )
    read = account_parsing.balance(told)
    assert (read.cash, read.portfolio_value) == (Decimal("1.2345"), Decimal(50))


def test_no_bids_of_a_book_become_asks_on_the_yes_scale() -> None:
    told = messages.OrderBook(yes_dollars=[("0.3300", "12.50")], no_dollars=[("0.6600", "7.00")])
    read = parsing.book("T", told)
    assert read.bids == ((3300, 1250),)
    assert read.asks == ((3400, 700),)


def test_an_event_overrides_the_fees_of_its_series() -> None:
    series = SeriesDefinition("S", "s", "Sports", "daily", FeeSchedule(FeeType.QUADRATIC, Decimal("0.5")))
    event = EventDefinition("E", "S", "e", "", "", False, "", None, None, 0)
    assert fees_of(series, event) == series.fees
    overridden = EventDefinition(
        "E", "S", "e", "", "", False, "", FeeType.QUADRATIC_WITH_MAKER, Decimal(0), 0
    )
    assert fees_of(series, overridden) == FeeSchedule(FeeType.QUADRATIC_WITH_MAKER, Decimal(0))


def test_a_fee_type_of_tomorrow_fails_closed() -> None:
    assert values.fee_type("cubic") is FeeType.FLAT


def test_a_multiplier_keeps_its_digits() -> None:
    body = (
        b'{"series": {"ticker": "S", "frequency": "custom", "title": "t", "category": "c", "fee_type": "quadratic",'
        b' "fee_multiplier": 0.35}}'
    )
    told = msgspec.json.decode(body, type=messages.SeriesAnswer)
    assert parsing.series(told.series).fees.multiplier == Decimal("0.35")


def test_the_zero_time_is_no_time() -> None:
    assert values.optional_moment("0001-01-01T00:00:00Z") is None
    assert values.optional_moment("") is None


def test_a_create_body_writes_count_and_price_as_strings() -> None:
    body = create_body(
        ticker="SIMX-1",
        client_order_id="kp-1",
        book_side=BookSide.BID,
        quantity=Decimal("1.5"),
        yes_price=Decimal("0.42"),
        time_in_force=TimeInForce.GTC,
        expires_at=datetime(2026, 8, 5, 4, tzinfo=UTC),
    )
    assert msgspec.json.decode(body) == {
        "ticker": "SIMX-1",
        "client_order_id": "kp-1",
        "side": "bid",
        "count": "1.50",
        "price": "0.4200",
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
        "expiration_time": 1785902400,
        "cancel_order_on_pause": True,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal("0.005")},
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-1)},
        {"yes_price": Decimal("0.00005")},
        {"yes_price": Decimal(0)},
        {"yes_price": Decimal(1)},
        {"yes_price": Decimal("NaN")},
        {"client_order_id": ""},
        {"reduce_only": True},
        {"time_in_force": TimeInForce.IOC, "expires_at": datetime(2026, 8, 5, tzinfo=UTC)},
    ],
)
def test_a_create_that_could_not_be_meant_is_refused_before_it_is_bytes(changes: dict[str, Any]) -> None:
    terms: dict[str, Any] = {
        "ticker": "T",
        "client_order_id": "kp-1",
        "book_side": BookSide.ASK,
        "quantity": Decimal(1),
        "yes_price": Decimal("0.5"),
        "time_in_force": TimeInForce.GTC,
    }
    with pytest.raises((ValueError, ArithmeticError)):
        create_body(**{**terms, **changes})
