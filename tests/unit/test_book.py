"""The order-book builder against a dictionary of Decimals, and what it does when messages cannot be true."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.book import (
    Book,
    BookFault,
    lots,
    price_of,
    quantity_of,
    side_and_tick,
    ticks,
)
from trading.domain.orders import BookSide, Side

BID, ASK = BookSide.BID, BookSide.ASK
TICKS = st.integers(min_value=1, max_value=40).map(lambda n: n * 250)
QUANTITIES = st.integers(min_value=1, max_value=10**6)
LEVELS = st.dictionaries(TICKS.filter(lambda t: t < 10_000), QUANTITIES, max_size=12)
CHANGES = st.tuples(st.sampled_from([BID, ASK]), TICKS.filter(lambda t: t < 10_000), st.integers(-500, 500))


def book_of(bids: dict[int, int], asks: dict[int, int]) -> Book:
    book = Book("T")
    book.apply_snapshot(bids.items(), asks.items(), at_ms=1_000)
    return book


@given(bids=LEVELS, asks=LEVELS, changes=st.lists(CHANGES, max_size=60))
def test_snapshot_and_changes_give_the_same_book_as_a_dictionary_of_decimals(
    bids: dict[int, int], asks: dict[int, int], changes: list[tuple[BookSide, int, int]]
) -> None:
    book = book_of(bids, asks)
    model: dict[BookSide, dict[Decimal, Decimal]] = {BID: defaultdict(Decimal), ASK: defaultdict(Decimal)}
    for side, start in ((BID, bids), (ASK, asks)):
        model[side].update({Decimal(tick) / 10_000: Decimal(lot) / 100 for tick, lot in start.items()})
    for side, tick, change in changes:
        price, quantity = Decimal(tick) / 10_000, Decimal(change) / 100
        if model[side][price] + quantity < 0:
            continue
        book.apply_delta(side, tick, change)
        model[side][price] += quantity
    for side in (BID, ASK):
        expected = {price: quantity for price, quantity in model[side].items() if quantity}
        assert dict(book.levels(side)) == expected
    top = book.top()
    assert top.yes_bid == max((p for p, q in model[BID].items() if q), default=None)
    assert top.yes_ask == min((p for p, q in model[ASK].items() if q), default=None)
    assert top.yes_bid_quantity == (model[BID][top.yes_bid] if top.yes_bid else 0)
    assert top.yes_ask_quantity == (model[ASK][top.yes_ask] if top.yes_ask else 0)


def test_levels_come_best_first_in_decimals() -> None:
    book = book_of({3_000: 150, 2_995: 1}, {3_100: 200, 3_105: 300})
    assert book.levels(BID) == [(Decimal("0.3000"), Decimal("1.50")), (Decimal("0.2995"), Decimal("0.01"))]
    assert book.levels(ASK, depth=1) == [(Decimal("0.3100"), Decimal("2.00"))]


def test_a_level_below_zero_is_a_fault_and_empties_the_book() -> None:
    book = book_of({3_000: 100}, {3_100: 100})
    with pytest.raises(BookFault, match="on 100"):
        book.apply_delta(BID, 3_000, -101)
    assert not book.is_current
    assert (book.top().yes_bid, book.top().yes_ask) == (None, None)


def test_a_change_before_the_first_snapshot_is_a_fault() -> None:
    with pytest.raises(BookFault, match="before any snapshot"):
        Book("T").apply_delta(BID, 3_000, 100)


@pytest.mark.parametrize("tick", [0, -100, 10_000, 12_000])
def test_a_price_outside_the_dollar_is_a_fault(tick: int) -> None:
    with pytest.raises(BookFault):
        book_of({}, {}).apply_delta(ASK, tick, 100)
    with pytest.raises(BookFault):
        book_of({tick: 100}, {})


def test_after_a_fault_only_a_snapshot_brings_the_book_back() -> None:
    book = book_of({3_000: 100}, {})
    book.invalidate()
    with pytest.raises(BookFault):
        book.apply_delta(BID, 3_000, 100)
    book.apply_snapshot([(2_900, 5)], [])
    assert (book.is_current, book.best_bid_tick) == (True, 2_900)


def test_a_book_whose_bid_meets_its_ask_says_so() -> None:
    book = book_of({3_000: 100}, {3_100: 100})
    assert not book.is_crossed
    book.apply_delta(BID, 3_100, 1)
    assert book.is_crossed


def test_the_top_carries_the_exchange_time_of_the_last_message() -> None:
    book = book_of({}, {})
    book.apply_delta(BID, 3_000, 100, at_ms=1_786_405_577_251)
    book.apply_delta(BID, 3_000, 100)
    assert book.top().as_of == datetime.fromtimestamp(1_786_405_577.251, UTC)


@pytest.mark.parametrize(
    ("side", "use_yes_price", "expected"),
    [(Side.YES, False, (BID, 6_700)), (Side.NO, False, (ASK, 3_300)), (Side.NO, True, (ASK, 6_700))],
)
def test_a_no_bid_is_an_ask_on_the_yes_scale(
    side: Side, use_yes_price: bool, expected: tuple[BookSide, int]
) -> None:
    assert side_and_tick(side, ticks("0.6700"), use_yes_price=use_yes_price) == expected


@given(tick=st.integers(1, 9_999), count=st.integers(0, 10**9))
def test_integers_and_decimals_convert_without_loss(tick: int, count: int) -> None:
    assert ticks(str(price_of(tick))) == tick
    assert lots(str(quantity_of(count))) == count


@pytest.mark.parametrize("text", ["0.12345", "abc", "NaN", ""])
def test_a_price_that_is_no_whole_tick_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"price|finer|NaN"):
        ticks(text)


@pytest.mark.parametrize("text", ["1.001", "many", "Infinity"])
def test_a_count_that_is_no_whole_lot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"count|finer"):
        lots(text)
