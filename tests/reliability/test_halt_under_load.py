"""A stop while orders pour out: nothing is claimed after its commit, and soon nothing rests, as the exchange lists.

In every third the exchange is in trouble meanwhile: that may take longer, and nothing else about it is different.
Times and rates are figures of the machine: they are shown always, the times are asserted at the full size alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import desk, halts
from tests.reliability.books import Books, kept
from tests.reliability.conftest import Figure, worst_hundredth
from tests.reliability.desk import Seat
from tests.reliability.halts import LAGGING, Halt, Stopped, Watched
from tests.reliability.sizes import is_full, size
from tests.reliability.tempo import Tempo
from tests.reliability.venue import Venue, venues

TEMPO = Tempo(1)
RUN_WITHIN = 120.0
REST_WITHIN = 2.0  # seconds, in the worst hundredth, and proven within them too (RELIABILITY.md C4)
RATE = 200  # orders a second that shall go out meanwhile (C4)
EARLY = 32  # the seed of a stop after five of eighty: what is left to claim late is no matter of chance
GIVEN_UP_AFTER = 3.0  # what a naive desk leaves standing, it leaves for good

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
    books: Books, venue: Venue, planned: list[Halt], naive: desk.Prepare = lambda _: None, **how: Any
) -> list[Stopped]:
    """Each in a process, on an account and in a database of its own, one after the other."""

    def run(halt: Halt, venue: Venue, slot: int) -> Stopped:
        database = books.fresh()
        try:
            return halts.run(halt, Seat(venue, venue.stage(), database, 2 + slot, TEMPO), naive, **how)
        finally:
            desk.connections.close_all()
            books.drop(database)

    answers = desk.in_parallel(planned, [venue], run, within=RUN_WITHIN)
    broken = [answer for answer in answers if isinstance(answer, BaseException)]
    assert not broken, broken
    return answers


def times(done: list[Stopped]) -> tuple[list[float], list[float]]:
    """After how many seconds nothing rested, and after how many that was proven."""
    rests = [stop.watched.rest_after for stop in done if stop.watched.rest_after is not None]
    proofs = [stop.watched.proven_after for stop in done if stop.watched.proven_after is not None]
    return rests, proofs


@pytest.mark.parametrize("has_redis", [True, False], ids=["with Redis", "without Redis"])
def test_nothing_is_claimed_after_a_stop_and_soon_nothing_rests(
    books: Books, venue: Venue, figure: Figure, has_redis: bool
) -> None:
    done = stops(books, venue, halts.planned(size("halts"), size("halt_backlog"), has_redis=has_redis))
    assert [stop.late_claims for stop in done] == [0] * len(done)
    assert [stop.late_arrivals for stop in done] == [0] * len(done)
    assert [stop.still_open for stop in done] == [0] * len(done)
    assert not [stop for stop in done if stop.watched.is_belied]
    assert [stop.redis_asked > 0 for stop in done] == [has_redis] * len(done)
    assert not [stop for stop in done if None in (stop.watched.rest_after, stop.watched.proven_after)]
    assert [stop.trouble for stop in done if not stop.is_met] == []
    calm, troubled = ([stop for stop in done if bool(stop.trouble) is bad] for bad in (False, True))
    rests, proofs = times(calm)
    rates = sorted(stop.rate for stop in calm)
    figure(
        f"{len(calm)} stops, {sum(stop.sent for stop in calm)} orders sent before them at "
        f"{rates[len(rates) // 2]:.0f} a second (goal {RATE}, its tokens last for {calm[0].affordable:.0f}): 0 claims "
        f"later; nothing rests after {worst_hundredth(rests):.2f} s in the worst hundredth, proven by listing after "
        f"{worst_hundredth(proofs):.2f} s (load of the machine {os.getloadavg()[0]:.1f})"
    )
    if troubled:
        rests_then, proofs_then = times(troubled)
        figure(
            f"{len(troubled)} stops more, with the exchange in {len({stop.trouble for stop in troubled})} kinds of "
            f"trouble: 0 claims later; nothing rests after {max(rests_then):.2f} s at the latest, proven after "
            f"{max(proofs_then):.2f} s"
        )
    if is_full():
        assert worst_hundredth(rests) <= REST_WITHIN
        assert worst_hundredth(proofs) <= REST_WITHIN


def test_a_claim_that_does_not_ask_whether_trading_is_stopped_is_caught(books: Books, venue: Venue) -> None:
    """The naive variant judges an approval once, when it is given."""

    def forgetful(_: Any) -> None:
        from trading.execution import claims

        claims.stopped_since = lambda *_: ""
        claims._reason_not_to_send = lambda *_: ""

    [done] = stops(books, venue, [Halt(EARLY, 80)], forgetful)
    assert done.late_claims > 0


def deaf(_: Any) -> None:
    """A cancel is written down, and no request ever leaves; the last resort, which cancels all at once, is away too."""
    from trading.execution import calling_off, halting, last_resort

    calling_off.call_off = halting.call_off = lambda *_: []
    last_resort.LastResort._act_if_needed = lambda *_: None


def trusting(_: Any) -> None:
    """A stop counts as proven once the cancels are asked for: nobody looks at the exchange's list."""
    from portfolio import risk
    from trading.execution import halting

    def clear(router: Any, _: Any) -> halting.Look:
        for stop in risk.uncleared(router.venue):
            risk.note_cleared(stop)
        return halting.Look(at_rest=True)

    deaf(_)
    halting.clear = clear


def test_cancels_that_never_leave_are_caught(books: Books, venue: Venue) -> None:
    """The naive variant takes its own word for the cancel. It proves nothing, for the list shows what stands."""
    [done] = stops(books, venue, [Halt(0, 40)], deaf, within=GIVEN_UP_AFTER)
    assert done.still_open > 0
    assert done.watched == Watched()


def test_a_proof_that_nobody_looked_for_is_caught(books: Books, venue: Venue) -> None:
    [done] = stops(books, venue, [Halt(0, 40)], trusting)
    assert done.still_open > 0
    assert done.watched.is_belied


def believing(_: Any) -> None:
    """An empty list counts as the proof: what we hold for open is not asked for, though the list may lag."""
    from trading.execution import halting

    deaf(_)
    halting._IN_FLIGHT = ()
    halting.Asked.are_over = lambda *_: True


def test_a_proof_by_a_list_that_lags_is_caught(
    books: Books, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lag is one that no busy machine outlasts: the list shows none of the orders."""
    lagging = replace(halts.TROUBLES[LAGGING], lag=RUN_WITHIN)
    monkeypatch.setitem(halts.TROUBLES, LAGGING, lagging)
    [done] = stops(books, venue, [Halt(0, 40, trouble=LAGGING)], believing)
    assert done.still_open > 0
    assert done.watched.is_belied
