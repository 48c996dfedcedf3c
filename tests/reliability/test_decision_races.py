"""Thousands of proposals, four deciders each: one winner, nothing doubled, nothing orphaned, one order of events.

DATABASE_URL chooses the database; the figures are shown for each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import pytest
from django.db import connection

from approvals.models import Decision, Proposal, ProposalEvent
from portfolio.models import Reservation
from tests import race
from tests.race import Attempt
from tests.reliability.conftest import Figure
from tests.reliability.linearizable import Decide, Read, decided_once, is_linearizable
from tests.reliability.sizes import size
from trading.models import Order

NAIVE = 60
FOREVER = 2**63

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def histories(attempts: Sequence[Attempt]) -> dict[int, list[Decide | Read]]:
    """Per proposal: what each racer did, and the state that was read when all had ended."""
    told: dict[int, list[Decide | Read]] = {}
    for each in attempts:
        deed = Decide(each.called, each.returned, race.VERDICTS[each.racer].value, each.won)
        told.setdefault(each.proposal, []).append(deed)
    for pk, state in Proposal.objects.filter(pk__in=told).values_list("pk", "state"):
        told[pk].append(Read(FOREVER, FOREVER, state))
    return told


def impossible(attempts: Sequence[Attempt]) -> list[int]:
    """Proposals whose history no order of events explains."""
    told = histories(attempts)
    return [pk for pk, history in told.items() if not is_linearizable(history, decided_once)]


def test_one_wins_and_the_history_can_be_put_in_order(figure: Figure) -> None:
    race.cast()
    began, rounds = time.monotonic(), size("race_proposals")
    attempts = race.run(rounds, naive=False)
    took = time.monotonic() - began
    winners = Counter(each.proposal for each in attempts if each.won)
    approved = set(Proposal.objects.filter(state="approved").values_list("public_id", flat=True))
    orphans = approved ^ set(Reservation.objects.standing("paper").values_list("key", flat=True))
    wrong = impossible(attempts)
    figure(
        f"{rounds} proposals x {len(race.HONEST)} deciders on {connection.vendor} in {took:.0f} s:"
        f" {sum(count > 1 for count in winners.values())} doubles, {len(orphans)} orphans,"
        f" {len(wrong)} histories without an order"
    )
    assert Counter(winners.values()) == {1: rounds}
    assert not orphans
    assert not wrong
    assert Decision.objects.filter(verdict="approve").count() == len(approved)
    assert ProposalEvent.objects.count() == rounds
    assert not Order.objects.exists()


def test_the_naive_deciders_leave_a_history_that_nothing_explains(
    figure: Figure, past_the_guards: None
) -> None:
    race.cast()
    attempts = race.run(NAIVE, naive=True)
    wrong = impossible(attempts)
    figure(f"{len(wrong)} of {NAIVE} naive histories have no order")
    assert wrong


def test_the_database_itself_holds_naive_deciders_back(figure: Figure) -> None:
    """The same deciders with the database's guards in place: a second line of defence, which asks no code of ours."""
    race.cast()
    verdicts: dict[int, set[str]] = {}
    for each in race.run(NAIVE, naive=True):
        if each.won:
            verdicts.setdefault(each.proposal, set()).add(race.VERDICTS[each.racer].value)
    torn = [pk for pk, said in verdicts.items() if len(said) > 1]
    figure(f"{len(torn)} of {NAIVE} naive decisions came to two different verdicts")
    assert len(verdicts) == NAIVE
    assert not torn


# --- the checker itself

APPROVED, DECLINED = race.VERDICTS["approver1"].value, race.VERDICTS["decliner"].value
LINEAR = {
    "one after the other": [
        Decide(0, 1, APPROVED, True),
        Decide(2, 3, DECLINED, False),
        Read(4, 5, APPROVED),
    ],
    "the later call wins while both are under way": [
        Decide(0, 9, APPROVED, False),
        Decide(5, 6, DECLINED, True),
        Read(10, 11, DECLINED),
    ],
    "a reader beside the winner sees either": [Decide(0, 9, APPROVED, True), Read(1, 2, "pending")],
}
NOT_LINEAR = {
    "two winners": [Decide(0, 9, APPROVED, True), Decide(1, 8, DECLINED, True)],
    "refused before anybody had begun": [Decide(0, 1, APPROVED, False), Decide(2, 3, DECLINED, True)],
    "the loser's state stands": [
        Decide(0, 1, APPROVED, True),
        Decide(2, 3, DECLINED, False),
        Read(4, 5, DECLINED),
    ],
    "decided and then not": [Decide(0, 1, APPROVED, True), Read(2, 3, "pending")],
    "nobody won": [Decide(0, 9, APPROVED, False), Decide(0, 9, DECLINED, False)],
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_history_with_an_order_is_found_to_have_one(name: str) -> None:
    assert is_linearizable(LINEAR[name], decided_once)


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_history_without_an_order_is_found_out(name: str) -> None:
    assert not is_linearizable(NOT_LINEAR[name], decided_once)
