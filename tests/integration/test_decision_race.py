"""Two approvals, a decline and the deadline at the same moment: one winner, one order at most.

Four real processes meet at a barrier per proposal. The naive variant (get, check, save) fails the same check, which
shows that the check can fail.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from django.conf import settings
from django.db import connection

from approvals.models import Decision, Proposal, ProposalEvent
from portfolio.models import Reservation
from tests import race

ROUNDS = int(os.environ.get("RACE_ROUNDS", "120"))
CHUNK = 40

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def cast() -> None:
    race.cast()


def wins(rounds: int, *, naive: bool) -> list[tuple[int, str]]:
    return [(each.proposal, each.racer) for each in race.run(rounds, naive=naive) if each.won]


def test_each_proposal_has_exactly_one_winner_and_at_most_one_reservation(cast: None) -> None:
    won = wins(ROUNDS, naive=False)
    assert Counter(Counter(pk for pk, _ in won).values()) == {1: ROUNDS}
    for pk, name in won:
        proposal = Proposal.objects.get(pk=pk)
        assert (proposal.state, proposal.version) == (race.VERDICTS[name], 2)
    approved = Proposal.objects.filter(state="approved").count()
    assert Reservation.objects.count() == approved
    assert Decision.objects.filter(verdict="approve").count() == approved
    assert ProposalEvent.objects.count() == ROUNDS


def test_the_naive_variant_lets_several_win(cast: None, past_the_guards: None) -> None:
    won = wins(CHUNK, naive=True)
    assert max(Counter(pk for pk, _ in won).values()) > 1


def test_this_suite_runs_on_a_database_that_several_processes_share() -> None:
    assert connection.vendor in {"sqlite", "postgresql"}
    assert str(settings.DATABASES["default"]["NAME"]) != ":memory:"
