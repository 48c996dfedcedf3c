"""Order groups: the rolling limit, what triggers, what a triggered group refuses, and what a restart remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paper_floor import ASK, BID, TICKER, Floor, refusal
from trading.domain.orders import TimeInForce
from trading.paper import group_entry
from trading.paper.events import GroupChanged
from trading.paper.groups import Group


class Grouped(Floor):
    """A floor where alice has groups."""

    def group(self, limit: int) -> str:
        return group_entry.create_group(self.exchange, "alice", limit, 0, 0).group_id

    def found(self, group_id: str) -> Group:
        return group_entry.find_group(self.exchange, "alice", group_id, 0, 0)

    def matched(self, group_id: str) -> int:
        return self.found(group_id).matched(self.exchange.now_ms())

    def is_triggered(self, group_id: str) -> bool:
        return self.found(group_id).record.is_triggered

    def reopen(self) -> Grouped:
        again = super().reopen()
        return Grouped(again.path, again.clock, again.fee_type, again.deposit, again.numbers)


@pytest.fixture
def floor(tmp_path: Path) -> Grouped:
    floor = Grouped(tmp_path / "journal.jsonl")
    floor.list_market()
    return floor


def test_a_group_that_matches_no_more_than_its_limit_goes_on(floor: Grouped) -> None:
    group = floor.group(500)
    order = floor.send("alice", BID, "0.40", "10", order_group_id=group)
    floor.send("bob", ASK, "0.40", "5")
    assert floor.matched(group) == 500
    assert not floor.is_triggered(group)
    assert floor.order("alice", order.order_id).is_open
    assert floor.order("alice", order.order_id).order_group_id == group


def test_a_group_that_matches_more_loses_its_orders_in_all_markets_and_takes_no_more(floor: Grouped) -> None:
    times = floor.exchange.listing(TICKER).definition
    floor.exchange.add_market({**times, "ticker": "TEST-1-B"})
    group = floor.group(500)
    hit = floor.send("alice", BID, "0.40", "10", order_group_id=group)
    beside = floor.send("alice", BID, "0.39", "1", order_group_id=group)
    outside = floor.send("alice", BID, "0.38", "1")
    floor.send("bob", ASK, "0.40", "5.01")
    assert floor.is_triggered(group)
    states = [floor.order("alice", order.order_id).status for order in (hit, beside, outside)]
    assert states == ["canceled", "canceled", "resting"]
    assert floor.order("alice", hit.order_id).filled_lots == 501, "a match is never split"
    again = refusal(lambda: floor.send("alice", BID, "0.10", "1", order_group_id=group))
    assert again[:2] == (400, "exceeded_order_group_risk_limit")
    assert floor.send("alice", BID, "0.10", "1").status == "resting"


def test_a_sweep_stops_at_the_group_that_it_triggers(floor: Grouped) -> None:
    """One large taker meets three quotes of a market maker whose group allows for one: the second triggers it, the
    third is gone before the taker reaches it."""
    group = floor.group(150)
    quotes = [
        floor.send("alice", BID, price, "1", order_group_id=group) for price in ("0.42", "0.41", "0.40")
    ]
    taker = floor.send("bob", ASK, "0.40", "3", tif=TimeInForce.IOC)
    assert taker.filled_lots == 200
    assert [floor.order("alice", quote.order_id).filled_lots for quote in quotes] == [100, 100, 0]


def test_a_fill_or_kill_is_filled_whole_before_the_group_ends(floor: Grouped) -> None:
    group = floor.group(150)
    for price in ("0.42", "0.41", "0.40"):
        floor.send("alice", BID, price, "1", order_group_id=group)
    assert floor.send("bob", ASK, "0.40", "3", tif=TimeInForce.FOK).filled_lots == 300
    assert floor.is_triggered(group)


def test_an_incoming_order_of_the_group_is_stopped_too(floor: Grouped) -> None:
    group = floor.group(150)
    for price in ("0.40", "0.41", "0.42"):
        floor.send("bob", ASK, price, "1")
    taken = floor.send("alice", BID, "0.42", "5", order_group_id=group)
    assert (taken.status, taken.filled_lots, taken.remaining_lots) == ("canceled", 200, 0)


def test_matches_leave_the_window_after_fifteen_seconds(floor: Grouped) -> None:
    group = floor.group(500)
    floor.send("alice", BID, "0.40", "20", order_group_id=group)
    floor.send("bob", ASK, "0.40", "5")
    floor.clock.pass_by(seconds=14.999)
    assert floor.matched(group) == 500
    floor.clock.pass_by(seconds=0.001)
    assert floor.matched(group) == 0
    floor.send("bob", ASK, "0.40", "5")
    assert not floor.is_triggered(group)


def test_a_reset_forgets_what_was_matched_and_lets_orders_in_again(floor: Grouped) -> None:
    group = floor.group(500)
    floor.send("alice", BID, "0.40", "20", order_group_id=group)
    floor.send("bob", ASK, "0.40", "6")
    floor.clock.pass_by(seconds=1)
    group_entry.reset_group(floor.exchange, floor.found(group))
    assert (floor.matched(group), floor.is_triggered(group)) == (0, False)
    floor.clock.pass_by(seconds=1)
    floor.send("alice", BID, "0.40", "20", order_group_id=group)
    floor.send("bob", ASK, "0.40", "5")
    assert not floor.is_triggered(group)


def test_a_trigger_by_hand_cancels_and_a_delete_cancels_and_forgets(floor: Grouped) -> None:
    for end in (group_entry.trigger_group, group_entry.delete_group):
        group = floor.group(500)
        order = floor.send("alice", BID, "0.40", "1", order_group_id=group)
        end(floor.exchange, floor.found(group))
        assert floor.order("alice", order.order_id).status == "canceled"
    assert refusal(lambda: floor.found(group))[:2] == (404, "not_found")
    unknown = refusal(lambda: floor.send("alice", BID, "0.10", "1", order_group_id=group))
    assert unknown[:2] == (400, "order_group_not_found")


@pytest.mark.parametrize(("limit", "triggers"), [(500, False), (499, True)])
def test_a_limit_below_what_was_matched_triggers_at_once(floor: Grouped, limit: int, triggers: bool) -> None:
    group = floor.group(1_000)
    floor.send("alice", BID, "0.40", "20", order_group_id=group)
    floor.send("bob", ASK, "0.40", "5")
    group_entry.limit_group(floor.exchange, floor.found(group), limit)
    assert floor.is_triggered(group) is triggers


def test_another_members_group_is_unknown(floor: Grouped) -> None:
    group = floor.group(500)
    other = refusal(lambda: floor.send("bob", BID, "0.10", "1", order_group_id=group))
    assert other[:2] == (400, "order_group_not_found")


def test_a_group_of_another_shard_is_unknown_there(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "two", shards=2).list_market()
    group = group_entry.create_group(floor.exchange, "alice", 500, 0, 1).group_id
    other = refusal(lambda: floor.send("alice", BID, "0.10", "1", order_group_id=group))
    assert other[:2] == (400, "order_group_not_found")


def test_a_restart_remembers_groups_their_window_and_that_they_are_triggered(floor: Grouped) -> None:
    half, full = floor.group(500), floor.group(500)
    order = floor.send("alice", BID, "0.40", "20", order_group_id=half)
    floor.send("bob", ASK, "0.40", "3")
    floor.send("alice", BID, "0.41", "20", order_group_id=full)
    floor.send("bob", ASK, "0.41", "6")
    again = floor.reopen()
    assert (again.matched(half), again.is_triggered(half), again.is_triggered(full)) == (300, False, True)
    assert list(again.found(half).open_orders) == [order.order_id]
    assert list(again.found(full).open_orders) == []
    again.send("bob", ASK, "0.40", "2.01")
    assert again.is_triggered(half)


def test_a_compacted_journal_tells_the_same_of_groups(floor: Grouped) -> None:
    group, gone = floor.group(500), floor.group(500)
    floor.send("alice", BID, "0.40", "20", order_group_id=group)
    floor.send("bob", ASK, "0.40", "3")
    floor.clock.pass_by(seconds=1)
    group_entry.reset_group(floor.exchange, floor.found(group))
    floor.clock.pass_by(seconds=1)
    floor.send("bob", ASK, "0.40", "2")
    group_entry.delete_group(floor.exchange, floor.found(gone))
    fresh = type(floor.exchange.ledger)()
    for record in floor.exchange.ledger.records():
        fresh.apply(record)
    (kept,) = fresh.groups.of("alice")
    assert kept.record == floor.found(group).record
    assert kept.matched(floor.exchange.now_ms()) == 200
    assert kept.open_orders == floor.found(group).open_orders


# Refusals


@pytest.mark.parametrize(
    ("subaccount", "shard", "limit", "expected"),
    [
        (3, 0, 500, (404, "not_found")),
        (0, 1, 500, (404, "not_found")),
        (0, 0, 0, (400, "bad_request")),
        (0, 0, 100_000_001, (400, "bad_request")),
    ],
)
def test_a_group_needs_a_place_and_a_sensible_limit(
    floor: Grouped, subaccount: int, shard: int, limit: int, expected: tuple[int, str]
) -> None:
    wanted = (floor.exchange, "alice", limit, subaccount, shard)
    assert refusal(lambda: group_entry.create_group(*wanted))[:2] == expected
    assert floor.exchange.ledger.groups.of("alice") == []


def test_no_more_groups_than_the_exchange_allows(floor: Grouped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_entry, "MOST_GROUPS", 1)
    group = floor.group(500)
    assert refusal(lambda: floor.group(500))[:2] == (400, "bad_request")
    group_entry.delete_group(floor.exchange, floor.found(group))
    assert floor.group(500)


def test_while_the_exchange_is_paused_no_group_is_ended(floor: Grouped) -> None:
    group = floor.found(floor.group(500))
    order = floor.send("alice", BID, "0.40", "1", order_group_id=group.record.group_id)
    floor.exchange.exchange_active = False
    for act in (
        lambda: group_entry.trigger_group(floor.exchange, group),
        lambda: group_entry.delete_group(floor.exchange, group),
        lambda: group_entry.limit_group(floor.exchange, group, 1),
    ):
        assert refusal(act)[:2] == (409, "trading_is_paused")
    assert floor.order("alice", order.order_id).is_open


def test_a_triggered_group_is_not_triggered_twice(floor: Grouped) -> None:
    group = floor.found(floor.group(500))
    told: list[str] = []
    floor.exchange.publish = lambda _, events: told.extend(
        event.kind for event in events if isinstance(event, GroupChanged)
    )
    for _ in range(2):
        group_entry.trigger_group(floor.exchange, group)
    group_entry.limit_group(floor.exchange, group, 100)
    assert told == ["triggered", "limit_updated"]
