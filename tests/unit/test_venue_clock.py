"""What we sign with is the exchange's time: learned from answers, steady under a wall clock that is set or lies."""

from __future__ import annotations

import logging
import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from trading.exchange.errors import ClockOff
from trading.exchange.venue_clock import VenueClock

TRUE_START_MS = 1_790_000_000_000


class World:
    """A machine whose wall clock is `ahead_ms` off, and an exchange some milliseconds away."""

    def __init__(self, ahead_ms: float = 0.0, *, seed: int = 7) -> None:
        self.monotonic = 5_000.0
        self.ahead_ms = ahead_ms
        self.random = random.Random(seed)
        self.clock = VenueClock(wall_ms=self.wall_ms, monotonic=lambda: self.monotonic)

    @property
    def true_ms(self) -> float:
        return TRUE_START_MS + (self.monotonic - 5_000.0) * 1_000

    def wall_ms(self) -> int:
        return int(self.true_ms + self.ahead_ms)

    def ask(self, *, lie_ms: float = 0.0, way: float | None = None, age: str | None = None) -> None:
        """One request: the exchange writes its Date somewhere between our sending and our receiving."""
        sent = self.monotonic
        self.monotonic += self.random.uniform(0.01, 0.2) if way is None else way
        date = http_date(self.true_ms + lie_ms)
        self.monotonic += self.random.uniform(0.01, 0.2) if way is None else way
        self.clock.heard_date(date, sent=sent, received=self.monotonic, age=age)

    def stamped(self, *, lie_ms: float = 0.0) -> None:
        """A write whose answer carries milliseconds."""
        sent = self.monotonic
        self.monotonic += 0.05
        stamp = round(self.true_ms + lie_ms)
        self.monotonic += 0.05
        self.clock.heard_ms(stamp, sent=sent, received=self.monotonic)

    @property
    def error_ms(self) -> float:
        return abs(self.clock.now_ms() - self.true_ms)


def http_date(at_ms: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(at_ms / 1_000), UTC), usegmt=True)


def test_before_the_first_answer_it_is_the_machines_clock() -> None:
    world = World(ahead_ms=40_000)
    assert world.clock.now_ms() == world.wall_ms()
    assert world.clock.skew_ms == 0
    world.clock.require_steady()


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -61_000, -700, 0, 700, 61_000, 3_600_000])
def test_one_answer_brings_it_within_a_second_and_many_within_the_way(ahead_ms: float) -> None:
    world = World(ahead_ms)
    world.ask()
    assert world.error_ms <= 1_000
    for _ in range(40):
        world.monotonic += 0.37
        world.ask()
    assert world.error_ms <= 200


def test_a_stamp_in_milliseconds_makes_it_precise() -> None:
    world = World(ahead_ms=5_000)
    world.ask()
    world.stamped()
    assert world.error_ms <= 100


def test_a_stamp_refines_and_never_outweighs_what_dates_have_told() -> None:
    world = World()
    world.stamped(lie_ms=3_600_000)  # nothing was heard yet: it teaches nothing
    assert world.error_ms < 1
    world.ask()
    for _ in range(20):
        world.stamped(lie_ms=3_600_000)
    assert world.error_ms <= 1_000


def test_a_wall_clock_that_is_set_changes_no_signature() -> None:
    world = World()
    for _ in range(5):
        world.ask()
    before = world.error_ms
    world.ahead_ms = 3_600_000
    assert world.error_ms == pytest.approx(before, abs=2)
    assert world.clock.skew_ms > 3_000


def test_one_server_with_a_wrong_clock_does_not_win() -> None:
    world = World()
    for _ in range(5):
        world.ask()
    world.ask(lie_ms=3_600_000)
    assert world.error_ms <= 1_000
    world.clock.require_steady()


def test_a_machine_that_slept_believes_the_next_answer_alone() -> None:
    world = World()
    for _ in range(16):
        world.ask()
    # Asleep for a minute: the monotonic clock stood still, the wall clock and the exchange went on.
    asleep = 60_000

    class Later(World):
        @property
        def true_ms(self) -> float:
            return TRUE_START_MS + (self.monotonic - 5_000.0) * 1_000 + asleep

    world.__class__ = Later
    world.ask()
    assert world.error_ms <= 1_000


def test_an_answer_from_a_cache_and_a_date_that_is_none_teach_nothing() -> None:
    world = World(ahead_ms=30_000)
    world.ask(age="12")
    for date in ("", "yesterday", None):
        world.clock.heard_date(date, sent=1.0, received=2.0)
    assert world.clock.now_ms() == world.wall_ms()
    world.ask(age="0")
    assert world.error_ms <= 1_000


def test_after_a_refused_time_only_the_newest_answer_counts() -> None:
    world = World()
    for _ in range(10):
        world.ask(lie_ms=-120_000)
    world.ask()
    assert world.error_ms > 60_000  # the vote still goes to the old ones
    world.clock.trust_newest()
    assert world.error_ms <= 1_000


@pytest.mark.parametrize(
    ("ahead_ms", "alarmed", "refused"),
    [
        (0, False, False),
        (900, False, False),
        (2_100, True, False),
        (-2_100, True, False),
        (4_100, True, True),
        (-4_100, True, True),
    ],
)
def test_beyond_one_second_it_alarms_and_beyond_three_it_signs_no_order(
    ahead_ms: float, alarmed: bool, refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(ahead_ms)
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            world.monotonic += 0.13
            world.ask()
    told = [record for record in caplog.records if record.message == "exchange.clock.off"]
    assert bool(told) == alarmed
    assert len(told) <= 2  # once per state, not once per answer
    if refused:
        with pytest.raises(ClockOff, match="off the exchange's") as error:
            world.clock.require_steady()
        assert error.value.code == "E611"
    else:
        world.clock.require_steady()


def test_a_clock_that_is_right_again_says_so(caplog: pytest.LogCaptureFixture) -> None:
    world = World(ahead_ms=5_000)
    with caplog.at_level(logging.INFO):
        world.ask()
        world.ahead_ms = 0
        world.ask()
    assert [record.message for record in caplog.records] == ["exchange.clock.off", "exchange.clock.right"]
    world.clock.require_steady()
