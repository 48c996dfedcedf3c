"""A client that missed anything becomes equal to the server again; the naive client does not."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from kalshi_site.live.catchup import Change, Delta, Snapshot, catch_up, digest_of
from kalshi_site.live.replica import HEARTBEAT, NOTHING, PATIENCE, Ask, Replica
from tests.state_chaos import TOPIC, Line, MemoryLog, World

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("STATE_RUNS", "60"))


@dataclass(slots=True)
class Naive(Replica):
    """Takes every change that is newer than what it has, as a client without numbers would."""

    def hear(self, change: Change, epoch: str, now: float, digest: str = "") -> Ask | None:
        self.epoch = epoch
        if change.number > self.version:
            self.version = change.number
            self.state[change.key] = change
        return None

    def beat(self, epoch: str, version: int, now: float) -> Ask | None:
        self.heartbeat_at, self.heartbeat_of = now, (epoch, version)
        return None

    def check(self, now: float) -> Ask | None:
        return None


def filled(changes: int) -> MemoryLog:
    log = MemoryLog()
    for n in range(changes):
        log.write(f"ord_{n % 5}")
    return log


def standing(log: MemoryLog, at: int | None = None) -> Replica:
    """A replica that has everything up to a number."""
    replica = Replica(TOPIC)
    replica.take(catch_up(log, TOPIC, since=NOTHING, epoch=""), 0.0)
    if at is not None:
        replica.version = at
    return replica


def test_a_client_is_told_what_it_lacks() -> None:
    log = filled(10)
    answer = catch_up(log, TOPIC, since=7, epoch=log.epoch)
    assert isinstance(answer, Delta)
    assert [each.number for each in answer.changes] == [8, 9, 10]


@pytest.mark.parametrize(
    ("since", "epoch"),
    [(7, "another"), (11, "e0"), (2, "e0"), (NOTHING, "e0")],
    ids=["epoch", "ahead", "cut", "new"],
)
def test_where_changes_cannot_tell_the_whole_state_is_given(since: int, epoch: str) -> None:
    log = filled(10)
    log.kept_after = 3
    answer = catch_up(log, TOPIC, since=since, epoch=epoch)
    assert isinstance(answer, Snapshot)
    assert (answer.epoch, answer.version, len(answer.changes)) == ("e0", 10, 5)
    assert answer.digest == digest_of(answer.changes)


def test_whoever_missed_too_much_takes_the_snapshot() -> None:
    log = filled(2_101)
    assert isinstance(catch_up(log, TOPIC, since=101, epoch="e0"), Delta)
    assert isinstance(catch_up(log, TOPIC, since=100, epoch="e0"), Snapshot)


def test_both_sides_forget_the_same_keys() -> None:
    log = MemoryLog()
    log.write("ord_old")
    replica = standing(log)
    for _ in range(10_000):
        replica.hear(log.write("ord_busy"), "e0", 0.0)
    snapshot = catch_up(log, TOPIC, since=NOTHING, epoch="")
    assert {each.key for each in snapshot.changes} == set(replica.state) == {"ord_busy"}
    assert replica.digest == snapshot.digest


def test_a_change_that_follows_is_applied_an_old_one_dropped_a_later_one_kept() -> None:
    log = filled(3)
    replica = standing(log)
    fourth, fifth = log.write("ord_0"), log.write("ord_1")
    assert replica.hear(fifth, "e0", 1.0) == Ask(3, "e0")
    assert replica.hear(fourth, "e0", 1.0) is None
    assert (replica.version, replica.state["ord_1"]) == (5, fifth)
    assert replica.hear(fourth, "e0", 1.0) is None
    assert replica.state["ord_0"] == fourth


def test_a_gap_that_lasts_is_healed_by_the_snapshot() -> None:
    log = filled(3)
    replica = standing(log)
    log.write("ord_0")
    later = log.write("ord_1")
    assert replica.hear(later, "e0", 1.0) == Ask(3, "e0")
    assert replica.check(1.0 + PATIENCE) == Ask(3, "e0")
    assert replica.check(1.1 + PATIENCE) == Ask(NOTHING, "")


def test_silence_with_a_gap_is_noticed_at_the_next_heartbeat() -> None:
    replica = standing(filled(3))
    assert replica.beat("e0", 3, 15.0) is None
    assert replica.is_live(15.0)
    assert replica.beat("e0", 4, 30.0) == Ask(3, "e0")
    assert not replica.is_live(30.0)


def test_without_heartbeats_nothing_is_shown_as_live() -> None:
    replica = standing(filled(3))
    assert not replica.is_live(0.0)
    replica.beat("e0", 3, 0.0)
    assert replica.is_live(2 * HEARTBEAT)
    assert not replica.is_live(2 * HEARTBEAT + 0.1)


def test_another_epoch_is_another_world() -> None:
    replica = standing(filled(900))
    restored = MemoryLog("e1", filled(850).changes)
    change = restored.write("ord_0")
    assert replica.hear(change, "e1", 1.0) == Ask(NOTHING, "")
    replica.take(catch_up(restored, TOPIC, since=NOTHING, epoch=""), 1.0)
    assert (replica.epoch, replica.version) == ("e1", 851)


def test_what_waits_of_an_old_epoch_is_not_applied_in_the_new_one() -> None:
    log = filled(9)
    replica = standing(log)
    log.write("ord_0")
    replica.hear(log.write("ord_1"), "e0", 1.0)
    restored = MemoryLog("e1", filled(10).changes)
    replica.take(catch_up(restored, TOPIC, since=NOTHING, epoch=""), 1.0)
    assert (replica.epoch, replica.version) == ("e1", 10)


def test_silent_divergence_is_found_by_the_digest() -> None:
    log = filled(99)
    replica = standing(log)
    replica.state["ord_3"] = Change(98, "ord_3", 1)
    change = log.write("ord_0")
    right = digest_of(catch_up(log, TOPIC, since=NOTHING, epoch="").changes)
    assert replica.hear(change, "e0", 1.0, right) == Ask(NOTHING, "")


@pytest.mark.parametrize("seed", range(RUNS))
def test_after_any_weather_client_and_server_are_equal(seed: int) -> None:
    world = World(seed, Replica(TOPIC))
    world.run(seconds=60.0)
    assert world.is_equal
    assert world.false_live == 0


def test_the_naive_client_stays_wrong() -> None:
    wrong = 0
    for seed in range(10):
        world = World(seed, Naive(TOPIC))
        world.run(seconds=60.0)
        wrong += not world.is_equal
    assert wrong == 10


@pytest.mark.parametrize("seed", range(20))
def test_a_single_lost_change_is_noticed_within_a_heartbeat_and_healed_within_two_seconds(seed: int) -> None:
    world = World(seed, Replica(TOPIC), Line(0, 0, 0))
    world._every(1.0, world._check)
    world._every(HEARTBEAT, world._beat)
    world._at(0.1, world._beat)
    world._until(20.0)
    world.connected = False
    world.write()
    world.connected = True
    asked: list[float] = []
    answer = world._answer
    world._answer = lambda ask: (asked.append(world.now), answer(ask))[1]  # type: ignore[method-assign]
    world._until(20.0 + HEARTBEAT + 2.0)
    assert asked
    assert asked[0] - 20.0 <= HEARTBEAT
    assert world.is_equal
