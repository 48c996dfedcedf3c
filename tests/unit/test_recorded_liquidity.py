"""Our orders among recorded ones: filled no earlier than the recording allows, and never twice from the same size."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry
from trading.paper.exchange import Exchange
from trading.paper.fill_models import FillModel
from trading.paper.journal import Journal
from trading.paper.queues import queue_position, queue_positions
from trading.paper.records import AccountOpened, OrderRecord
from trading.paper.refusals import Refused
from trading.paper.tickets import Ticket
from trading.paper.wire import rfc3339

BID, ASK = BookSide.BID, BookSide.ASK
GTC, IOC = TimeInForce.GTC, TimeInForce.IOC
TICKER = "REC-1-A"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Replay:
    """An exchange with one market whose book is recorded, and one account in it."""

    def __init__(self, path: Path, model: FillModel = FillModel.PESSIMISTIC) -> None:
        self.exchange = Exchange(Journal(path), clock=lambda: START, fill_model=model)
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

    def ahead(self, order: OrderRecord) -> int:
        return queue_position(self.exchange.listing(TICKER), order.order_id)

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
    entry.cancel(replay.exchange, mine)
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


@pytest.mark.parametrize(
    ("model", "ahead"),
    [(FillModel.PESSIMISTIC, 1000), (FillModel.REALISTIC, 834), (FillModel.OPTIMISTIC, 750)],
)
def test_what_left_without_a_print_moves_us_as_the_model_guesses(
    tmp_path: Path, model: FillModel, ahead: int
) -> None:
    """1000 ahead of us and 500 behind; 250 of the 1500 leave."""
    replay = Replay(tmp_path / "journal.jsonl", model)
    replay.snapshot([(4000, 1000)], [])
    mine = replay.order(BID, "0.40", "3")
    replay.delta(BID, 4000, 500)
    replay.delta(BID, 4000, -250)
    assert replay.ahead(mine) == ahead
    replay.delta(BID, 4000, 1)  # whatever joins now proves that the 250 were no trade
    replay.trade(4000, ahead, ASK)
    assert (replay.filled(mine), replay.ahead(mine)) == (0, 0)
    replay.trade(4000, 100, ASK)
    assert replay.filled(mine) == 100


@pytest.mark.parametrize("model", FillModel)
def test_a_removal_that_turns_out_to_be_a_trade_counts_as_one(tmp_path: Path, model: FillModel) -> None:
    replay = Replay(tmp_path / "journal.jsonl", model)
    replay.snapshot([(4000, 1000)], [])
    mine = replay.order(BID, "0.40", "3")
    replay.delta(BID, 4000, 500)
    replay.delta(BID, 4000, -600)
    replay.trade(4000, 600, ASK)
    assert (replay.filled(mine), replay.ahead(mine)) == (0, 400)


def test_our_queue_position_counts_recorded_size_and_our_older_orders(replay: Replay) -> None:
    first, second = replay.order(BID, "0.40", "3"), replay.order(BID, "0.40", "2")
    assert (replay.ahead(first), replay.ahead(second)) == (1000, 1300)
    replay.trade(4000, 1100, ASK)
    assert (replay.ahead(first), replay.ahead(second)) == (0, 200)


tapes = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "print_first", "book_first", "through", "snapshot"]),
        st.integers(1, 400),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(tapes, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 300)), min_size=1, max_size=4))
def test_a_more_optimistic_model_never_fills_less(
    tmp_path_factory: pytest.TempPathFactory, tape: list[tuple[str, int]], entries: list[tuple[int, int]]
) -> None:
    """The same tape of one level, the same orders of ours: at every moment further ahead and filled no less."""
    folder = tmp_path_factory.mktemp("models")
    replays = [Replay(folder / model, model) for model in FillModel]
    mine: list[list[OrderRecord]] = [[] for _ in replays]
    size = 500
    for replay in replays:
        replay.snapshot([(4000, size)], [])
    for moment, (kind, lots) in enumerate(tape):
        for at, count in entries:
            if at == moment:
                for replay, orders in zip(replays, mine, strict=True):
                    orders.append(replay.order(BID, "0.40", f"{count / 100:.2f}"))
        gone = min(lots, size)
        size = size + lots if kind == "join" else size if kind in {"through", "snapshot"} else size - gone
        for replay in replays:
            play(replay, kind, lots, gone, size)
        for same in zip(*mine, strict=True):
            filled = [replay.filled(order) for replay, order in zip(replays, same, strict=True)]
            assert filled == sorted(filled), "pessimistic, realistic, optimistic"
    totals = [
        sum(replay.filled(order) for order in orders) for replay, orders in zip(replays, mine, strict=True)
    ]
    assert totals == sorted(totals)


def play(replay: Replay, kind: str, lots: int, gone: int, size: int) -> None:
    """One event of the tape; trades are told twice, in either order."""
    match kind:
        case "join":
            replay.delta(BID, 4000, lots)
        case "leave":
            replay.delta(BID, 4000, -gone)
        case "print_first" if gone:
            replay.trade(4000, gone, ASK)
            replay.delta(BID, 4000, -gone)
        case "book_first" if gone:
            replay.delta(BID, 4000, -gone)
            replay.trade(4000, gone, ASK)
        case "through":
            replay.trade(3900, lots % 50 + 1, ASK)
        case "snapshot":
            replay.snapshot([(4000, size)] if size else [], [])


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


# Pauses


def test_while_trading_is_paused_nothing_trades_and_the_outside_comes_in_when_it_resumes(
    replay: Replay,
) -> None:
    mine = replay.order(BID, "0.41", "3")
    replay.exchange.trading_active = False
    replay.delta(ASK, 4100, 500)
    replay.trade(4000, 200, ASK)
    assert replay.filled(mine) == 0
    assert replay.levels(ASK) == [(4200, 800), (4300, 500)]
    replay.delta(ASK, 4100, -100)
    replay.exchange.trading_active = True
    assert replay.filled(mine) == 300
    assert replay.levels(ASK)[0] == (4100, 100)


def test_a_snapshot_in_a_pause_replaces_what_was_held_back(replay: Replay) -> None:
    replay.exchange.trading_active = False
    replay.delta(ASK, 4100, 500)
    replay.snapshot([(3800, 100)], [(4300, 700)])
    replay.exchange.trading_active = True
    assert (replay.levels(BID), replay.levels(ASK)) == ([(3800, 100)], [(4300, 700)])


def test_a_paused_market_forgets_what_was_held_back_with_the_book_that_it_loses(replay: Replay) -> None:
    replay.exchange.pause_market(TICKER)
    replay.delta(BID, 4000, 500)
    replay.exchange.open_market(TICKER)
    assert replay.levels(BID) == []
    replay.snapshot([(3800, 100)], [])
    assert replay.levels(BID) == [(3800, 100)]


def test_an_order_canceled_by_self_trade_prevention_leaves_no_place_behind(replay: Replay) -> None:
    replay.order(BID, "0.41", "3")
    ticket = Ticket(
        ticker=TICKER,
        side=ASK,
        count="1",
        price="0.41",
        time_in_force=GTC,
        self_trade_prevention_type="maker",
    )
    entry.create(replay.exchange, "me", ticket)
    replay.snapshot([(4000, 700)], [(4200, 800)])
    assert replay.levels(BID) == [(4000, 700)]


def test_a_lost_book_takes_no_orders_and_keeps_our_place_for_the_next_snapshot(replay: Replay) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.delta(BID, 4000, 500)
    replay.exchange.lose_external_book(TICKER)
    assert replay.levels(BID) == [(4000, 300)]
    with pytest.raises(Refused) as refused:
        replay.order(BID, "0.40", "1")
    assert refused.value.body["error"]["code"] == "trading_is_paused"
    replay.snapshot([(4000, 1400)], [])
    assert replay.ahead(mine) == 1000, "nobody can have come between"
    later = replay.order(BID, "0.40", "1")
    assert replay.ahead(later) == 1400 + 300
    entry.cancel(replay.exchange, mine)


@pytest.mark.parametrize("while_paused", [False, True])
def test_a_book_lost_while_trading_is_paused_is_empty_at_once_and_comes_back_with_trading(
    replay: Replay, while_paused: bool
) -> None:
    mine = replay.order(BID, "0.40", "3")
    replay.exchange.trading_active = False
    replay.exchange.lose_external_book(TICKER)
    assert replay.levels(BID) == [(4000, 300)]
    if while_paused:
        replay.snapshot([(4000, 700)], [])
        replay.exchange.trading_active = True
    else:
        replay.exchange.trading_active = True
        replay.snapshot([(4000, 700)], [])
    assert (replay.levels(BID), replay.ahead(mine)) == ([(4000, 1000)], 700)


# Places in the queue


def test_a_queue_position_counts_recorded_size_ahead_and_better_prices_and_older_orders(
    replay: Replay,
) -> None:
    replay.order(BID, "0.41", "2")
    mine = replay.order(BID, "0.40", "3")
    behind = replay.order(BID, "0.40", "1")
    listing = replay.exchange.listing(TICKER)
    replay.delta(BID, 4000, 500)
    assert queue_position(listing, mine.order_id) == 200 + 1000, "what joined later stands behind"
    assert queue_position(listing, behind.order_id) == 200 + 1000 + 300
    replay.trade(4000, 900, ASK)
    assert queue_position(listing, mine.order_id) == 300, "0.41 is gone, and of the recorded size a part"
    assert dict(_places(replay)) == {mine.order_id: 300, behind.order_id: 600}


def _places(replay: Replay) -> Iterator[tuple[str, int]]:
    for order, ahead in queue_positions(replay.exchange.listing(TICKER)):
        yield order.order_id, ahead
