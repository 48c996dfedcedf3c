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


class Model:
    """The book as a dictionary of Decimals for each side, with nothing clever about it."""

    def __init__(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.sides = {BID: self._depth(bids), ASK: self._depth(asks)}

    @staticmethod
    def _depth(levels: dict[int, int]) -> defaultdict[Decimal, Decimal]:
        told = {Decimal(tick) / 10_000: Decimal(lot) / 100 for tick, lot in levels.items()}
        return defaultdict(Decimal, told)

    def change(self, side: BookSide, tick: int, change: int) -> None:
        self.sides[side][Decimal(tick) / 10_000] += Decimal(change) / 100

    def standing(self, side: BookSide) -> dict[Decimal, Decimal]:
        return {price: quantity for price, quantity in self.sides[side].items() if quantity}

    @property
    def best(self) -> tuple[Decimal | None, Decimal | None]:
        return max(self.standing(BID), default=None), min(self.standing(ASK), default=None)

    @property
    def is_possible(self) -> bool:
        bid, ask = self.best
        is_open = bid is None or ask is None or bid < ask
        return is_open and all(quantity >= 0 for side in self.sides.values() for quantity in side.values())


@given(bids=LEVELS, asks=LEVELS, changes=st.lists(CHANGES, max_size=60))
def test_snapshot_and_changes_give_the_same_book_as_a_dictionary_of_decimals(
    bids: dict[int, int], asks: dict[int, int], changes: list[tuple[BookSide, int, int]]
) -> None:
    bids = {tick: count for tick, count in bids.items() if tick < 5_000}
    asks = {tick: count for tick, count in asks.items() if tick >= 5_000}
    book, model = book_of(bids, asks), Model(bids, asks)
    for side, tick, change in changes:
        model.change(side, tick, change)
        if not model.is_possible:
            with pytest.raises(BookFault):
                book.apply_delta(side, tick, change)
            assert not book.is_current
            assert book.levels(BID) == book.levels(ASK) == []
            return
        revision = book.revision
        book.apply_delta(side, tick, change)
        assert book.revision > revision
        top = book.top()
        assert (top.yes_bid, top.yes_ask) == model.best
        assert top.yes_bid_quantity == (model.sides[BID][top.yes_bid] if top.yes_bid else 0)
        assert top.yes_ask_quantity == (model.sides[ASK][top.yes_ask] if top.yes_ask else 0)
    for side in (BID, ASK):
        assert dict(book.levels(side)) == model.standing(side)


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


@pytest.mark.parametrize(("side", "tick"), [(BID, 3_100), (BID, 3_200), (ASK, 3_000), (ASK, 2_900)])
def test_a_bid_that_meets_an_ask_is_a_fault_and_empties_the_book(side: BookSide, tick: int) -> None:
    book = book_of({3_000: 100}, {3_100: 100})
    with pytest.raises(BookFault, match="meets"):
        book.apply_delta(side, tick, 1)
    assert (book.is_current, book.best_bid_tick, book.best_ask_tick) == (False, None, None)


def test_a_price_may_be_taken_by_the_other_side_once_it_is_free() -> None:
    book = book_of({3_000: 100, 2_900: 100}, {3_100: 100})
    book.apply_delta(BID, 3_000, -100)
    book.apply_delta(ASK, 3_000, 7)
    book.apply_delta(BID, 2_950, 9)
    assert (book.best_bid_tick, book.best_ask_tick) == (2_950, 3_000)


def test_a_crossed_snapshot_is_a_fault() -> None:
    with pytest.raises(BookFault, match="snapshot"):
        book_of({3_100: 100}, {3_100: 100})


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


@pytest.mark.parametrize("text", ["0.12345", "abc", "NaN", "", "1e-1", " 0.1", "0.1\n", "٠.١"])
def test_a_price_that_is_no_whole_tick_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"price|finer|NaN"):
        ticks(text)


@pytest.mark.parametrize("text", ["1.001", "many", "Infinity", "1e2", "1_0.00"])
def test_a_count_that_is_no_whole_lot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"count|finer"):
        lots(text)


def test_a_book_takes_finer_rungs_when_a_price_needs_them_and_keeps_its_levels() -> None:
    book = book_of({3_000: 100, 100: 5}, {9_900: 200})
    book.apply_delta(BID, 3_010, 7)
    book.apply_delta(ASK, 9_899, 3)
    assert book.raw_levels(BID) == [(3_010, 7), (3_000, 100), (100, 5)]
    assert book.raw_levels(ASK) == [(9_899, 3), (9_900, 200)]
    assert (book.best_bid_tick, book.best_ask_tick) == (3_010, 9_899)
    assert (book.quantity_at(BID, 3_010), book.quantity_at(BID, 3_005)) == (7, 0)


@pytest.mark.parametrize(("tick", "step"), [(4_200, 100), (4_210, 10), (4_211, 1)])
def test_a_book_is_as_coarse_as_its_prices_allow(tick: int, step: int) -> None:
    assert book_of({tick: 1}, {}).rungs.step == step
