"""A stop while orders pour out: nothing is claimed after its commit, and soon nothing rests, as the exchange lists.

Times and rates are figures of the machine: they are shown always, the times are asserted at the full size alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import desk, halts
from tests.reliability.books import Books, kept
from tests.reliability.conftest import Figure
from tests.reliability.desk import Seat
from tests.reliability.halts import Halt, Stopped
from tests.reliability.sizes import size
from tests.reliability.tempo import Tempo
from tests.reliability.venue import Venue, venues

TEMPO = Tempo(1)
RUN_WITHIN = 120.0
REST_WITHIN = 2.0  # seconds, in the worst hundredth (RELIABILITY.md C4)
RATE = 200  # orders a second that shall go out meanwhile (C4)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    desk.furnish()
    with kept(tmp_path) as copies:
        yield copies


@pytest.fixture
def venue(books: Books) -> Iterator[Venue]:
    with venues(1, oldest_ms=TEMPO.fence_ms) as started:
        desk.warm(started[0])
        yield started[0]


def stops(
    books: Books, venue: Venue, planned: list[Halt], naive: desk.Prepare = lambda _: None
) -> list[Stopped]:
    """Each in a process, on an account and in a database of its own, one after the other."""

    def run(halt: Halt, venue: Venue, slot: int) -> Stopped:
        database = books.fresh()
        try:
            return halts.run(halt, Seat(venue, venue.stage(), database, 2 + slot, TEMPO), naive)
        finally:
            desk.connections.close_all()
            books.drop(database)

    answers = desk.in_parallel(planned, [venue], run, within=RUN_WITHIN)
    broken = [answer for answer in answers if isinstance(answer, BaseException)]
    assert not broken, broken
    return answers


def worst_hundredth(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


@pytest.mark.parametrize("has_redis", [True, False], ids=["with Redis", "without Redis"])
def test_nothing_is_claimed_after_a_stop_and_soon_nothing_rests(
    books: Books, venue: Venue, figure: Figure, has_redis: bool
) -> None:
    planned = [Halt(seed, size("halt_backlog"), has_redis) for seed in range(size("halts"))]
    done = stops(books, venue, planned)
    assert [stop.late_claims for stop in done] == [0] * len(done)
    assert [stop.late_arrivals for stop in done] == [0] * len(done)
    assert [stop.still_open for stop in done] == [0] * len(done)
    assert [stop.redis_asked > 0 for stop in done] == [has_redis] * len(done)
    rests = [stop.rest_after for stop in done if stop.rest_after is not None]
    proofs = [stop.proven_after for stop in done if stop.proven_after is not None]
    assert len(rests) == len(proofs) == len(done)
    rates = sorted(stop.rate for stop in done)
    figure(
        f"{len(done)} stops, {sum(stop.sent for stop in done)} orders sent before them at "
        f"{rates[len(rates) // 2]:.0f} a second (goal {RATE}, its tokens last for {done[0].affordable:.0f}): 0 claims "
        f"later; nothing rests after {worst_hundredth(rests):.2f} s in the worst hundredth, proven by listing after "
        f"{worst_hundredth(proofs):.2f} s (load of the machine {os.getloadavg()[0]:.1f})"
    )
    if os.environ.get("RELIABILITY") == "full":
        assert worst_hundredth(rests) <= REST_WITHIN


def test_a_claim_that_does_not_ask_whether_trading_is_stopped_is_caught(books: Books, venue: Venue) -> None:
    """The naive variant judges an approval once, when it is given."""

    def forgetful(_: Any) -> None:
        from trading.execution import claims

        claims.stopped_since = lambda *_: ""
        claims._reason_not_to_send = lambda *_: ""

    [done] = stops(books, venue, [Halt(0, 80)], forgetful)
    assert done.late_claims > 0
