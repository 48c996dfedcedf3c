"""The stream's rules, played without a socket: sequence per subscription, trust per book, lost subscriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripted_exchange import Ledger
from trading.domain.book import Book
from trading.domain.orders import BookSide
from trading.exchange.channels import Wanted
from trading.exchange.events import (
    BookDelta,
    BookSnapshot,
    FeesChanged,
    Gap,
    Heartbeat,
    LifecycleChange,
    OwnFill,
    OwnOrder,
    Rejected,
    TickerUpdate,
    TradePrint,
)
from trading.exchange.session import Session, StreamFault
from trading.exchange.stream import reconnect_pause

SID = 7


class Played:
    """A session with a clock of its own, its events, and the commands it sent."""

    def __init__(self, channels: dict[Any, Any], *, use_yes_price: bool = True, **options: Any) -> None:
        self.now = 1_000_000
        self.got = Ledger()
        self.session = Session(
            Wanted(channels), self.got, clock_ms=lambda: self.now, use_yes_price=use_yes_price, **options
        )

    def sent(self) -> list[dict[str, Any]]:
        commands = [json.loads(command) for command in self.session.outbox]
        self.session.outbox.clear()
        return commands

    def frame(self, kind: str, msg: object = None, **envelope: Any) -> None:
        told = {"type": kind, **({} if msg is None else {"msg": msg}), **envelope}
        self.session.receive(json.dumps(told) + "\n")

    def subscribed(self, sid: int = SID) -> None:
        for command in self.sent():
            [channel] = command["params"]["channels"]
            self.frame("subscribed", {"channel": channel, "sid": sid}, id=command["id"])
            sid += 1

    def snapshot(
        self, seq: int, ticker: str = "A", yes: object = (("0.4000", "10.00"),), **more: Any
    ) -> None:
        msg = {"market_ticker": ticker, "market_id": "x", "clock": 1, "yes_dollars_fp": yes}
        self.frame("orderbook_snapshot", msg, sid=SID, seq=seq, **more)

    def delta(
        self, seq: int, ticker: str = "A", change: str = "1.00", side: str = "yes", **more: Any
    ) -> None:
        msg = {
            "market_ticker": ticker,
            "price_dollars": "0.4000",
            "delta_fp": change,
            "side": side,
            "ts_ms": 99,
        }
        self.frame("orderbook_delta", {**msg, **more}, sid=SID, seq=seq)


def books(*tickers: str, **options: Any) -> Played:
    played = Played({"orderbook_delta": tickers}, **options)
    played.session.open()
    played.subscribed()
    played.sent()
    return played


def test_one_subscription_takes_all_markets_and_says_the_scale() -> None:
    played = Played({"orderbook_delta": ["B", "A"], "ticker": None})
    played.session.open()
    first, second = played.sent()
    assert first["params"] == {
        "channels": ["orderbook_delta"],
        "market_tickers": ["A", "B"],
        "use_yes_price": True,
    }
    assert second["params"] == {"channels": ["ticker"]}
    assert [first["id"], second["id"]] == [1, 2]


def test_markets_beyond_one_command_follow_on_the_same_subscription() -> None:
    played = Played({"orderbook_delta": [f"M{n:03}" for n in range(450)]})
    played.session.open()
    played.subscribed()
    updates = played.sent()
    assert [update["params"]["action"] for update in updates] == ["add_markets", "add_markets"]
    named = [ticker for update in updates for ticker in update["params"]["market_tickers"]]
    assert named == [f"M{n:03}" for n in range(200, 450)]
    assert all(update["params"]["sids"] == [SID] for update in updates)


def test_a_book_is_trusted_from_its_snapshot_on() -> None:
    played = books("A", "B")
    played.delta(1)
    assert played.got.events == []
    played.snapshot(2, "A")
    played.delta(3)
    assert played.session.trusted == {"A"}
    assert played.got.of(BookSnapshot)[0].bids == ((4000, 1000),)
    assert played.got.of(BookDelta) == [BookDelta("A", BookSide.BID, 4000, 100, 99)]


def test_control_replies_count_in_the_sequence() -> None:
    played = books("A")
    played.snapshot(1)
    played.frame("ok", {"market_tickers": ["A"]}, sid=SID, seq=2, id=2)
    played.delta(3)
    assert played.got.of(Gap) == []


@pytest.mark.parametrize("seq", [2, 4, 9, 1])
def test_any_other_number_than_the_next_is_a_gap_for_every_book_of_the_subscription(seq: int) -> None:
    played = books("A", "B")
    played.snapshot(1, "A")
    played.snapshot(2, "B")
    played.delta(seq)
    [gap] = played.got.of(Gap)
    assert gap.tickers == ("A", "B")
    assert not played.session.trusted
    assert played.got.of(BookDelta) == []
    [command] = played.sent()
    assert command["params"] == {"sids": [SID], "market_tickers": ["A", "B"], "action": "get_snapshot"}


def test_after_a_gap_each_book_is_trusted_again_with_its_own_snapshot() -> None:
    played = books("A", "B")
    played.snapshot(1, "A")
    played.snapshot(2, "B")
    played.delta(4)
    played.snapshot(5, "B")
    played.delta(6, "A")
    played.delta(7, "B")
    assert played.session.trusted == {"B"}
    assert [delta.ticker for delta in played.got.of(BookDelta)] == ["B"]


def test_another_subscriptions_numbers_are_its_own() -> None:
    played = Played({"orderbook_delta": ["A"], "trade": ["A"]})
    played.session.open()
    played.subscribed()
    played.snapshot(1)
    trade = {"trade_id": "t", "market_ticker": "A", "yes_price_dollars": "0.4000", "count_fp": "1.00"}
    trade |= {"taker_outcome_side": "yes", "ts_ms": 5}
    played.frame("trade", trade, sid=SID + 1, seq=50)
    played.delta(2)
    assert played.got.of(Gap) == []
    played.frame("trade", trade, sid=SID + 1, seq=52)
    assert [gap.channel for gap in played.got.of(Gap)] == ["trade"]
    assert played.session.trusted == {"A"}
    assert len(played.got.of(TradePrint)) == 2


def test_a_snapshot_that_does_not_come_is_asked_for_again() -> None:
    played = books("A")
    played.now += 9_000
    played.session.ping()
    assert played.sent() == []
    played.now += 2_000
    played.session.ping()
    [command] = played.sent()
    assert command["params"]["action"] == "get_snapshot"
    played.snapshot(1)
    played.now += 60_000
    played.session.ping()
    assert played.sent() == []
    assert played.got.of(Heartbeat)[-1].at_ms == played.now


@pytest.mark.parametrize("number", [10, 25])
def test_a_terminal_error_ends_the_subscription_and_begins_a_new_one(number: int) -> None:
    played = books("A")
    played.snapshot(1)
    played.frame("error", {"code": number, "msg": "overflow"}, sid=SID, seq=2)
    assert not played.session.trusted
    [gap] = played.got.of(Gap)
    assert gap.tickers == ("A",)
    [command] = played.sent()
    assert command["cmd"] == "subscribe"
    played.delta(3)
    played.frame("subscribed", {"channel": "orderbook_delta", "sid": 9}, id=command["id"])
    played.frame("orderbook_snapshot", {"market_ticker": "A", "market_id": "x", "clock": 1}, sid=9, seq=1)
    assert played.session.trusted == {"A"}
    assert played.got.of(BookDelta) == []


def test_a_terminal_error_of_no_subscription_drops_the_connection() -> None:
    with pytest.raises(StreamFault):
        books("A").frame("error", {"code": 25, "msg": "overflow"})


def test_another_error_is_reported_and_a_rate_limit_is_repeated_later() -> None:
    played = Played({"trade": ["A"], "fill": None})
    played.session.open()
    first, second = played.sent()
    played.frame("error", {"code": 27, "msg": "slow down"}, id=first["id"])
    played.frame("error", {"code": 9, "msg": "authentication required"}, id=second["id"])
    assert played.got.events == [Rejected("fill", 9, "authentication required")]
    played.session.tick()
    assert played.sent() == []
    played.now += 500
    played.session.tick()
    [again] = played.sent()
    assert again["params"] == first["params"]
    assert again["id"] > second["id"]


@pytest.mark.parametrize("scale", [True, False])
def test_no_orders_are_asks_on_the_yes_scale_under_either_flag(scale: bool) -> None:
    played = books("A", use_yes_price=scale)
    told = {"market_ticker": "A", "market_id": "x", "clock": 1}
    played.frame("orderbook_snapshot", {**told, "no_dollars_fp": [["0.5500", "3.00"]]}, sid=SID, seq=1)
    played.delta(2, side="no", price_dollars="0.5500", change="-1.00")
    tick = 5500 if scale else 4500
    assert played.got.of(BookSnapshot)[0].asks == ((tick, 300),)
    assert played.got.of(BookDelta)[0] == BookDelta("A", BookSide.ASK, tick, -100, 99)


def test_an_unreadable_change_counts_as_lost() -> None:
    played = books("A")
    played.snapshot(1)
    played.delta(2, change="many")
    assert [gap.tickers for gap in played.got.of(Gap)] == [("A",)]
    played.snapshot(3)
    played.frame("orderbook_delta", {"market_ticker": "A"}, sid=SID, seq=4)
    assert len(played.got.of(Gap)) == 2
    assert not played.session.trusted


def test_a_frame_type_of_tomorrow_is_passed_over_but_counted() -> None:
    played = books("A")
    played.snapshot(1)
    played.frame("orderbook_sparkle", {"x": 1}, sid=SID, seq=2)
    played.delta(3)
    assert played.got.of(Gap) == []
    assert len(played.got.of(BookDelta)) == 1


@pytest.mark.parametrize("text", ["", "hello", "[]", '{"no": "type"}', b"\xff\xfe"])
def test_what_is_no_frame_drops_the_connection(text: str | bytes) -> None:
    with pytest.raises(StreamFault):
        books("A").session.receive(text)


def test_a_market_no_longer_wanted_is_forgotten() -> None:
    played = books("A", "B")
    played.snapshot(1, "A")
    played.session.remove_markets("orderbook_delta", ["A"])
    [command] = played.sent()
    assert command["params"] == {"sids": [SID], "market_tickers": ["A"], "action": "delete_markets"}
    played.snapshot(2, "A")
    assert not played.session.trusted


def test_markets_added_while_the_subscription_is_under_way_are_not_lost() -> None:
    played = Played({"orderbook_delta": ["A"]})
    played.session.open()
    played.session.add_markets("orderbook_delta", ["B"])
    played.subscribed()
    [command] = played.sent()
    assert command["params"] == {"sids": [SID], "market_tickers": ["B"], "action": "add_markets"}


def test_the_first_market_of_a_channel_subscribes_it() -> None:
    played = Played({"orderbook_delta": []})
    played.session.open()
    assert played.sent() == []
    played.session.add_markets("orderbook_delta", ["A"])
    [command] = played.sent()
    assert command["cmd"] == "subscribe"


def test_a_distrusted_book_gets_a_new_snapshot() -> None:
    played = books("A", "B")
    played.snapshot(1, "A")
    played.snapshot(2, "B")
    played.session.distrust("A")
    assert played.session.trusted == {"B"}
    [command] = played.sent()
    assert command["params"]["market_tickers"] == ["A"]


def test_books_are_proven_up_to_the_exchanges_time_of_the_last_frame() -> None:
    played = books("A")
    played.snapshot(1, sending_ts_ms=500)
    assert played.session.proven_ms == 500
    played.session.ping()
    assert played.session.proven_ms == played.now


def test_private_frames_become_our_reports() -> None:
    played = Played({"fill": None, "user_orders": None})
    played.session.open()
    played.subscribed()
    fill = {
        "trade_id": "t",
        "order_id": "o",
        "client_order_id": "kp",
        "market_ticker": "A",
        "exchange_index": 0,
    }
    fill |= {"is_taker": True, "outcome_side": "no", "book_side": "ask", "yes_price_dollars": "0.4000"}
    fill |= {"count_fp": "2.50", "fee_cost": "0.042000", "post_position_fp": "-2.50", "ts_ms": 5}
    played.frame("fill", fill, sid=SID)
    order = {"order_id": "o", "user_id": "u", "client_order_id": "kp", "ticker": "A", "status": "resting"}
    order |= {
        "outcome_side": "yes",
        "book_side": "bid",
        "yes_price_dollars": "0.4000",
        "initial_count_fp": "3.00",
    }
    order |= {"remaining_count_fp": "1.00", "fill_count_fp": "2.00", "taker_fill_cost_dollars": "0.800000"}
    order |= {
        "maker_fill_cost_dollars": "0.000000",
        "taker_fees_dollars": "0.010000",
        "maker_fees_dollars": "0.000000",
    }
    order |= {"created_ts_ms": None, "last_update_reason": "Trade", "exchange_index": 0}
    played.frame("user_order", order, sid=SID + 1, sending_ts_ms=8)
    [own_fill], [own_order] = played.got.of(OwnFill), played.got.of(OwnOrder)
    assert (own_fill.fill.book_side, str(own_fill.fill.fee)) == (BookSide.ASK, "0.042000")
    assert (own_order.order.state, own_order.order.reason, own_order.at_ms) == (
        "partially_filled",
        "Trade",
        8,
    )


def test_catalogue_frames_become_changes() -> None:
    played = Played({"market_lifecycle_v2": None, "ticker": None})
    played.session.open()
    played.subscribed()
    told = {"event_type": "determined", "market_ticker": "A", "result": "no", "settlement_value": "0.0000"}
    played.frame("market_lifecycle_v2", told, sid=SID, seq=1)
    fees = {"event_ticker": "E", "fee_type_override": None, "fee_multiplier_override": None}
    played.frame("event_fee_update", fees, sid=SID, seq=2)
    ticker = {"market_ticker": "A", "price_dollars": "0.0000", "yes_bid_dollars": "0.0000", "ts_ms": 5}
    ticker |= {"yes_ask_dollars": "0.4100", "yes_bid_size_fp": "0.00", "yes_ask_size_fp": "2.00"}
    ticker |= {"volume_fp": "0.00", "open_interest_fp": "0.00"}
    played.frame("ticker", ticker, sid=SID + 1)
    [change], [update] = played.got.of(LifecycleChange), played.got.of(TickerUpdate)
    assert (change.result, change.settlement_value) == ("no", 0)
    assert (update.quote.yes_bid, update.last_price, str(update.quote.yes_ask)) == (None, None, "0.4100")
    assert played.got.of(FeesChanged) == [FeesChanged("E")]


def _market_of_changes(changes: list[int]) -> Iterator[tuple[int, int]]:
    total = 0
    for seq, change in enumerate(changes, start=2):
        total += change
        yield seq, total


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.data())
def test_with_frames_lost_anywhere_no_wrong_book_is_ever_shown(
    changes: list[int], data: st.DataObject
) -> None:
    lost = data.draw(st.sets(st.integers(2, len(changes) + 1)))
    played, book = books("A"), Book("A")
    played.snapshot(1, yes=[])
    for seq, total in _market_of_changes(changes):
        if seq not in lost:
            played.delta(seq, change=f"{changes[seq - 2] / 100:.2f}")
        for event in played.got.events:
            if isinstance(event, BookSnapshot):
                book.apply_snapshot(event.bids, event.asks)
            elif isinstance(event, BookDelta):
                book.apply_delta(event.side, event.tick, event.change)
            elif isinstance(event, Gap):
                book.invalidate()
        played.got.events.clear()
        if book.is_current and seq not in lost:
            assert book.quantity_at(BookSide.BID, 4000) == total
        assert book.is_current == ("A" in played.session.trusted)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_reconnect_pause_grows_from_one_second_to_sixty(attempt: int, share: float) -> None:
    assert reconnect_pause(attempt, share) == min(60.0, 2.0 ** min(attempt, 10)) * share
