"""Two approvals, a decline and the deadline at the same moment: four real processes, a barrier per proposal.

Each notes when it began, when it had its answer, and whether it won; the naive variants (get, check, save) race by the
same rules.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import IntegrityError, connections
from django.utils import timezone

from approvals import decisions
from approvals.domain.lifecycle import DeadlinePassed, ProposalState, WrongState
from approvals.models import Proposal
from approvals.proposals import move
from kalshi_site.models import User
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from tests import factories

SAY_AGAIN: Final = 15.0  # seconds: a long race must not end because nobody hears the exchange any more
_REFUSED = (
    StaleVersion,
    WrongState,
    DeadlinePassed,
    IntegrityError,
)  # the last: by the database's own guards


@dataclass(frozen=True, slots=True)
class Attempt:
    """One racer's word on one proposal. Times are of the machine's one monotonic clock, in nanoseconds."""

    proposal: int
    racer: str
    called: int
    returned: int
    won: bool


@dataclass
class Arena:
    """What each racer is given: who it is, the proposals, and the barrier at which all four wait."""

    name: str
    ids: list[int]
    barrier: Any
    told: Any
    naive: bool


def race(arena: Arena) -> None:
    deed = (NAIVE if arena.naive else HONEST)[arena.name]
    actor = None if arena.name == "deadline" else User.objects.get(username=arena.name)
    attempts = []
    for pk in arena.ids:
        arena.barrier.wait(60)
        called = time.monotonic_ns()
        try:
            won = deed(Proposal.objects.get(pk=pk), actor)
        except _REFUSED:
            won = False  # losing is what three of the four must do
        attempts.append(Attempt(pk, arena.name, called, time.monotonic_ns(), won))
    connections.close_all()
    arena.told.send(attempts)


def approve(proposal: Proposal, actor: Any) -> bool:
    decisions.approve(
        proposal=proposal, terms_hash=proposal.terms_hash, version=1, actor=actor, method="page"
    )
    return True


def decline(proposal: Proposal, actor: Any) -> bool:
    decisions.decline(
        proposal=proposal, terms_hash=proposal.terms_hash, version=1, actor=actor, method="page", reason="no"
    )
    return True


def expire(proposal: Proposal, _: Any) -> bool:
    """The sweeper at work while the others decide: what `expire_due` does to a row that has become due."""
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


def cast() -> None:
    """The people of the race, and money for all that they approve."""
    for name in ("approver1", "approver2", "decliner"):
        factories.approver(name)
    factories.funded("1000000.00")


# The state that each racer's victory leaves.
VERDICTS: Final = {
    "approver1": ProposalState.APPROVED,
    "approver2": ProposalState.APPROVED,
    "decliner": ProposalState.DECLINED,
    "deadline": ProposalState.EXPIRED,
}


def run(rounds: int, *, naive: bool) -> list[Attempt]:
    """Race over so many fresh proposals; every attempt of every racer."""
    proposals = _fresh_proposals(rounds)
    connections.close_all()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(HONEST))
    racers, pipes = [], []
    for name in HONEST:
        mine, theirs = context.Pipe(duplex=False)
        racers.append(context.Process(target=race, args=(Arena(name, proposals, barrier, theirs, naive),)))
        racers[-1].start()
        theirs.close()
        pipes.append(mine)
    attempts: list[Attempt] = []
    for pipe in pipes:
        while not pipe.poll(SAY_AGAIN):
            factories.exchange_says()
            connections.close_all()
        attempts += pipe.recv()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0] * len(racers)
    return attempts


def _fresh_proposals(rounds: int) -> list[int]:
    market = factories.quoted_market()
    # Prices must not grow too old in the race.
    risk.set_limit(name="data_age", value=Decimal(7200), actor="test")
    late = timezone.now() + timedelta(hours=2)
    return [
        factories.ProposalFactory(market=market, quantity=Decimal("0.01"), deadline_at=late).pk
        for _ in range(rounds)
    ]
