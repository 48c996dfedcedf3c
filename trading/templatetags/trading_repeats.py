"""What a proposal's page and row say of its repeat, and of what it repeats."""

from __future__ import annotations

from typing import Any

from django import template

from approvals.domain.lifecycle import ProposalState
from approvals.models import Proposal
from trading.execution.repeats import NEVER_THERE, NotRepeatable, proof_of, repeat_of
from trading.models import Order

register = template.Library()

ENDED = (ProposalState.VOIDED, ProposalState.CLAIMED)  # of no other state there is ever a repeat


@register.inclusion_tag("trading/_again.html")
def again(proposal: Proposal, may_decide: bool) -> dict[str, Any]:
    """Its repeat; without one the button, where it may be repeated, with the reason why nothing of it is there."""
    shown: dict[str, Any] = {"proposal": proposal, "may_decide": may_decide}
    if proposal.state not in ENDED:
        return shown
    if made := repeat_of(proposal):
        return shown | {"made": made}
    try:
        return shown | {"proof": proof_of(proposal)}
    except NotRepeatable:
        return shown


@register.inclusion_tag("trading/_repeats.html")
def repeats(proposal: Proposal) -> dict[str, Any]:
    """What it repeats, and how that stands now."""
    if proposal.clone_of_id is None:
        return {}
    order = Order.objects.filter(proposal=proposal.clone_of_id).first()
    return {
        "first": proposal.clone_of,
        "order": order,
        "appeared": order is not None and order.state not in NEVER_THERE,
    }
