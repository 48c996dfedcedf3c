"""Our orders among recorded ones: filled no earlier than the recording allows, and never twice from the same size."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry
from trading.paper.exchange import Exchange
from trading.paper.journal import Journal
from trading.paper.records import AccountOpened, OrderRecord
from trading.paper.tickets import Ticket
from trading.paper.wire import rfc3339

BID, ASK = BookSide.BID, BookSide.ASK
GTC, IOC = TimeInForce.GTC, TimeInForce.IOC
TICKER = "REC-1-A"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Replay:
    """An exchange with one market whose book is recorded, and one account in it."""

    def __init__(self, path: Path) -> None:
        self.exchange = Exchange(Journal(path), clock=lambda: START)
        self.exchange.open_account(AccountOpened("me", "me", Decimal(100_000)))
        self.exchange.add_series({"ticker": "REC"})
        self.exchange.add_event({"event_ticker": "REC-1", "series_ticker": "REC"})
        times = {"open_time": rfc3339(START), "close_time": rfc3339(START + timedelta(minutes=15))}
        self.exchange.add_market({"ticker": TICKER, "event_ticker": "REC-1", **times})

    def order(self, side: BookSide, price: str, count: str, tif: TimeInForce = GTC) -> OrderRecord:
        return entry.create(
            self.exchange,
            "me",
            Ticket(
                ticker=TICKER,
                side=side,
                count=count,
                price=price,
                time_in_force=tif,
                self_trade_prevention_type="taker_at_cross",
            ),
        )

    def snapshot(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self.exchange.replace_external_book(TICKER, bids, asks)

    def delta(self, side: BookSide, price: int, lots: int) -> None:
        self.exchange.external_delta(TICKER, side, price, lots)

    def trade(self, price: int, lots: int, taker: BookSide) -> None:
        self.exchange.external_trade(TICKER, price, lots, taker)

    def levels(self, side: BookSide) -> list[tuple[int, int]]:
        return self.exchange.listing(TICKER).book.levels(side)

    def filled(self, order: OrderRecord) -> int:
        return self.exchange.ledger.accounts["me"].orders[order.order_id].filled_lots


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    fresh = Replay(tmp_path / "journal.jsonl")
    fresh.snapshot([(4000, 1000), (3900, 500)], [(4200, 800), (4300, 500)])
    return fresh


def test_without_orders_of_ours_the_book_is_the_recorded_one(replay: Replay) -> None:
    replay.delta(BID, 4100, 200)
    replay.delta(ASK, 4200, -800)
    replay.trade(4000, 300, ASK)
    assert replay.levels(BID) == [(4100, 200), (4000, 1000), (3900, 500)]
    assert replay.levels(ASK) == [(4300, 500)]


def test_a_crossing_order_takes_recorded_size_at_once_and_only_once(replay: Replay) -> None:
    assert replay.filled(replay.order(BID, "0.42", "5", IOC)) == 500
    assert replay.levels(ASK) == [(4200, 300), (4300, 500)]
    assert replay.filled(replay.order(BID, "0.42", "5", IOC)) == 300
    assert replay.filled(replay.order(BID, "0.42", "5", IOC)) == 0


def test_size_added_to_a_consumed_level_is_new_and_can_be_hit(replay: Replay) -> None:
    replay.order(BID, "0.42", "8", IOC)
    replay.delta(ASK, 4200, 100)
    assert replay.filled(replay.order(BID, "0.42", "5", IOC)) == 100


def test_what_we_took_is_forgotten_when_the_recording_trades_it_away(replay: Replay) -> None:
    replay.order(BID, "0.42", "5", IOC)
    replay.delta(ASK, 4200, -500)
    replay.trade(4200, 500, BID)
    assert replay.levels(ASK)[0] == (4200, 300)


def test_a_resting_order_waits_for_the_recorded_size_ahead_of_it(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.trade(4000, 900, ASK)
    replay.delta(BID, 4000, -900)
    assert replay.filled(mine) == 0
    replay.trade(4000, 250, ASK)
    assert replay.filled(mine) == 150


def test_a_trade_told_first_by_the_book_and_then_as_a_print_counts_once(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.delta(BID, 4000, -600)
    replay.trade(4000, 600, ASK)
    assert replay.filled(mine) == 0
    replay.trade(4000, 400, ASK)
    assert replay.filled(mine) == 0
    replay.trade(4000, 100, ASK)
    assert replay.filled(mine) == 100


def test_a_cancellation_is_taken_from_behind_us_first(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.delta(BID, 4000, 400)
    replay.delta(BID, 4000, -400)
    replay.trade(4000, 1000, ASK)
    assert replay.filled(mine) == 0
    replay.trade(4000, 1, ASK)
    assert replay.filled(mine) == 1


def test_later_recorded_size_stands_behind_us(replay: Replay) -> None:
    mine = replay.order(BID, "0.41", "3")
    replay.delta(BID, 4100, 5_000)
    replay.trade(4100, 200, ASK)
    assert replay.filled(mine) == 200


def test_a_print_through_our_price_fills_us_at_our_price(replay: Replay) -> None:
    mine = replay.order(BID, "0.41", "3")
    replay.trade(4000, 200, ASK)
    assert replay.filled(mine) == 200
    (fill,) = replay.exchange.ledger.accounts["me"].fills
    assert (fill.price_ticks, fill.is_taker) == (4100, False)


def test_a_print_on_the_other_side_does_not_fill_us(replay: Replay) -> None:
    mine = replay.order(BID, "0.41", "3")
    replay.trade(4200, 500, BID)
    assert replay.filled(mine) == 0


def test_recorded_size_that_crosses_our_order_trades_with_it(replay: Replay) -> None:
    mine = replay.order(BID, "0.41", "3")
    replay.delta(ASK, 4100, 500)
    assert replay.filled(mine) == 300
    assert replay.levels(ASK)[0] == (4100, 200)
    assert replay.levels(BID)[0] == (4000, 1000)


def test_the_public_sees_our_order_beside_the_recorded_size(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    assert replay.levels(BID)[0] == (4000, 1300)
    entry.cancel(replay.exchange, "me", mine.order_id)
    assert replay.levels(BID)[0] == (4000, 1000)


def test_a_new_snapshot_keeps_our_place_as_far_as_its_sizes_allow(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.snapshot([(4000, 700)], [(4200, 800)])
    replay.trade(4000, 800, ASK)
    assert replay.filled(mine) == 100


def test_after_the_close_the_recordings_tail_changes_nothing(replay: Replay) -> None:
    replay.exchange.close_market(TICKER)
    replay.delta(BID, 4000, 100)
    replay.snapshot([(4000, 700)], [])
    assert replay.levels(BID) == []


changes = st.tuples(st.sampled_from(BookSide), st.integers(40, 44), st.integers(-30, 60))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(changes, max_size=40), st.lists(st.tuples(st.integers(40, 44), st.integers(1, 40)), max_size=4)
)
def test_we_never_take_more_than_was_recorded_and_the_rest_is_the_recorded_book(
    tmp_path_factory: pytest.TempPathFactory,
    sequence: list[tuple[BookSide, int, int]],
    takes: list[tuple[int, int]],
) -> None:
    replay = Replay(tmp_path_factory.mktemp("replay") / "journal.jsonl")
    fold: dict[tuple[BookSide, int], int] = {}
    offered: dict[int, int] = {}
    for side, cents, lots in sequence:
        price = cents * 100 if side is BID else (cents + 10) * 100
        change = max(lots, -fold.get((side, price), 0))
        fold[side, price] = fold.get((side, price), 0) + change
        if side is ASK:
            offered[price] = offered.get(price, 0) + max(change, 0)
        replay.delta(side, price, change)
    assert dict(replay.levels(BID)) == {p: lots for (side, p), lots in fold.items() if side is BID and lots}
    assert dict(replay.levels(ASK)) == {p: lots for (side, p), lots in fold.items() if side is ASK and lots}
    for cents, lots in takes:
        replay.order(BID, f"0.{cents + 10}", f"{lots / 100:.2f}", IOC)
    taken: dict[int, int] = {}
    for fill in replay.exchange.ledger.accounts["me"].fills:
        taken[fill.price_ticks] = taken.get(fill.price_ticks, 0) + fill.lots
    for price, lots in taken.items():
        assert lots <= offered[price]
    left = {price: lots - taken.get(price, 0) for (side, price), lots in fold.items() if side is ASK}
    assert dict(replay.levels(ASK)) == {price: lots for price, lots in left.items() if lots}
