"""Saying yes or no to a proposal, and the claim with which execution takes an approved one.

Every door (page, admin, REST, command) calls these. One guarded UPDATE orders every race: approve against approve,
decline, expiry and claim have exactly one winner.
"""

from __future__ import annotations

from typing import Any, Literal

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from approvals.domain.lifecycle import (
    DeadlinePassed,
    ProposalState,
    TermsChanged,
    WrongState,
    require_move,
)
from approvals.models import Decision, Proposal
from approvals.proposals import announce_approval, move
from kalshi_site.models import User
from kalshi_site.prepared import insert, prepared
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.limits import RiskReport

Method = Literal["page", "admin", "rest", "cli"]


class OwnProposal(Exception):
    """Whoever proposed it may not decide it."""

    code = "E107"

    def __init__(self) -> None:
        super().__init__("you proposed this yourself; somebody else must decide")


class MayNotDecide(Exception):
    """The account's role does not include deciding. Agents never may."""

    code = "E104"

    def __init__(self) -> None:
        super().__init__("your role does not include deciding on proposals")


@transaction.atomic
def approve(
    *, proposal: Proposal, version: int, terms_hash: str, actor: User, method: Method, note: str = ""
) -> Proposal:
    """Approve exactly what was shown, if it still stands and the gateway still says yes on fresh numbers.

    Where several people must, the same guarded UPDATE counts them, and the last one's approval is the one that counts.

    `version` and `terms_hash` are those that the person saw, never those of a row read since. One transaction:
    decision, reservation, history, audit, announcement. The approved row is the outbox. Raises StaleVersion,
    TermsChanged, WrongState, DeadlinePassed, OwnProposal, MayNotDecide, Denied (nothing is written then).
    """
    _may_decide(proposal, actor)
    state = risk.trading_state(proposal.venue, lock=True)
    fresh = _current(proposal, version, terms_hash, ProposalState.APPROVED)
    is_enough = fresh.approvals_count + 1 >= fresh.required_approvals
    report = risk.require(
        risk.check_order(
            venue=fresh.venue,
            terms=fresh.terms,
            reduce_only=fresh.reduce_only,
            manual_exit=fresh.is_manual_exit,
            strategy=fresh.strategy,
        )
    )
    if is_enough:
        announce_approval(fresh)  # noted first, so that execution is woken before pages are told
    approved = move(
        fresh,
        ProposalState.APPROVED if is_enough else ProposalState.HALF_APPROVED,
        actor=actor.get_username(),
        reason=note,
        version=version,
        person=True,
        guard={**_terms_of(fresh), "terms_hash": terms_hash, "deadline_at__gt": timezone.now()},
        approvals_count=fresh.approvals_count + 1,
        kill_epoch=state.kill_epoch,
    )
    _record(approved, version, actor, Decision.Verdict.APPROVE, method, note, report)
    if is_enough:
        risk.reserve(
            venue=approved.venue,
            key=approved.public_id,
            terms=approved.terms,
            event_ticker=approved.event_ticker,
            report=report,
        )
    return approved


@transaction.atomic
def decline(
    *, proposal: Proposal, version: int, terms_hash: str, actor: User, method: Method, reason: str = ""
) -> Proposal:
    """Say no to what was shown, with a reason.

    Raises StaleVersion, TermsChanged, WrongState, DeadlinePassed, OwnProposal, MayNotDecide.
    """
    _may_decide(proposal, actor)
    fresh = _current(proposal, version, terms_hash, ProposalState.DECLINED)
    declined = move(
        fresh,
        ProposalState.DECLINED,
        actor=actor.get_username(),
        reason=reason,
        version=version,
        person=True,
        guard={"deadline_at__gt": timezone.now()},
    )
    _record(declined, version, actor, Decision.Verdict.DECLINE, method, reason, None)
    return declined


def claim(*, proposal: Proposal) -> Proposal:
    """Take an approved proposal for sending. Call inside the transaction that inserts the order.

    Raises WrongState or StaleVersion when another claim, or a void, came first.
    """
    return move(proposal, ProposalState.CLAIMED, actor="execution")


def _may_decide(proposal: Proposal, actor: AbstractBaseUser) -> None:
    if not isinstance(actor, User) or not actor.has_perm("approvals.decide_proposal"):
        raise MayNotDecide
    if actor.get_username() == proposal.proposer:
        raise OwnProposal


def _current(proposal: Proposal, version: int, terms_hash: str, wanted: ProposalState) -> Proposal:
    """The row as it is now, if it is what the person saw and may still be decided."""
    fresh = _now(proposal.pk)[0]
    late = fresh.is_decidable and fresh.deadline_at <= timezone.now()
    if late or fresh.state == ProposalState.EXPIRED:
        raise DeadlinePassed(fresh.deadline_at)
    if fresh.version != version:
        raise StaleVersion(fresh, version, fresh)
    require_move(ProposalState(fresh.state), wanted)
    if fresh.terms_hash != terms_hash or not fresh.is_genuine:
        raise TermsChanged
    return fresh


@prepared
def _now(pk: int) -> QuerySet[Proposal]:
    return Proposal.objects.filter(pk=pk)


def _terms_of(proposal: Proposal) -> dict[str, Any]:
    """Everything that the hash covers, as a guard: between the look and the write nobody slips other terms in."""
    names = ("venue", "ticker", "action", "side", "quantity", "limit_price", "reduce_only")
    return {name: getattr(proposal, name) for name in names}


def _record(
    proposal: Proposal,
    version: int,
    actor: User,
    verdict: Decision.Verdict,
    method: Method,
    reason: str,
    report: RiskReport | None,
) -> None:
    decision = Decision(
        proposal=proposal,
        version=version,
        terms_hash=proposal.terms_hash,
        actor=actor,
        actor_name=actor.get_username(),
        proposer=proposal.proposer,
        verdict=verdict,
        method=method,
        reason=reason,
        risk_report=report.as_json() if report else {},
        at=timezone.now(),
    )
    try:
        insert(decision)
    except IntegrityError as error:
        raise WrongState(ProposalState(proposal.state), ProposalState(proposal.state)) from error
