"""A day of orders while everything may go wrong at any time: answers, lists, events, cancels, and execution itself.

One run is a batch of proposals, each in a market of its own, each with a fate: it rests, fills at once or in part,
fills late, or is canceled. What goes wrong is drawn from the seed for every single request and frame.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from portfolio import risk
from tests.reliability import desk, rest
from tests.reliability.crash_points import lay
from tests.reliability.desk import Prepare, Seat
from tests.reliability.venue import ASK
from trading.execution.checkpoints import CRASH_POINTS
from trading.execution.process import Execution
from trading.models import Order

BATCH: Final = 25  # proposals
USUALLY: Final = 0.8  # of them become orders
RESTS_WITHIN: Final = 90.0
DAY_WITHIN: Final = 90.0
_FATES: Final = ("rests", "fills", "fills in part", "fills late", "is canceled")
_PRICES: Final = {"rests": "0.02", "is canceled": "0.03", "fills late": "0.49"}
_WHOLE, _PART = 1_000_000, 400  # lots at the touch


def _often(probability: float, endpoint: str, *kinds: str, **how: Any) -> list[dict[str, Any]]:
    return [
        {"endpoint": endpoint, "kind": kind, "probability": probability, "times": None, **how}
        for kind in kinds
    ]


# Six in ten creates go wrong in one of seventeen ways; of everything else about one in ten.
FAULTS: Final = [
    *_often(0.035, "create", "drop_before", "drop_after", "error_before", "error_after", "rate_limited"),
    *_often(0.035, "create", "no_id", "wrong_echo", "wrong_count", "truncated_body", "broken_off"),
    *_often(0.035, "create", "empty_body", "garbage_body"),
    *_often(0.035, "create", "late_drop", "late_error", "delay_before", "delay_after", seconds=0.3),
    *_often(0.035, "create", "error_after", status=409),
    *_often(0.1, "cancel", "drop_before", "drop_after", "error_before", "error_after"),
    *_often(0.1, "amend", "drop_before", "drop_after", "error_after"),
    *_often(0.03, "read", "drop_before", "error_before", "truncated_body", "page_short", "page_repeats"),
    *_often(0.1, "stream", "drop_frame", "duplicate_frame", "swap_frames"),
    *_often(0.02, "stream", "cut_connection"),
]


@dataclass
class Day:
    """What became of a batch. `posts`: order requests that the exchange counted; `met`: faults that happened.

    `orders`: how many came of its proposals. The others were denied while trading was paused, or voided at the claim.
    """

    seed: int
    faults: list[str]
    orders: int
    posts: int
    met: Counter[str]
    states: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def until(orders: int, run_all: Callable[[Sequence[int]], list[Any]]) -> list[Any]:
    """Days, until that many of their proposals have become orders. `run_all` has one day for each of the seeds.

    It ends sooner after a day that broke or had a fault, and at three times the days that would do if all proposals
    became orders: a desk that makes none would go on for ever.
    """
    days: list[Any] = []
    most = 3 * math.ceil(orders / BATCH)
    while len(days) < most and all(isinstance(day, Day) and not day.faults for day in days):
        missing = orders - sum(day.orders for day in days)
        if missing <= 0:
            break
        days += run_all(range(len(days), min(most, len(days) + math.ceil(missing / (BATCH * USUALLY)))))
    return days


def run(seed: int, seat: Seat, prepare: Prepare = lambda _: None, within: float = RESTS_WITHIN) -> Day:
    """Approve a batch little by little, kill execution once, let the faults end, and judge."""
    began, chance = time.monotonic(), Random(seed)
    desk.take(seat)
    fates = {ticker: chance.choice(_FATES) for ticker in seat.stage.tickers}
    canceled = [ticker for ticker, fate in fates.items() if fate == "is canceled"]
    seat.venue.plan(FAULTS, seed)
    point, nth = chance.choice(CRASH_POINTS), chance.randint(3, 10)

    def mortal(execution: Execution) -> None:
        prepare(execution)
        lay(point, nth)

    _trade(seat, fates, canceled, chance, (mortal, prepare))
    met = seat.venue.met()
    seat.venue.forget()
    with desk.executing(seat.tempo, prepare):
        faults = rest.faults_after(seat, canceled, within)
    posts = seat.venue.truth(seat.stage).posts
    orders = Order.objects.filter(proposal__isnull=False).count()
    return Day(seed, faults, orders, sum(posts.values()), met, rest.states(), time.monotonic() - began)


def _trade(
    seat: Seat,
    fates: dict[str, str],
    canceled: Collection[str],
    chance: Random,
    lives: tuple[Prepare, Prepare],
) -> None:
    """The bad part of the day, until nothing waits any more or time is over. `lives`: the first, then the others."""
    coming, running = list(fates.items()), desk.ExecutionProcess(seat.tempo, lives[0])
    deadline = time.monotonic() + DAY_WITHIN
    try:
        while (coming or not rest.is_reached(canceled)) and time.monotonic() < deadline:
            rest.let_trade()
            for ticker, fate in coming[:3]:
                _propose(seat, ticker, fate)
            del coming[:3]
            rest.call_off(canceled)
            _fill_late(seat, fates)
            if not running.is_alive:
                running = desk.ExecutionProcess(seat.tempo, lives[1])
            time.sleep(chance.uniform(0.02, 0.2))
    finally:
        running.kill()


def _propose(seat: Seat, ticker: str, fate: str) -> None:
    if fate == "fills in part":
        seat.venue.offer(ticker, (ASK, _PART))
    with contextlib.suppress(risk.Denied):  # paused again in this very moment: nothing was approved
        desk.approve(desk.propose(ticker, _PRICES.get(fate, "0.50")))


def _fill_late(seat: Seat, fates: dict[str, str]) -> None:
    """Somebody sells into what rests."""
    standing = Order.objects.filter(state="resting").values_list("ticker", flat=True)
    for ticker in standing:
        if fates.get(ticker) == "fills late":
            seat.venue.offer(ticker, (4900, _WHOLE))
            fates[ticker] = "filled late"
