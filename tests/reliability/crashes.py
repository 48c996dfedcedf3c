"""One run of the crash matrix: three orders, an exchange that misbehaves, a kill -9 at a point, a restart, a judgement.

The three orders are one that rests, one that fills (wholly or in part) and one that rests and is canceled. A fourth
is none of ours: somebody placed it by hand. The seed
says in which order, which of them meets the exchange's behaviour, and at which passing of the point the process dies.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.reliability import desk, rest
from tests.reliability.behaviours import BEHAVIOURS
from tests.reliability.crash_points import RECOVERING, REQUEST_OUT, lay
from tests.reliability.desk import Prepare, Seat
from tests.reliability.venue import ASK

DIES_WITHIN: Final = 15.0
QUIET_FOR: Final = 0.7  # seconds at rest: a point that was not passed until then is not on this run's way
RESTS_WITHIN: Final = 30.0
_PARTS = (400, 1_000_000)  # lots at the touch: some of the order, or all of it
_UNDER_WAY = ("claimed", REQUEST_OUT, "answered")  # where a death leaves something to recover


@dataclass(frozen=True, slots=True)
class Crash:
    """One cell of the matrix with its seed."""

    point: str
    behaviour: str
    seed: int


@dataclass
class Outcome:
    """`deaths`: the points at which a process died. `states`: of the orders, when all had come to rest."""

    crash: Crash
    deaths: list[str]
    faults: list[str]
    states: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def run(crash: Crash, seat: Seat, recover: Prepare = lambda _: None, within: float = RESTS_WITHIN) -> Outcome:
    """Crash, recover, judge. `recover` changes how the execution starts again: the negative control's way in."""
    began, chance = time.monotonic(), Random(str(crash))
    desk.take(seat)
    canceled = _orders(seat, chance)
    _misbehave(seat, crash, chance)
    first = _first_death(crash.point, chance)
    deaths = _die(seat, first, chance.randint(1, 2), canceled)
    if first != crash.point:
        deaths += _die(seat, crash.point, 1, canceled)
    with desk.executing(seat.tempo, recover):
        faults = rest.faults_after(seat, [canceled], within)
    return Outcome(crash, deaths, faults, rest.states(), time.monotonic() - began)


def _orders(seat: Seat, chance: Random) -> str:
    """Approve the three; returns the market of the one that shall be canceled."""
    rests, fills, canceled, by_hand = seat.stage.tickers
    seat.venue.order_by_hand(seat.stage, by_hand)
    seat.venue.offer(fills, (ASK, chance.choice(_PARTS)))
    prices = [(rests, "0.02"), (fills, "0.50"), (canceled, "0.03")]
    chance.shuffle(prices)
    desk.approve(*[desk.propose(ticker, price) for ticker, price in prices])
    return canceled


def _first_death(point: str, chance: Random) -> str:
    """The point itself, or, of a point of recovery, one that leaves it something to do."""
    if point == "judging_absent":
        return "claimed"
    return chance.choice(_UNDER_WAY) if point in RECOVERING else point


def _misbehave(seat: Seat, crash: Crash, chance: Random) -> None:
    skip = chance.randrange(3)
    rows = [
        {**row, "skip": skip} if row.get("endpoint") == "create" else row
        for row in BEHAVIOURS[crash.behaviour]
    ]
    seat.venue.plan(rows, crash.seed)


def _die(seat: Seat, point: str, nth: int, canceled: str) -> list[str]:
    """Execute until the point kills the process; one that does not pass it is killed all the same, anywhere."""
    quiet_since = time.monotonic()

    def is_over() -> bool:
        nonlocal quiet_since
        rest.let_trade()
        rest.call_off([canceled])
        if not rest.is_reached([canceled]):
            quiet_since = time.monotonic()
        return not running.is_alive or time.monotonic() - quiet_since > QUIET_FOR

    with desk.executing(seat.tempo, lambda _: lay(point, nth)) as running:
        desk.wait_for(is_over, DIES_WITHIN, every=0.1)
        if running.is_alive:
            return []
        assert running.process.exitcode == -signal.SIGKILL, "it ended by itself, and not at the point"
        return [point]
