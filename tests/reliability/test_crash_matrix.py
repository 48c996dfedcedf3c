"""kill -9 at every named point while the exchange does its worst: no order lost, doubled, untracked or unresolved.

Point x behaviour x seed: runs are spread evenly over all cells of the matrix. The full size is the 3,600 runs of 12
points x 12 behaviours x 25 seeds; over the 18 x 23 cells that there are now it goes eight or nine times.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import partial
from itertools import product
from typing import Any

import pytest

from tests.reliability import crashes, desk
from tests.reliability.behaviours import BEHAVIOURS
from tests.reliability.books import Books
from tests.reliability.conftest import Figure
from tests.reliability.crash_points import POINTS
from tests.reliability.crashes import Crash, Outcome
from tests.reliability.desk import Seat
from tests.reliability.sizes import SIZES, size
from tests.reliability.tempo import Tempo
from tests.reliability.venue import Venue
from trading.domain.orders import OrderState
from trading.execution.process import Execution
from trading.models import Order

TEMPO = Tempo(15, fence_divisor=5)
RUN_WITHIN = 90.0
GIVEN_UP_AFTER = 6.0  # a naive desk's books do not come right, however long it is given
MEETS_ALL = SIZES["crash_runs"].small  # so many runs kill at every point; in fewer one may not be passed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def matrix(runs: int) -> list[Crash]:
    """The first `runs` cells on a walk that meets every point and every behaviour as early as it can."""
    points, behaviours = list(POINTS), list(BEHAVIOURS)
    cells = len(points) * len(behaviours)
    walk = sorted(
        product(range(len(points)), range(len(behaviours))),
        key=lambda c: ((c[1] - c[0]) % len(behaviours), c),
    )
    picked = [walk[number * 7919 % cells] for number in range(cells)]
    return [
        Crash(points[p], behaviours[b], number // cells)
        for number in range(runs)
        for p, b in [picked[number % cells]]
    ]


def one_run(books: Books, crash: Crash, venue: Venue, slot: int, **how: Any) -> Outcome:
    with books.copied() as database:
        return crashes.run(crash, Seat(venue, venue.stage(), database, 2 + slot, TEMPO), **how)


def test_the_walk_meets_every_point_and_every_behaviour() -> None:
    walked = matrix(MEETS_ALL)
    assert {crash.point for crash in walked} == set(POINTS)
    assert {crash.behaviour for crash in walked} == set(BEHAVIOURS)
    assert len(set(walked)) == len(walked)
    assert min(len(POINTS), len(BEHAVIOURS)) >= 12


def test_no_order_is_lost_doubled_untracked_or_unresolved(
    books: Books, exchanges: list[Venue], figure: Figure
) -> None:
    began, cells = time.monotonic(), matrix(size("crash_runs"))
    outcomes = desk.in_parallel(cells, exchanges, partial(one_run, books), within=RUN_WITHIN)
    took = time.monotonic() - began
    broke = [str(each) for each in outcomes if not isinstance(each, Outcome)]
    done = [each for each in outcomes if isinstance(each, Outcome)]
    faulty = {str(each.crash): each.faults for each in done if each.faults}
    died = Counter(name for each in done for name in each.deaths)
    states = sum((each.states for each in done), Counter[str]())
    figure(
        f"{len(done)} runs in {took:.0f} s, {died.total()} kills at {len(died)} points, at each at least"
        f" {min(died.values(), default=0)} times, under"
        f" {len({each.crash.behaviour for each in done})} behaviours, {len(faulty)} with a fault;"
        f" orders came to rest as {dict(states)}"
    )
    assert not broke, "\n".join(broke)
    assert not faulty, json.dumps(faulty, indent=1)
    if len(cells) >= MEETS_ALL:
        assert set(died) == set(POINTS)


def resend(execution: Execution) -> None:
    """The naive way back: what was under way is sent again, with a new id, for nobody said that it had arrived."""
    for order in Order.objects.filter(state__in=(OrderState.SENDING, OrderState.UNKNOWN)):
        body = json.loads(order.body) | {"client_order_id": f"again-{order.public_id}"}
        execution.router.orders.send_create(json.dumps(body).encode(), int(time.time() * 1000))


def test_the_same_judgement_finds_the_double_of_a_desk_that_tries_again(
    books: Books, exchanges: list[Venue], figure: Figure
) -> None:
    accepting = ("normal", "silence after it accepts", "500 after it accepts", "success with another's id")
    cells = [Crash("answered", each, seed) for each in accepting for seed in range(3)]
    run = partial(one_run, books, recover=resend, within=GIVEN_UP_AFTER)
    outcomes = desk.in_parallel(cells, exchanges, run, within=RUN_WITHIN)
    assert not [str(each) for each in outcomes if not isinstance(each, Outcome)]
    doubled = [each for each in outcomes if any("doubled" in fault for fault in each.faults)]
    figure(f"{len(doubled)} of {len(outcomes)} naive runs doubled an order")
    # On a machine too busy to send in time some runs have sent nothing that could be doubled.
    assert len(doubled) >= len(accepting)
