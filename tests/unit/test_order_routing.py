"""The table of order moves and the four ways to say a direction."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.orders import (
    CANCELABLE,
    CLOSED,
    ON_EXCHANGE,
    OPEN,
    ORDER_TRANSITIONS,
    Action,
    BookSide,
    IllegalMove,
    OrderState,
    Side,
    Terms,
    require_move,
    state_from_counts,
    state_from_status,
)

D = Decimal


@pytest.mark.parametrize(
    ("action", "side", "price", "book_side", "wire_price"),
    [
        (Action.BUY, Side.YES, "0.38", BookSide.BID, "0.38"),
        (Action.SELL, Side.NO, "0.38", BookSide.BID, "0.62"),
        (Action.BUY, Side.NO, "0.38", BookSide.ASK, "0.62"),
        (Action.SELL, Side.YES, "0.38", BookSide.ASK, "0.38"),
    ],
)
def test_the_four_directions_become_one_yes_book(
    action: Action, side: Side, price: str, book_side: BookSide, wire_price: str
) -> None:
    terms = Terms("T", action, side, D(10), D(price))
    assert (terms.book_side, terms.yes_price) == (book_side, D(wire_price))


@given(st.sampled_from(Action), st.sampled_from(Side), st.integers(1, 9_999), st.integers(1, 10**6))
def test_the_wire_price_leads_back_to_the_terms(action: Action, side: Side, ticks: int, lots: int) -> None:
    terms = Terms("T", action, side, D(lots) / 100, D(ticks) / 10_000)
    own = terms.yes_price if side is Side.YES else 1 - terms.yes_price
    assert own == terms.limit_price
    assert abs(terms.signed_quantity) == terms.quantity
    assert (terms.signed_quantity > 0) == (terms.book_side is BookSide.BID)


def test_every_state_has_its_row_and_open_and_closed_divide_them() -> None:
    assert set(ORDER_TRANSITIONS) == set(OrderState)
    assert set(OrderState) == OPEN | CLOSED and not OPEN & CLOSED
    assert CANCELABLE < OPEN


def test_nothing_leaves_a_final_state_but_a_late_fill_and_an_adopted_absent_order() -> None:
    left = {(s, t) for s in CLOSED for t in ORDER_TRANSITIONS[s] if s is not t}
    late = {(OrderState.CANCELED, OrderState.FILLED), (OrderState.EXPIRED, OrderState.FILLED)}
    assert left == late | {(OrderState.ABSENT, state) for state in ON_EXCHANGE}


def test_an_illegal_move_names_both_states() -> None:
    with pytest.raises(IllegalMove, match="filled to resting"):
        require_move(OrderState.FILLED, OrderState.RESTING)


@pytest.mark.parametrize(
    ("filled", "remaining", "state"),
    [("0", "10", "resting"), ("3", "7", "partially_filled"), ("10", "0", "filled"), ("0", "0", "canceled")],
)
def test_a_create_answer_implies_the_state_by_its_counts(filled: str, remaining: str, state: str) -> None:
    assert state_from_counts(D(filled), D(remaining)) == state


def test_a_status_we_do_not_know_is_refused_not_guessed() -> None:
    with pytest.raises(ValueError, match="pending"):
        state_from_status("pending", D(0), D(10))


def test_client_order_ids_are_derived_and_differ_by_venue_and_proposal() -> None:
    from trading.execution.claims import client_order_id

    home = uuid.UUID(int=7)
    one = client_order_id(venue="paper", deployment=home, proposal_id="prop_1")
    assert one == client_order_id(venue="paper", deployment=home, proposal_id="prop_1")
    others = {
        client_order_id(venue="demo", deployment=home, proposal_id="prop_1"),
        client_order_id(venue="paper", deployment=home, proposal_id="prop_2"),
        client_order_id(venue="paper", deployment=uuid.UUID(int=8), proposal_id="prop_1"),
    }
    assert one not in others and len(others) == 3
    assert one.startswith("kp-") and len(one) <= 64
