"""The one YES book: price-time priority, times in force, self-trade prevention, and the laws that always hold."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.domain.matching import (
    Book,
    Order,
    Outcome,
    Refusal,
    SelfTrade,
    reduce_only_lots,
    to_lots,
    to_ticks,
)
from trading.domain.orders import BookSide, TimeInForce

BID, ASK = BookSide.BID, BookSide.ASK
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


class Desk:
    """Sends orders under readable names."""

    def __init__(self) -> None:
        self.book = Book()
        self._next = 0

    def send(
        self,
        side: BookSide,
        price: int,
        lots: int,
        owner: str = "",
        tif: TimeInForce = GTC,
        **options: object,
    ) -> tuple[Order, Outcome]:
        self._next += 1
        order = Order(f"o{self._next}", owner or f"owner{self._next}", side, price, lots)
        return order, self.book.submit(order, tif, **options)  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def fills(outcome: Outcome) -> list[tuple[str, int, int]]:
    return [(match.maker.order_id, match.maker.price_ticks, match.lots) for match in outcome.matches]


def test_the_better_price_trades_first_and_at_its_own_price(desk: Desk) -> None:
    desk.send(ASK, 6000, 100)
    best, _ = desk.send(ASK, 5500, 100)
    _, outcome = desk.send(BID, 6500, 150)
    assert fills(outcome) == [(best.order_id, 5500, 100), ("o1", 6000, 50)]
    assert desk.book.levels(ASK) == [(6000, 50)]


def test_at_one_price_the_older_order_trades_first(desk: Desk) -> None:
    first, _ = desk.send(BID, 4000, 30)
    second, _ = desk.send(BID, 4000, 30)
    _, outcome = desk.send(ASK, 4000, 40)
    assert fills(outcome) == [(first.order_id, 4000, 30), (second.order_id, 4000, 10)]
    assert desk.book.queue(BID, 4000) == [second]


def test_an_order_reduced_keeps_its_place_in_the_queue(desk: Desk) -> None:
    first, _ = desk.send(BID, 4000, 30)
    second, _ = desk.send(BID, 4000, 30)
    desk.book.reduce(first.order_id, 10)
    assert desk.book.queue(BID, 4000) == [first, second]
    _, outcome = desk.send(ASK, 4000, 5)
    assert fills(outcome) == [(first.order_id, 4000, 5)]


def test_an_order_that_does_not_cross_rests(desk: Desk) -> None:
    _, outcome = desk.send(BID, 4000, 30)
    assert (outcome.rested, outcome.filled, outcome.dropped) == (30, 0, 0)
    assert desk.book.best(BID) == (4000, 30)


def test_immediate_or_cancel_drops_what_it_cannot_fill(desk: Desk) -> None:
    desk.send(ASK, 5000, 20)
    _, outcome = desk.send(BID, 5000, 50, tif=IOC)
    assert (outcome.filled, outcome.rested, outcome.dropped) == (20, 0, 30)
    assert not desk.book.orders


@pytest.mark.parametrize(("lots", "refusal"), [(50, None), (51, Refusal.FOK_VOLUME)])
def test_fill_or_kill_trades_whole_or_not_at_all(desk: Desk, lots: int, refusal: Refusal | None) -> None:
    desk.send(ASK, 5000, 20)
    desk.send(ASK, 5100, 30)
    desk.send(ASK, 5200, 99)
    _, outcome = desk.send(BID, 5100, lots, tif=FOK)
    assert outcome.refusal is refusal
    assert outcome.filled == (0 if refusal else lots)


def test_a_refused_order_changes_nothing(desk: Desk) -> None:
    desk.send(ASK, 5000, 20)
    _, killed = desk.send(BID, 5000, 21, tif=FOK)
    _, crossed = desk.send(BID, 5000, 5, post_only=True)
    assert killed.refusal is Refusal.FOK_VOLUME
    assert crossed.refusal is Refusal.POST_ONLY_CROSS
    assert desk.book.levels(ASK) == [(5000, 20)]
    assert desk.book.levels(BID) == []


def test_post_only_rests_when_it_does_not_cross(desk: Desk) -> None:
    desk.send(ASK, 5000, 20)
    _, outcome = desk.send(BID, 4999, 5, post_only=True)
    assert outcome.rested == 5


def test_taker_at_cross_stops_at_the_first_own_order_and_keeps_earlier_fills(desk: Desk) -> None:
    desk.send(ASK, 5000, 10, owner="other")
    desk.send(ASK, 5100, 10, owner="me")
    desk.send(ASK, 5200, 10, owner="other")
    _, outcome = desk.send(BID, 5200, 30, owner="me")
    assert outcome.filled == 10
    assert outcome.stopped_by_self_trade
    assert (outcome.rested, outcome.dropped) == (0, 20)
    assert desk.book.levels(ASK) == [(5100, 10), (5200, 10)]


def test_maker_cancels_the_own_resting_order_and_goes_on(desk: Desk) -> None:
    mine, _ = desk.send(ASK, 5000, 10, owner="me")
    desk.send(ASK, 5100, 10, owner="other")
    _, outcome = desk.send(BID, 5100, 15, owner="me", self_trade=SelfTrade.MAKER)
    assert [(gone.maker.order_id, gone.lots) for gone in outcome.withdrawals] == [(mine.order_id, 10)]
    assert (outcome.filled, outcome.rested) == (10, 5)


def test_a_self_crossing_fill_or_kill_behaves_like_immediate_or_cancel(desk: Desk) -> None:
    desk.send(ASK, 5000, 10, owner="other")
    desk.send(ASK, 5000, 10, owner="me")
    _, outcome = desk.send(BID, 5000, 50, owner="me", tif=FOK)
    assert outcome.refusal is None
    assert (outcome.filled, outcome.dropped) == (10, 40)


def test_recorded_liquidity_passes_over_recorded_liquidity(desk: Desk) -> None:
    desk.send(BID, 5200, 10, owner="recorded")
    mine, _ = desk.send(BID, 5100, 10, owner="me")
    _, outcome = desk.send(ASK, 5000, 25, owner="recorded", tif=IOC, self_trade=SelfTrade.PASS_OVER)
    assert fills(outcome) == [(mine.order_id, 5100, 10)]
    assert desk.book.levels(BID) == [(5200, 10)]


def test_cancel_returns_what_was_left_and_then_nothing(desk: Desk) -> None:
    order, _ = desk.send(BID, 4000, 30)
    desk.send(ASK, 4000, 10)
    canceled = desk.book.cancel(order.order_id)
    assert canceled is not None
    assert canceled.remaining_lots == 20
    assert desk.book.cancel(order.order_id) is None
    assert desk.book.best(BID) is None


def test_orders_expire_at_their_time_and_not_before(desk: Desk) -> None:
    order = Order("e", "me", BID, 4000, 10, expires_ms=1_000)
    desk.book.submit(order)
    desk.send(BID, 4000, 10)
    assert desk.book.expired(999) == []
    assert desk.book.expired(1_000) == ["e"]


@pytest.mark.parametrize(
    ("side", "count", "position", "allowed"),
    [
        (ASK, 100, 60, 60),  # selling what is held of YES
        (ASK, 10, 60, 10),
        (ASK, 100, -60, 0),  # would only add to NO
        (BID, 100, -60, 60),  # buying back what is held of NO
        (BID, 100, 60, 0),
        (BID, 100, 0, 0),
    ],
)
def test_reduce_only_never_trades_more_than_the_position(
    side: BookSide, count: int, position: int, allowed: int
) -> None:
    assert reduce_only_lots(side, count, position) == allowed


@pytest.mark.parametrize(
    "order",
    [Order("x", "me", BID, 0, 1), Order("x", "me", BID, 10_000, 1), Order("x", "me", BID, 5_000, 0)],
)
def test_what_is_no_order_is_refused_loudly(order: Order) -> None:
    with pytest.raises(ValueError, match="not an order"):
        Book().submit(order)


@pytest.mark.parametrize(("text", "ticks"), [("0.5", 5_000), ("0.0001", 1), ("0.4250", 4_250)])
def test_prices_become_ticks_exactly(text: str, ticks: int) -> None:
    assert to_ticks(text) == ticks
    assert to_ticks(Decimal(text)) == ticks


def test_what_is_finer_than_the_exchange_knows_is_not_rounded() -> None:
    with pytest.raises(ValueError, match="finer"):
        to_ticks("0.00005")
    with pytest.raises(ValueError, match="finer"):
        to_lots("0.005")


@dataclass(frozen=True)
class Act:
    """One random thing that happens to the book."""

    side: BookSide
    price: int
    lots: int
    owner: int
    tif: TimeInForce
    self_trade: SelfTrade
    post_only: bool
    cancels: int | None


acts = st.builds(
    Act,
    side=st.sampled_from(BookSide),
    price=st.integers(4_500, 5_500),
    lots=st.integers(1, 300),
    owner=st.integers(1, 4),
    tif=st.sampled_from(TimeInForce),
    self_trade=st.sampled_from([SelfTrade.TAKER_AT_CROSS, SelfTrade.MAKER]),
    post_only=st.booleans(),
    cancels=st.one_of(st.none(), st.integers(0, 30)),
)


def _act(book: Book, number: int, act: Act) -> Outcome | None:
    if act.cancels is not None:
        book.cancel(f"o{act.cancels}")
        return None
    order = Order(f"o{number}", f"owner{act.owner}", act.side, act.price, act.lots)
    post_only = act.post_only and act.tif is GTC
    return book.submit(order, act.tif, post_only=post_only, self_trade=act.self_trade)


@settings(max_examples=200, deadline=None)
@given(st.lists(acts, max_size=40))
def test_laws_of_the_book_hold_after_any_sequence(sequence: list[Act]) -> None:
    book = Book()
    for number, act in enumerate(sequence):
        outcome = _act(book, number, act)
        if outcome is not None and outcome.refusal is None:
            assert outcome.filled + outcome.rested + outcome.dropped == act.lots, "no lot is lost or made"
            assert all(match.maker.owner != f"owner{act.owner}" for match in outcome.matches), "no self-trade"
            _prices_were_in_order(act, outcome)
        _is_consistent(book)


def _prices_were_in_order(act: Act, outcome: Outcome) -> None:
    prices = [match.maker.price_ticks for match in outcome.matches]
    assert prices == sorted(prices, reverse=act.side is ASK), "better prices trade first"
    assert all(p <= act.price if act.side is BID else p >= act.price for p in prices), (
        "never worse than the limit"
    )


def _is_consistent(book: Book) -> None:
    bid, ask = book.best(BID), book.best(ASK)
    assert bid is None or ask is None or bid[0] < ask[0], "never crossed"
    for side in BookSide:
        for price, lots in book.levels(side):
            queue = book.queue(side, price)
            assert lots == sum(order.remaining_lots for order in queue) > 0
            assert all(book.orders[order.order_id] is order for order in queue)
    resting = sum(len(book.queue(side, price)) for side in BookSide for price, _ in book.levels(side))
    assert resting == len(book.orders)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(4_900, 5_000), st.integers(1, 50)), min_size=1, max_size=20),
    st.integers(1, 600),
)
def test_a_sweep_takes_the_queue_in_price_time_order(resting: list[tuple[int, int]], lots: int) -> None:
    book = Book()
    for number, (price, size) in enumerate(resting):
        book.rest(Order(f"o{number}", "maker", BID, price, size))
    expected: list[tuple[str, int]] = []
    left = lots
    for number, (_, size) in sorted(enumerate(resting), key=lambda item: (-item[1][0], item[0])):
        part = min(size, left)
        left -= part
        if part:
            expected.append((f"o{number}", part))
    outcome = book.submit(Order("taker", "taker", ASK, 4_900, lots), IOC)
    assert [(match.maker.order_id, match.lots) for match in outcome.matches] == expected
