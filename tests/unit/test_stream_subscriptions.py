"""Which subscription follows what: the market limit, the pace of commands, ends, lists and every channel's words."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.test_exchange_session import SID, Played, books
from trading.domain.book import Book
from trading.domain.orders import BookSide
from trading.exchange import events
from trading.exchange.bookkeeping import Shelf
from trading.exchange.private_frames import COMMUNICATIONS

LIMIT = {"code": 26, "msg": "Subscription market limit exceeded"}


class Limited:
    """An exchange that lets a subscription have so many markets. `merges`: one subscription a channel, as API.md 14
    says; otherwise each `subscribe` makes a new one."""

    def __init__(self, played: Played, cap: int, *, merges: bool) -> None:
        self.played, self.cap, self.merges = played, cap, merges
        self.held: dict[int, set[str]] = {}
        self.commands = 0

    def answer_all(self) -> None:
        """Answer until nothing more is asked."""
        while commands := self.played.sent():
            for command in commands:
                self.commands += 1
                self._answer(command)

    def _answer(self, command: dict[str, Any]) -> None:
        params, number = command["params"], command["id"]
        tickers = set(params.get("market_tickers", ()))
        if command["cmd"] == "subscribe":
            sid = SID if self.merges else SID + len(self.held)
            if self._has_room(sid, tickers):
                self.held.setdefault(sid, set()).update(tickers)
                told = {"channel": params["channels"][0], "sid": sid}
                self.played.frame("subscribed", told, id=number)
                return
        else:
            [sid] = params["sids"]
            if params["action"] == "delete_markets":
                self.held[sid] -= tickers
                return
            if self._has_room(sid, tickers):
                self.held[sid] |= tickers
                self.played.frame("ok", {"market_tickers": sorted(self.held[sid])}, sid=sid, id=number)
                return
        self.played.frame("error", LIMIT, id=number)

    def _has_room(self, sid: int, tickers: Collection[str]) -> bool:
        return len(self.held.get(sid, set()).union(tickers)) <= self.cap

    @property
    def followed(self) -> list[str]:
        return sorted(ticker for tickers in self.held.values() for ticker in tickers)


@pytest.mark.parametrize("cap", [30, 100, 200, 350])
def test_more_markets_than_one_subscription_may_have_are_spread_over_several(cap: int) -> None:
    wanted = [f"M{n:03}" for n in range(450)]
    played = Played({"orderbook_delta": wanted})
    exchange = Limited(played, cap, merges=False)
    played.session.open()
    exchange.answer_all()
    assert exchange.followed == wanted  # all of them, and none twice
    assert not played.got.of(events.Rejected)


@pytest.mark.parametrize("cap", [30, 199, 300, 449])
def test_where_subscriptions_are_merged_what_does_not_fit_is_named_and_the_rest_is_followed(cap: int) -> None:
    wanted = [f"M{n:03}" for n in range(450)]
    played = Played({"orderbook_delta": wanted})
    exchange = Limited(played, cap, merges=True)
    played.session.open()
    exchange.answer_all()
    assert len(exchange.followed) == cap
    [rejected] = played.got.of(events.Rejected)
    assert (rejected.number, set(rejected.keys)) == (26, set(wanted) - set(exchange.followed))
    assert exchange.commands < 40


def test_when_markets_leave_those_that_found_no_place_are_tried_again() -> None:
    wanted = [f"M{n:03}" for n in range(40)]
    played = Played({"orderbook_delta": wanted})
    exchange = Limited(played, 30, merges=True)
    played.session.open()
    exchange.answer_all()
    [rejected] = played.got.of(events.Rejected)
    played.session.remove_markets("orderbook_delta", exchange.followed[:10])
    exchange.answer_all()
    assert set(rejected.keys) <= set(exchange.followed)
    assert len(exchange.followed) == 30


def test_a_gap_touches_the_books_of_its_own_subscription_only() -> None:
    played = Played({"orderbook_delta": [f"M{n}" for n in range(4)]})
    exchange = Limited(played, 2, merges=False)
    played.session.open()
    exchange.answer_all()
    told = {"market_id": "x", "clock": 1}
    first, second = exchange.held
    for sid, tickers in exchange.held.items():
        for seq, ticker in enumerate(sorted(tickers), start=1):
            played.frame("orderbook_snapshot", {"market_ticker": ticker, **told}, sid=sid, seq=seq)
    played.frame("ok", {}, sid=first, seq=9)
    [gap] = played.got.of(events.Gap)
    assert set(gap.tickers) == exchange.held[first]
    assert set(played.session.trusted) == exchange.held[second]
    [command] = played.sent()
    assert command["params"]["sids"] == [first]


def test_commands_refused_for_their_number_follow_slowly_and_in_order() -> None:
    played = books("A")
    for name in "BCDEFGH":
        played.session.add_markets("orderbook_delta", [name])
    asked = played.sent()
    for command in asked:
        played.frame("error", {"code": 27, "msg": "Too many requests"}, id=command["id"])
    played.session.add_markets("orderbook_delta", ["I"])
    assert played.sent() == []
    played.now += 500
    played.session.tick()
    first = played.sent()
    assert [command["params"]["market_tickers"] for command in first] == [["B"], ["C"], ["D"], ["E"], ["F"]]
    played.session.tick()
    assert [command["params"]["market_tickers"] for command in played.sent()] == [["G"], ["H"], ["I"]]


def test_the_pause_doubles_while_commands_are_refused_and_is_short_again_after_one_was_accepted() -> None:
    played = Played({"trade": ["A"]})
    played.session.open()
    played.subscribed()
    played.session.add_markets("trade", ["B"])
    for pause in (500, 1_000, 2_000, 4_000, 8_000, 8_000):
        [command] = played.sent()
        played.frame("error", {"code": 27, "msg": "Too many requests"}, id=command["id"])
        played.now += pause - 1
        played.session.tick()
        assert played.sent() == []
        played.now += 1
        played.session.tick()
    [command] = played.sent()
    played.frame("ok", {}, sid=SID, seq=1, id=command["id"])
    played.session.add_markets("trade", ["C"])
    [command] = played.sent()
    played.frame("error", {"code": 27, "msg": "Too many requests"}, id=command["id"])
    played.now += 500
    played.session.tick()
    assert len(played.sent()) == 1


def test_a_subscription_that_is_never_answered_is_said_again() -> None:
    played = Played({"trade": None})
    played.session.open()
    [first] = played.sent()
    played.now += 10_000
    played.session.tick()
    [again] = played.sent()
    assert again["params"] == first["params"]


def test_unsubscribing_ends_a_channel_and_its_tail_is_ignored() -> None:
    played = books("A")
    played.snapshot(1)
    played.session.unsubscribe("orderbook_delta")
    [command] = played.sent()
    assert (command["cmd"], command["params"]) == ("unsubscribe", {"sids": [SID]})
    assert not played.session.trusted
    played.delta(2)
    played.frame("unsubscribed", sid=SID, seq=3, id=command["id"])
    played.session.open()
    assert played.sent() == []
    assert not played.got.of(events.Gap)


def test_a_subscription_that_the_exchange_ends_is_begun_anew() -> None:
    played = books("A")
    played.snapshot(1)
    played.frame("unsubscribed", sid=SID, seq=2)
    [gap] = played.got.of(events.Gap)
    assert gap.tickers == ("A",)
    [command] = played.sent()
    assert command["cmd"] == "subscribe"


def test_the_exchange_says_what_we_have_subscribed() -> None:
    played = books("A")
    played.session.ask_subscriptions()
    [command] = played.sent()
    assert command == {"id": 2, "cmd": "list_subscriptions"}
    played.frame("ok", [{"channel": "orderbook_delta", "sid": SID}], id=2)
    assert played.got.of(events.Subscribed) == [events.Subscribed((("orderbook_delta", SID),))]


def test_an_index_channel_is_narrowed_in_its_own_words() -> None:
    played = Played({"cfbenchmarks_value": ["BRTI"], "pyth_value": []})
    played.session.open()
    [command] = played.sent()
    assert command["params"] == {"channels": ["cfbenchmarks_value"], "index_ids": ["BRTI"]}
    played.frame("subscribed", {"channel": "cfbenchmarks_value", "sid": SID}, id=command["id"])
    played.session.add_markets("cfbenchmarks_value", ["ETHUSD_RTI"])
    played.session.remove_markets("cfbenchmarks_value", ["BRTI"])
    played.session.add_markets("pyth_value", ["FX.EUR/USD"])
    played.session.ask_names("cfbenchmarks_value")
    add, remove, subscribe, names = played.sent()
    assert add["params"]["action"] == "subscribe_indices"
    assert remove["params"] == {"sids": [SID], "index_ids": ["BRTI"], "action": "unsubscribe_indices"}
    assert subscribe["params"] == {"channels": ["pyth_value"], "underlying_tickers": ["FX.EUR/USD"]}
    assert names["params"] == {"sids": [SID], "action": "indexlist"}


def test_a_channels_own_options_go_with_its_subscription() -> None:
    played = Played({"communications": None}, options={"communications": {"user_filter": "self"}})
    played.session.open()
    [command] = played.sent()
    assert command["params"] == {"channels": ["communications"], "user_filter": "self"}


def test_indices_groups_combos_and_quotes_become_events() -> None:
    channels = ("cfbenchmarks_value", "cfbenchmarks_value_5hz", "pyth_value", "order_group_updates")
    played = Played(dict.fromkeys((*channels, "multivariate_market_lifecycle", "communications")))
    played.session.open()
    played.subscribed()
    slow = {"index_id": "BRTI", "received_at": 7, "data": '{"type":"value","time":5,"value":"68000.12"}'}
    slow["avg_60s_data"] = {"value": "68000.25000000", "window_size": 3}
    played.frame("cfbenchmarks_value", slow, sid=SID, seq=1)
    quick = {"index_id": "BRTI", "value_usd": "68000.12000001", "source_ts_ms": 6, "received_at": 7}
    played.frame("cfbenchmarks_value_5hz", {**quick, "data": "{}"}, sid=SID + 1, seq=1)
    pyth = {"underlying_ticker": "FX.EUR/USD", "value_usd": "1.12345678", "source_ts_ms": 8, "received_at": 9}
    played.frame("pyth_value", pyth, sid=SID + 2, seq=1)
    played.frame("pyth_value_underlying_list", {"underlying_tickers": ["FX.EUR/USD"]}, sid=SID + 2, seq=2)
    group = {"event_type": "limit_updated", "order_group_id": "g", "contracts_limit_fp": "5.00", "ts_ms": 9}
    played.frame("order_group_updates", group, sid=SID + 3, seq=1)
    combo = {"event_type": "activated", "market_ticker": "C"}
    played.frame("multivariate_market_lifecycle", combo, sid=SID + 4, seq=1)
    played.frame("rfq_created", {"id": "r"}, sid=SID + 5, seq=1)
    of_slow, of_quick, of_pyth = played.got.of(events.IndexValue)
    assert (of_slow.value, of_slow.at_ms, of_slow.average_60s) == (
        Decimal("68000.12"),
        5,
        Decimal("68000.25"),
    )
    assert (of_quick.value, of_quick.at_ms) == (Decimal("68000.12000001"), 6)
    assert (of_pyth.index, of_pyth.value) == ("FX.EUR/USD", Decimal("1.12345678"))
    assert played.got.of(events.IndexNames) == [events.IndexNames("pyth_value", ("FX.EUR/USD",))]
    assert played.got.of(events.OrderGroupChange) == [
        events.OrderGroupChange("limit_updated", "g", Decimal(5), 9)
    ]
    assert [change.is_combo for change in played.got.of(events.LifecycleChange)] == [True]
    assert played.got.of(events.QuoteTalk) == [events.QuoteTalk("rfq_created", {"id": "r"})]
    assert not played.got.of(events.Gap)


@pytest.mark.parametrize("kind", [kind.__struct_config__.tag for kind in COMMUNICATIONS])
def test_every_message_about_quotes_is_passed_on_as_it_came(kind: str) -> None:
    played = Played({"communications": None})
    played.session.open()
    played.subscribed()
    played.frame(kind, {"anything": [1]}, sid=SID, seq=1)
    assert played.got.events == [events.QuoteTalk(kind, {"anything": [1]})]


@pytest.mark.parametrize("value", ["", "many", "1e5"])
def test_an_index_value_that_is_no_number_is_a_gap_of_its_channel(value: str) -> None:
    played = Played({"pyth_value": None})
    played.session.open()
    played.subscribed()
    pyth = {"underlying_ticker": "X", "value_usd": value, "source_ts_ms": 8, "received_at": 9}
    played.frame("pyth_value", pyth, sid=SID, seq=1)
    assert [gap.channel for gap in played.got.of(events.Gap)] == ["pyth_value"]


# --- books that the session keeps itself


def shelved(*tickers: str, **options: Any) -> tuple[Played, dict[str, Book]]:
    held = {ticker: Book(ticker) for ticker in tickers}
    played = Played({"orderbook_delta": tickers}, keeper=Shelf(held), **options)
    played.session.open()
    played.subscribed()
    played.sent()
    return played, held


def test_the_consumers_books_are_kept_without_events() -> None:
    played, held = shelved("A", "B")
    played.snapshot(1, "A")
    played.delta(2, change="2.50", clock=7)
    assert played.got.events == []
    assert held["A"].quantity_at(BookSide.BID, 4_000) == 1_250
    assert (held["A"].clock, held["A"].as_of_ms) == (7, 99)
    assert (held["A"].is_current, held["B"].is_current) == (True, False)


def test_a_gap_empties_the_consumers_books_until_their_snapshots() -> None:
    played, held = shelved("A", "B")
    played.snapshot(1, "A")
    played.delta(3)
    assert not held["A"].is_current
    assert [gap.tickers for gap in played.got.of(events.Gap)] == [("A", "B")]
    played.delta(4)
    assert not held["A"].is_current
    played.snapshot(5, "A")
    assert held["A"].is_current


@pytest.mark.parametrize(
    "wrong",
    [
        {"change": "-11.00"},
        {"side": "no"},
        {"change": "0.001"},
        {"price_dollars": "1.0000"},
        {"price_dollars": "0"},
    ],
    ids=["below zero", "crossed", "too fine", "at a dollar", "at nothing"],
)
def test_a_change_that_cannot_be_true_costs_that_book_its_trust_and_no_other(wrong: dict[str, str]) -> None:
    played, held = shelved("A", "B")
    played.snapshot(1, "A")
    played.snapshot(2, "B")
    played.delta(3, **wrong)
    assert (held["A"].is_current, held["B"].is_current) == (False, True)
    assert [gap.tickers for gap in played.got.of(events.Gap)] == [("A",)]
    [command] = played.sent()
    assert command["params"] == {"sids": [SID], "market_tickers": ["A"], "action": "get_snapshot"}
    played.delta(4)
    assert not held["A"].is_current
    played.snapshot(5, "A")
    assert set(played.session.trusted) == {"A", "B"}


def test_a_crossed_snapshot_is_not_believed_and_asked_for_again_only_later() -> None:
    played, held = shelved("A")
    crossed = {"market_ticker": "A", "market_id": "x", "clock": 1, "yes_dollars_fp": [["0.5000", "1.00"]]}
    played.frame("orderbook_snapshot", {**crossed, "no_dollars_fp": [["0.4000", "1.00"]]}, sid=SID, seq=1)
    assert not held["A"].is_current
    assert not played.session.trusted
    assert played.sent() == []
    played.now += 10_000
    played.session.tick()
    assert len(played.sent()) == 1


def test_the_end_of_a_connection_leaves_no_book_trusted() -> None:
    played, held = shelved("A")
    played.snapshot(1)
    played.session.close()
    assert not held["A"].is_current
    assert not played.session.trusted


def test_books_on_the_no_scale_are_mirrored() -> None:
    played, held = shelved("A", use_yes_price=False)
    played.snapshot(1)
    played.delta(2, side="no", price_dollars="0.5500")
    assert held["A"].best_ask_tick == 4_500


def test_one_gap_after_another_asks_for_snapshots_at_most_four_times_a_second() -> None:
    played = books("A")
    played.snapshot(1)
    for seq in range(3, 43, 2):
        played.delta(seq)
        played.now += 50
        played.session.tick()
    assert len(played.sent()) <= 5


def test_a_snapshot_that_was_lost_in_the_next_gap_is_asked_for_again_within_a_second() -> None:
    played = books("A")
    played.snapshot(1)
    played.delta(3)
    played.sent()
    played.now += 100
    played.delta(6)
    assert played.sent() == []
    played.now += 500
    played.session.tick()
    [command] = played.sent()
    assert command["params"]["action"] == "get_snapshot"


def test_the_exchanges_time_and_ours_are_kept_side_by_side() -> None:
    played = books("A")
    played.snapshot(1, sending_ts_ms=500)
    assert played.session.clocks == (500, played.now)
