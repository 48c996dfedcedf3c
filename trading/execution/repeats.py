"""Wanting once more what never was at the exchange: a new proposal on the same terms, which somebody must approve.

Nothing is ever sent again (RELIABILITY.md 3.1, step 6). A repeat has an approval, an order and a client order id of
its own, and there is one of each proposal at most.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from approvals import proposals
from approvals.domain.lifecycle import ProposalState
from approvals.domain.policy import Origin
from approvals.models import Proposal
from kalshi_site.locks import CLOCKS_APART
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from trading.domain.orders import OrderState
from trading.execution.claims import ORDER_KNOWN, mark_of
from trading.execution.restored import UNSENT
from trading.models import Order

# What an order may have come to when nothing of it is at the exchange.
NEVER_THERE: Final = frozenset({OrderState.REJECTED, OrderState.NOT_SENT, OrderState.ABSENT})
APPEARED: Final = "the order that it repeats has appeared at the exchange"
ORPHANED: Final = "an order of this desk without an approval was found in this market: it may be this one's"


class NotRepeatable(Exception):
    """Something of it is, was, or may be at the exchange, or it was never to be sent. It says which."""

    code = "E212"


@dataclass(frozen=True, slots=True)
class Proof:
    """Why nothing of a proposal is at the exchange: `voided`, or the state of its order, and what that rests on."""

    state: str
    text: str


def propose_again(*, proposal: Proposal, actor: str) -> Proposal:
    """Put the same terms before people once more, judged on fresh numbers. Pressed twice, it is one proposal.

    The idea stays its proposer's, who still may not approve it; the record names who asked. Raises NotRepeatable;
    Denied when the gateway says no now (nothing is written then), UnknownMarket, UnknownFee.
    """
    with transaction.atomic():
        risk.trading_state(
            proposal.venue, lock=True
        )  # an order that appears comes before, or finds the repeat
        fresh = Proposal.objects.get(pk=proposal.pk)
        if made := repeat_of(fresh):
            return made
        proof = proof_of(fresh)
        world, facts = risk.World.now(fresh.venue, ticker=fresh.ticker), risk.facts_of(fresh.ticker)
        draft = proposals.Draft(
            venue=fresh.venue,
            terms=fresh.terms,
            origin=Origin(fresh.origin),
            proposer=fresh.proposer,
            time_to_decide=settings.PROPOSAL_TTL,
            strategy=fresh.strategy,
            reduce_only=fresh.reduce_only,
            rules_text=fresh.rules_text,
            forecast=fresh.forecast,
            seen_versions=world.seen(facts),
            idea_key=f"again:{fresh.public_id}",
            note=f"repeats {fresh.public_id}: {proof.state.replace('_', ' ')}",
            clone_of=fresh,
            asked_by=actor,
        )
        risk.require(
            risk.check_order(
                venue=draft.venue, terms=draft.terms, reduce_only=draft.reduce_only, strategy=draft.strategy
            )
        )
        return proposals.submit(draft)


def repeat_of(proposal: Proposal) -> Proposal | None:
    """The one that repeats it, where somebody asked for it."""
    return proposal.clones.first()


def proof_of(proposal: Proposal) -> Proof:
    """Raises NotRepeatable where nothing proves that neither it nor what it repeats ever came to the exchange."""
    if proposal.clone_of is not None:
        proof_of(proposal.clone_of)
    if proposal.origin == Origin.CLOSE:
        raise NotRepeatable("a way out is not repeated: press Close again, at the price of now")
    if not proposal.is_genuine:
        raise NotRepeatable("its terms were changed after they were proposed")
    if proposal.state == ProposalState.VOIDED:
        return _voided(proposal)
    if proposal.state != ProposalState.CLAIMED:
        raise NotRepeatable(f"the proposal is {_words(proposal.state)}: only what was approved is repeated")
    order = Order.objects.filter(proposal=proposal).first()
    if order is None or order.state not in NEVER_THERE:
        state = "not known" if order is None else _words(order.state)
        raise NotRepeatable(f"the order of {proposal.public_id} is {state}")
    return Proof(order.state, order.evidence)


def _voided(proposal: Proposal) -> Proof:
    said = proposal.events.filter(to_state=ProposalState.VOIDED).last()
    reason = "" if said is None else said.reason
    if reason in (UNSENT, ORDER_KNOWN):  # of all that is voided, those whose order may exist, or does
        raise NotRepeatable(reason)
    if _is_an_orphan_about(proposal):
        raise NotRepeatable(ORPHANED)
    return Proof(proposal.state, reason)


def _is_an_orphan_about(proposal: Proposal) -> bool:
    """After a restore, what was sent before stands without a proposal, and this may be the proposal of it."""
    marked = Order.objects.filter(client_order_id__startswith=mark_of(proposal.venue), proposal=None)
    elder = Q(acknowledged_at__lt=proposal.created_at - CLOCKS_APART)
    return marked.exclude(elder).filter(venue=proposal.venue, ticker=proposal.ticker).exists()


def _words(state: str) -> str:
    return state.replace("_", " ")


def call_off(order: Order) -> None:
    """An order that was judged absent is there after all: what repeats it, and is not sent yet, will not be.

    Call inside the transaction that takes the order back, with the trading state locked: approving, claiming and
    repeating come before or after.
    """
    if order.proposal_id is None:
        return
    repeat = Proposal.objects.filter(clone_of=order.proposal_id).first()
    while repeat is not None:
        with contextlib.suppress(StaleVersion):  # declined, withdrawn or expired in this moment: over as well
            _call_off(repeat)
        repeat = repeat_of(repeat)


def _call_off(repeat: Proposal) -> None:
    if repeat.is_decidable:
        proposals.move(repeat, ProposalState.DENIED, actor="execution", reason=APPEARED)
    elif repeat.state == ProposalState.APPROVED:
        proposals.void(proposal=repeat, reason=APPEARED)
