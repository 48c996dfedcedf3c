"""The numbers that a person decides on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approvals.domain.stakes import chance_of, stakes
from trading.domain.orders import Action, Side, Terms

D = Decimal


def terms(
    action: Action = Action.BUY, side: Side = Side.NO, quantity: str = "120", price: str = "0.38"
) -> Terms:
    return Terms("SIMTEMP-26NOV23-B52", action, side, D(quantity), D(price))


def test_a_buy_risks_its_price_and_fee_and_wins_the_rest() -> None:
    found = stakes(terms(), at_risk=D("45.60"), fee=D("1.98"), yes_probability=D("0.54"))
    assert (found.if_right, found.if_wrong) == (D("72.42"), D("-47.58"))
    assert found.expected == D("0.46") * D("72.42") - D("0.54") * D("47.58")
    assert found.edge == found.expected / 120


def test_without_a_forecast_nothing_is_expected() -> None:
    found = stakes(terms(), at_risk=D("45.60"), fee=D("1.98"), yes_probability=None)
    assert (found.chance, found.expected, found.edge) == (None, None, None)


def test_an_order_that_only_reduces_has_no_stake_of_its_own() -> None:
    # 120 NO sold at 38¢ while NO is thought to be worth 30¢: 8¢ each over keeping, less the fee
    found = stakes(terms(Action.SELL), at_risk=D(0), fee=D("1"), yes_probability=D("0.7"))
    assert (found.if_right, found.if_wrong, found.expected) == (None, None, D("8.60"))


def test_without_a_known_fee_nothing_is_said_of_what_selling_brings() -> None:
    found = stakes(terms(Action.SELL), at_risk=D(0), fee=None, yes_probability=D("0.7"))
    assert (found.paid, found.fee, found.expected, found.edge) == (D("45.60"), None, None, None)


@pytest.mark.parametrize(
    ("action", "side", "chance"),
    [
        (Action.BUY, Side.YES, "0.3"),
        (Action.SELL, Side.NO, "0.3"),
        (Action.BUY, Side.NO, "0.7"),
        (Action.SELL, Side.YES, "0.7"),
    ],
)
def test_the_chance_belongs_to_the_outcome_that_the_order_wants(
    action: Action, side: Side, chance: str
) -> None:
    assert chance_of(terms(action, side), D("0.3")) == D(chance)


@given(
    st.decimals("0.01", "0.99", places=4), st.decimals("1", "500", places=2), st.decimals("0", "1", places=4)
)
def test_right_and_wrong_are_one_payout_apart(
    price: Decimal, quantity: Decimal, probability: Decimal
) -> None:
    order = Terms("SIMX", Action.BUY, Side.YES, quantity, price)
    found = stakes(order, at_risk=order.notional, fee=D("0.5"), yes_probability=probability)
    assert found.if_right is not None and found.if_wrong is not None and found.expected is not None
    assert abs(found.if_right - found.if_wrong - quantity) < D("1e-9")
    assert found.if_wrong <= found.expected <= found.if_right
