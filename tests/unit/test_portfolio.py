"""The books of one market: fills, netting, settlement, and that nothing is ever lost between cash and cost."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.domain.pnl import value
from portfolio.domain.positions import Booking, Holding, apply_fill, settle
from trading.domain.orders import BookSide, Side

D = Decimal
FEE = D("0.0100")


def test_buying_yes_costs_price_times_count_and_fee() -> None:
    booked = apply_fill(Holding(), BookSide.BID, D(10), D("0.40"), FEE)
    assert booked.cash == D("-4.01")
    assert (booked.holding.quantity, booked.holding.cost, booked.holding.side) == (D(10), D("4.00"), Side.YES)


def test_an_ask_without_a_position_opens_no_at_the_complement() -> None:
    booked = apply_fill(Holding(), BookSide.ASK, D(10), D("0.40"), FEE)
    assert booked.cash == D("-6.01")
    assert (booked.holding.quantity, booked.holding.cost, booked.holding.side) == (D(-10), D("6.00"), Side.NO)


def test_selling_what_is_held_realizes_the_difference() -> None:
    bought = apply_fill(Holding(), BookSide.BID, D(10), D("0.40"), D(0)).holding
    sold = apply_fill(bought, BookSide.ASK, D(4), D("0.55"), D(0))
    assert sold.cash == D("2.20")
    assert (sold.holding.quantity, sold.holding.cost, sold.holding.realized) == (D(6), D("2.40"), D("0.60"))


def test_a_larger_opposite_fill_closes_and_then_opens_the_other_side() -> None:
    bought = apply_fill(Holding(), BookSide.BID, D(10), D("0.40"), D(0)).holding
    turned = apply_fill(bought, BookSide.ASK, D(15), D("0.50"), D(0))
    assert turned.holding.quantity == D(-5)
    assert turned.holding.realized == D("1.00")
    assert turned.holding.cost == D("2.50")
    assert turned.cash == D("5.00") - D("2.50")


@pytest.mark.parametrize(
    ("quantity", "value_per_yes", "payout"),
    [
        (10, "1", "10"),
        (10, "0", "0"),
        (-10, "0", "10"),
        (-10, "1", "0"),
        (10, "0.25", "2.5"),
        (-10, "0.25", "7.5"),
    ],
)
def test_settlement_pays_yes_its_value_and_no_the_rest(
    quantity: int, value_per_yes: str, payout: str
) -> None:
    settled = settle(Holding(D(quantity), D(3)), D(value_per_yes))
    assert settled.cash == D(payout)
    assert settled.holding == Holding(D(0), D(0), D(payout) - D(3))


fills = st.lists(
    st.tuples(
        st.sampled_from(BookSide),
        st.integers(1, 10_000).map(lambda n: D(n) / 100),
        st.integers(1, 9_999).map(lambda n: D(n) / 10_000),
        st.integers(0, 50_000).map(lambda n: D(n) / 1_000_000),
    ),
    max_size=30,
)


def play(events: list[tuple[BookSide, D, D, D]]) -> tuple[Holding, D]:
    holding, cash = Holding(), D(0)
    for side, count, price, fee in events:
        booking = apply_fill(holding, side, count, price, fee)
        holding, cash = booking.holding, cash + booking.cash
    return holding, cash


@given(fills)
def test_cash_cost_realized_and_fees_always_balance(events: list[tuple[BookSide, D, D, D]]) -> None:
    holding, cash = play(events)
    assert cash + holding.cost + holding.fees == holding.realized


@given(fills, st.sampled_from([D(0), D(1), D("0.37")]))
def test_after_settlement_cash_is_realized_minus_fees(
    events: list[tuple[BookSide, D, D, D]], outcome: D
) -> None:
    holding, cash = play(events)
    booking: Booking = settle(holding, outcome)
    assert cash + booking.cash == booking.holding.realized - booking.holding.fees
    assert booking.holding.quantity == 0 == booking.holding.cost


@given(fills)
def test_a_flat_position_has_no_cost_left(events: list[tuple[BookSide, D, D, D]]) -> None:
    holding, _ = play(events)
    assert holding.cost >= 0
    assert holding.quantity != 0 or holding.cost == 0


def test_a_missing_mark_makes_equity_unknown_not_zero() -> None:
    held = Holding(D(10), D(4))
    assert value(D(100), [(held, None)]).equity is None
    assert value(D(100), [(held, D("0.5"))]).equity == D("105.0")


def test_equity_is_at_least_what_can_be_sold_now() -> None:
    marked, unmarked = Holding(D(10), cost=D(4)), Holding(D(20), cost=D(8))
    assert value(D(100), [(marked, D("0.5")), (unmarked, None)]).at_least == D(105)
    assert value(D(100), [(marked, D("0.5"))]).at_least == value(D(100), [(marked, D("0.5"))]).equity
