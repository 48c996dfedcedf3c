"""SIGSTOP between the claim and the first byte: a sender that wakes after the verdict places no order.

The exchange's fence, the signed time, is what holds it. With that fence taken away the late order comes through: then
it must be adopted, alarmed and canceled, for nothing on our side could have kept it back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.reliability import desk, pauses
from tests.reliability.books import Books
from tests.reliability.conftest import AT_ONCE, Figure
from tests.reliability.desk import Seat
from tests.reliability.pauses import FENCE, Pause, Woken
from tests.reliability.sizes import is_full, size
from tests.reliability.tempo import FENCE_MS, Tempo
from tests.reliability.venue import Venue, venues

SHORT, REAL = Tempo(30), Tempo(1)
NO_FENCE_MS = 3_600_000
RUN_WITHIN = 180.0
GONE_WITHIN = 2.0  # seconds; a build's machine has other things to do
SLACK = 1.0 if is_full() else 10.0

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def fenced(books: Books) -> Iterator[list[Venue]]:
    with venues(AT_ONCE, oldest_ms=SHORT.fence_ms) as started:
        desk.warm(started[0])
        yield started


def one_pause(books: Books, tempo: Tempo, pause: Pause, venue: Venue, slot: int) -> Woken:
    with books.copied() as database:
        return pauses.run(pause, Seat(venue, venue.stage(), database, 2 + slot, tempo))


def woken(books: Books, tempo: Tempo, those: list[Pause], exchanges: list[Venue]) -> list[Woken]:
    within = RUN_WITHIN + 600 / tempo.divisor
    told = desk.in_parallel(those, exchanges, partial(one_pause, books, tempo), within=within)
    assert not [str(each) for each in told if not isinstance(each, Woken)]
    return told


def judge(told: list[Woken], began: float, figure: Figure) -> None:
    figure(
        f"{sum(each.was_frozen for each in told)} of {len(told)} senders paused,"
        f" {sum(each.was_judged for each in told)} woke after the verdict,"
        f" {sum(each.arrived for each in told)} requests arrived,"
        f" {sum(each.late for each in told)} late orders, {time.monotonic() - began:.0f} s"
    )
    assert sum(each.was_judged for each in told) >= len(told) // 4
    assert not [each for each in told if each.late]
    assert not {str(each.pause): each.faults for each in told if each.faults}


def test_no_order_is_accepted_after_it_was_judged_absent(
    books: Books, fenced: list[Venue], figure: Figure
) -> None:
    began = time.monotonic()
    judge(woken(books, SHORT, pauses.pauses(size("paused_senders")), fenced), began, figure)


@pytest.mark.skipif(not size("paused_senders_at_real_times"), reason="minutes each: RELIABILITY=full")
def test_nor_with_the_time_constants_that_the_desk_has(books: Books, figure: Figure) -> None:
    began = time.monotonic()
    with venues(AT_ONCE, oldest_ms=FENCE_MS) as exchanges:
        judge(
            woken(books, REAL, pauses.pauses(size("paused_senders_at_real_times")), exchanges), began, figure
        )


def test_without_the_exchanges_fence_the_late_order_is_adopted_alarmed_and_canceled(
    books: Books, figure: Figure
) -> None:
    """The naive exchange: it shows that the pause has teeth, and what the last line of defence does."""
    those = [
        Pause(seed, FENCE, until_verdict=True, dies=seed % 2 == 1)
        for seed in range(max(6, size("paused_senders") // 2))
    ]
    with venues(AT_ONCE, oldest_ms=NO_FENCE_MS) as exchanges:
        told = woken(books, SHORT, those, exchanges)
    took = [each.gone_after for each in told if each.gone_after is not None]
    figure(
        f"{sum(each.late for each in told)} of {len(told)} late orders came through,"
        f" {sum(each.alarmed for each in told)} alarmed, {len(took)} canceled, the slowest after"
        f" {max(took, default=0.0):.2f} s"
    )
    assert [each for each in told if each.late]
    assert not [each for each in told if each.late and not each.alarmed]
    assert not {str(each.pause): each.faults for each in told if each.faults}
    assert len(took) == sum(each.late for each in told)
    assert max(took) <= GONE_WITHIN * SLACK
