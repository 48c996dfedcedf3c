"""Two approvals, a decline and the deadline at the same moment: one winner, one order at most.

Four real processes meet at a barrier per proposal. The naive variant (get, check, save) fails the same check, which
shows that the check can fail.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from approvals.domain.lifecycle import DeadlinePassed, ProposalState, WrongState
from approvals.models import Decision, Proposal, ProposalEvent
from kalshi_site.models import User
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import Reservation
from tests import factories

ROUNDS = int(os.environ.get("RACE_ROUNDS", "120"))
CHUNK = 40
_REFUSED = (StaleVersion, WrongState, DeadlinePassed)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@dataclass
class Arena:
    """What each racer is given: who it is, the proposals, and the barrier at which all four wait."""

    name: str
    ids: list[int]
    barrier: Any
    won: Any
    naive: bool


def race(arena: Arena) -> None:
    deed = (NAIVE if arena.naive else HONEST)[arena.name]
    actor = None if arena.name == "deadline" else User.objects.get(username=arena.name)
    for pk in arena.ids:
        arena.barrier.wait(60)
        try:
            if deed(Proposal.objects.get(pk=pk), actor):
                arena.won.put((pk, arena.name))
        except _REFUSED:
            continue  # losing is what three of the four must do
    connections.close_all()


def approve(proposal: Proposal, actor: Any) -> bool:
    from approvals import decisions

    decisions.approve(proposal=proposal, version=1, actor=actor, method="page")
    return True


def decline(proposal: Proposal, actor: Any) -> bool:
    from approvals import decisions

    decisions.decline(proposal=proposal, version=1, actor=actor, method="page", reason="no")
    return True


def expire(proposal: Proposal, _: Any) -> bool:
    """The sweeper at work while the others decide: what `expire_due` does to a row that has become due."""
    from approvals.proposals import move

    move(proposal, ProposalState.EXPIRED, actor="deadline")
    return True


def naively(state: ProposalState) -> Callable[[Proposal, Any], bool]:
    def decide(proposal: Proposal, _: Any) -> bool:
        if proposal.state != ProposalState.PENDING:
            return False
        proposal.state, proposal.version = state.value, proposal.version + 1
        proposal.save()
        return True

    return decide


HONEST = {"approver1": approve, "approver2": approve, "decliner": decline, "deadline": expire}
NAIVE = {
    "approver1": naively(ProposalState.APPROVED),
    "approver2": naively(ProposalState.APPROVED),
    "decliner": naively(ProposalState.DECLINED),
    "deadline": naively(ProposalState.EXPIRED),
}


@pytest.fixture
def cast() -> None:
    for name in ("approver1", "approver2", "decliner"):
        factories.approver(name)
    factories.funded("1000000.00")


def run(rounds: int, *, naive: bool) -> list[tuple[int, str]]:
    market = factories.quoted_market()
    risk.set_limit(
        name="data_age", value=Decimal(3600), actor="test"
    )  # prices must not grow too old in the race
    proposals = [
        factories.ProposalFactory(
            market=market, quantity=Decimal("0.01"), deadline_at=timezone.now() + timedelta(minutes=30)
        ).pk
        for _ in range(rounds)
    ]
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier, won = context.Barrier(len(HONEST)), context.Queue()
    racers = [
        context.Process(target=race, args=(Arena(name, proposals, barrier, won, naive),)) for name in HONEST
    ]
    for racer in racers:
        racer.start()
    wins = []
    while any(racer.is_alive() for racer in racers) or not won.empty():
        if not won.empty():
            wins.append(won.get())
        else:
            racers[0].join(0.05)
    assert [racer.exitcode for racer in racers] == [0] * len(racers)
    return wins


def test_each_proposal_has_exactly_one_winner_and_at_most_one_reservation(cast: None) -> None:
    wins = run(ROUNDS, naive=False)
    assert Counter(Counter(pk for pk, _ in wins).values()) == {1: ROUNDS}
    for pk, name in wins:
        proposal = Proposal.objects.get(pk=pk)
        expected = {"decliner": "declined", "deadline": "expired"}.get(name, "approved")
        assert proposal.state == expected
        assert proposal.version == 2
    approved = Proposal.objects.filter(state="approved").count()
    assert Reservation.objects.count() == approved
    assert Decision.objects.filter(verdict="approve").count() == approved
    assert ProposalEvent.objects.count() == ROUNDS


def test_the_naive_variant_lets_several_win(cast: None) -> None:
    wins = run(CHUNK, naive=True)
    assert max(Counter(pk for pk, _ in wins).values()) > 1


def test_this_suite_runs_on_a_database_that_several_processes_share() -> None:
    assert connection.vendor in {"sqlite", "postgresql"}
    assert str(settings.DATABASES["default"]["NAME"]) != ":memory:"
