"""What goes over the wire is what was approved, and can lose no more: read back from the bytes (RELIABILITY.md A6).

Every ten-thousandth of a dollar is tried in each of the four directions: each price structure of the exchange, those
that come too, is a part of these. The loss is computed anew, in whole numbers, by the exchange's rule: a bid pays the
price for each contract, an ask what is missing to a dollar (API.md 4).
"""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolio.domain.exposure import worst_case
from trading.domain.fees import FeeSchedule
from trading.domain.orders import Action, BookSide, Side, Terms, TimeInForce
from trading.exchange.orders import create_body

D = Decimal
TICKS = 10_000  # of a dollar
DIRECTIONS = list(product(Action, Side))
FEES = FeeSchedule()  # not in the cost
# By the words of API.md 4: whoever sells NO bids for YES, and whoever buys NO offers YES.
ON_THE_BOOK = {("buy", "yes"): "bid", ("sell", "no"): "bid", ("buy", "no"): "ask", ("sell", "yes"): "ask"}


def body_of(terms: Terms) -> bytes:
    return create_body(
        ticker=terms.ticker,
        client_order_id="kp-1",
        book_side=terms.book_side,
        quantity=terms.quantity,
        yes_price=terms.yes_price,
        time_in_force=TimeInForce.GTC,
    )


def loss_of(body: bytes) -> int:
    """In millionths of a dollar."""
    told = json.loads(body)
    ticks, lots = int(D(told["price"]) * TICKS), int(D(told["count"]) * 100)
    return lots * (ticks if told["side"] == "bid" else TICKS - ticks)


def say_the_same(terms: Terms) -> bool:
    body = body_of(terms)
    told = json.loads(body)
    own = D(told["price"]) if terms.side is Side.YES else 1 - D(told["price"])
    return (
        told["side"] == ON_THE_BOOK[terms.action.value, terms.side.value]
        and (own, D(told["count"])) == (terms.limit_price, terms.quantity)
        and D(loss_of(body)) / 1_000_000 == worst_case(terms, D(0), FEES).cost
    )


@pytest.mark.parametrize(("action", "side"), DIRECTIONS)
def test_at_every_price_the_bytes_say_the_terms_and_lose_what_was_approved(
    action: Action, side: Side
) -> None:
    counts = [D("0.01"), D(1), D("7.35"), D("1000000")]
    wrong = [
        terms
        for ticks in range(1, TICKS)
        for terms in [Terms("M", action, side, counts[ticks % len(counts)], D(ticks) / TICKS)]
        if not say_the_same(terms)
    ]
    assert not wrong


@settings(max_examples=300)
@given(st.sampled_from(DIRECTIONS), st.integers(1, TICKS - 1), st.integers(1, 10**9))
def test_no_count_changes_on_its_way(direction: tuple[Action, Side], ticks: int, lots: int) -> None:
    assert say_the_same(Terms("M", *direction, D(lots) / 100, D(ticks) / TICKS))


def test_a_price_that_was_not_turned_to_the_yes_scale_is_found_out() -> None:
    """Naive: the price of the side's own scale on the wire. Buying NO at 30 cents would pay 70."""
    terms = Terms("M", Action.BUY, Side.NO, D(10), D("0.30"))
    naive = create_body(
        ticker="M", client_order_id="kp-1", book_side=BookSide.ASK, quantity=terms.quantity,
        yes_price=terms.limit_price, time_in_force=TimeInForce.GTC,
    )  # fmt: skip
    assert (loss_of(body_of(terms)), loss_of(naive)) == (3_000_000, 7_000_000)
