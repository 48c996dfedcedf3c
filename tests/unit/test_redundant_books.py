"""Two connections, one book: the first saying wins, a gap on one is carried by the other, a contradiction by none."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripted_exchange import Ledger
from trading.domain.book import Book
from trading.domain.orders import BookSide
from trading.exchange.bookkeeping import Shelf
from trading.exchange.channels import Wanted
from trading.exchange.merging import NEW_AGE_MS, Merge
from trading.exchange.session import Session

SID = 1
Change = tuple[int, int, int]  # cent, lots, clock


class Exchange:
    """The true book of one market (bids only), and what it was after each change."""

    def __init__(self) -> None:
        self.clock = 0
        self.now_ms = 1_000
        self.bids: dict[int, int] = {}
        self.changes: list[Change] = []
        self.known: dict[int, list[dict[int, int]]] = {0: [{}]}

    def act(self, changes: list[tuple[int, int]], skip: int = 1) -> None:
        """One action: all its changes share a clock."""
        self.clock += skip
        for cent, lots in changes:
            self.bids[cent] = self.bids.get(cent, 0) + lots
            if not self.bids[cent]:
                del self.bids[cent]
            self.changes.append((cent, lots, self.clock))
            self.known.setdefault(self.clock, []).append(dict(self.bids))


class Connection:
    """One session over the merge; it hears the changes at its own pace."""

    def __init__(self, pair: Pair, number: int) -> None:
        self.pair, self.heard, self.seq = pair, 0, 0
        self.got = Ledger()
        self.session = Session(
            Wanted({"orderbook_delta": ["A"]}),
            self.got,
            clock_ms=lambda: pair.now,
            keeper=pair.merge.leg(number),
        )
        self.session.open()
        self._say("subscribed", {"channel": "orderbook_delta", "sid": SID}, id=1)
        self.session.outbox.clear()

    def snapshot(self) -> None:
        """The exchange's book as far as this connection has heard it: whole actions only."""
        changes = self.pair.exchange.changes
        while 0 < self.heard < len(changes) and changes[self.heard][2] == changes[self.heard - 1][2]:
            self.hear()
        clock = changes[self.heard - 1][2] if self.heard else 0
        book = self.pair.exchange.known[clock][-1]
        levels = [[f"{cent / 100:.4f}", f"{lots / 100:.2f}"] for cent, lots in book.items()]
        self.seq += 1
        body = {"market_ticker": "A", "market_id": "x", "clock": clock, "yes_dollars_fp": levels}
        self._say("orderbook_snapshot", body, sid=SID, seq=self.seq)
        self.session.outbox.clear()

    def hear(self, *, lost: bool = False) -> None:
        """The next change; or it gets lost on the way."""
        if self.heard >= len(self.pair.exchange.changes):
            return
        cent, lots, clock = self.pair.exchange.changes[self.heard]
        self.heard += 1
        self.seq += 1
        if not lost:
            self.say(cent, lots, clock)

    def say(self, cent: int, lots: int, clock: int, at_ms: int = 1_000) -> None:
        body = {"market_ticker": "A", "price_dollars": f"{cent / 100:.4f}", "delta_fp": f"{lots / 100:.2f}"}
        body |= {"side": "yes", "market_id": "x"}
        self._say("orderbook_delta", {**body, "clock": clock, "ts_ms": at_ms}, sid=SID, seq=self.seq)

    def next_say(self, cent: int, lots: int, clock: int, at_ms: int = 1_000) -> None:
        self.seq += 1
        self.say(cent, lots, clock, at_ms)

    @property
    def asks(self) -> bool:
        """Whether it has asked for a snapshot."""
        return any(b"get_snapshot" in command for command in self.session.outbox)

    def _say(self, kind: str, msg: object, **envelope: Any) -> None:
        self.session.receive(json.dumps({"type": kind, "msg": msg, **envelope}))


class Pair:
    def __init__(self) -> None:
        self.now = 1_000_000
        self.exchange = Exchange()
        self.book = Book("A")
        self.merge = Merge(Shelf({"A": self.book}), 2, ask=self._ask, clock_ms=lambda: self.now)
        self.legs = [Connection(self, 0), Connection(self, 1)]

    def _ask(self, number: int, ticker: str) -> None:
        self.legs[number].session.distrust(ticker)

    def check(self) -> None:
        """What is shown was true at the clock that it carries."""
        assert self.book.is_current == ("A" in self.merge.trusted)
        if self.book.is_current:
            shown = {tick // 100: lots for tick, lots in self.book.raw_levels(BookSide.BID)}
            assert shown in self.exchange.known[self.book.clock]

    @property
    def bids(self) -> dict[int, int]:
        return {tick // 100: lots for tick, lots in self.book.raw_levels(BookSide.BID)}


def pair() -> Pair:
    made = Pair()
    for leg in made.legs:
        leg.snapshot()
    return made


def test_the_first_saying_of_a_change_counts_and_the_second_does_not() -> None:
    both = pair()
    both.exchange.act([(40, 100), (41, 50)])
    both.legs[1].hear()
    both.legs[1].hear()
    assert both.bids == {40: 100, 41: 50}
    both.legs[0].hear()
    both.legs[0].hear()
    assert both.bids == {40: 100, 41: 50}
    both.exchange.act([(40, -100)], skip=5)
    both.legs[0].hear()
    assert both.bids == {41: 50}


def test_two_changes_of_one_action_may_come_over_different_connections() -> None:
    both = pair()
    both.exchange.act([(40, 100), (40, 100)])
    both.legs[0].hear()
    both.legs[1].hear()
    assert both.bids == {40: 100}
    both.legs[1].hear()
    assert both.bids == {40: 200}
    both.legs[0].hear()
    assert both.bids == {40: 200}


def test_while_one_connection_gaps_the_other_carries_the_book() -> None:
    both = pair()
    for _ in range(3):
        both.exchange.act([(40, 100)])
    first, second = both.legs
    first.hear()
    first.hear(lost=True)
    first.hear()
    assert both.book.is_current
    assert first.asks
    for _ in range(3):
        second.hear()
        both.check()
    assert both.bids == {40: 300}
    assert not both.merge.lost


def test_when_both_are_in_doubt_the_book_is_untrusted_until_a_snapshot_of_either() -> None:
    both = pair()
    for _ in range(3):
        both.exchange.act([(40, 100)])
    for leg in both.legs:
        leg.hear()
        leg.hear(lost=True)
        leg.hear()
    assert not both.book.is_current
    assert set(both.merge.lost) == {"A"}
    both.legs[1].snapshot()
    assert both.bids == {40: 300}
    assert not both.merge.lost


def test_a_snapshot_that_is_behind_does_not_turn_the_book_back() -> None:
    both = pair()
    both.exchange.act([(40, 100)])
    both.legs[0].hear()
    both.legs[1].snapshot()
    assert both.bids == {40: 100}
    both.legs[1].hear()
    both.exchange.act([(40, 1)])
    both.legs[1].hear()
    assert both.bids == {40: 101}


def test_a_connection_that_leaps_over_a_change_is_contradicted_and_neither_is_believed() -> None:
    both = pair()
    both.exchange.act([(40, 100)])
    both.legs[0].hear()
    both.legs[1].next_say(41, 7, clock=9)
    assert not both.book.is_current
    assert all(leg.asks for leg in both.legs)


def test_a_clock_that_goes_back_begins_a_new_age_on_that_connection_alone() -> None:
    both = pair()
    both.exchange.act([(40, 100)], skip=500)
    for leg in both.legs:
        leg.hear()
    first, second = both.legs
    first.next_say(41, 7, clock=3)
    assert not both.book.is_current
    assert first.asks
    second.next_say(41, 9, clock=501)
    assert not both.book.is_current
    both.exchange.clock, both.exchange.known = 3, {3: [{41: 7}], 500: [{}]}
    both.exchange.changes.append((41, 7, 3))
    first.heard = len(both.exchange.changes)
    first.snapshot()
    assert both.bids == {41: 7}
    first.next_say(41, 1, clock=4)
    assert both.bids == {41: 8}
    both.now += NEW_AGE_MS
    second.next_say(41, 1, clock=4)
    assert second.asks
    assert both.bids == {41: 8}


def test_a_clock_that_is_lower_and_yet_later_in_time_is_of_a_new_age() -> None:
    """One connection came back after the clock went back, and the other never said so."""
    both = pair()
    both.exchange.act([(40, 100)], skip=500)
    for leg in both.legs:
        leg.hear()
    second = both.legs[1]
    second.session.distrust("A")
    body = {"market_ticker": "A", "market_id": "x", "clock": 2, "yes_dollars_fp": [["0.3000", "1.00"]]}
    second.seq += 1
    second._say("orderbook_snapshot", body, sid=SID, seq=second.seq)
    assert both.bids == {40: 100}
    second.next_say(30, 5, clock=3, at_ms=60_000)
    assert not both.book.is_current
    assert second.asks


def test_a_connection_of_another_age_does_not_carry_the_book_when_the_other_is_lost() -> None:
    both = pair()
    both.exchange.act([(40, 100)], skip=500)
    for leg in both.legs:
        leg.hear()
    first, second = both.legs
    second.session.distrust("A")
    body = {"market_ticker": "A", "market_id": "x", "clock": 2, "yes_dollars_fp": [["0.3000", "1.00"]]}
    second.seq += 1
    second._say("orderbook_snapshot", body, sid=SID, seq=second.seq)
    second.session.outbox.clear()
    both.now += 1_000
    first.session.close()
    assert not both.book.is_current
    assert second.asks


def play(seed: int) -> None:
    """Losses on both connections by chance; what is shown is checked after every step."""
    chance, both = random.Random(seed), pair()
    for _ in range(150):
        leg = chance.choice(both.legs)
        what = chance.random()
        if what < 0.35:
            cents = chance.sample(range(30, 36), chance.randint(1, 3))
            both.exchange.act([(cent, chance.randint(1, 9)) for cent in cents], skip=chance.randint(1, 3))
        elif what < 0.9:
            leg.hear(lost=chance.random() < 0.06)
        elif leg.asks or not leg.session.trusted:
            leg.snapshot()
        both.now += 100
        both.check()
    for leg in both.legs:
        while leg.heard < len(both.exchange.changes):
            leg.hear()
        leg.snapshot()
        both.check()
    assert both.book.is_current
    assert both.bids == both.exchange.bids


@given(seed=st.integers(0, 10**9))
def test_whatever_is_lost_on_either_connection_no_wrong_book_is_ever_shown(seed: int) -> None:
    play(seed)


def test_the_simulation_catches_a_merge_that_ignores_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_lost", lambda *_: None)
    monkeypatch.setattr(Merge, "_contradicted", lambda *_: None)

    def play_many() -> None:
        for seed in range(50):
            play(seed)

    with pytest.raises(AssertionError):
        play_many()
