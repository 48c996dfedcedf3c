"""The last guard before the socket: what leaves is what was approved, and it leaves once.

It trusts nothing that was checked before (Knight Capital, SEC release 70694: a quantity check that had moved upstream,
and was gone). It reads the rows again, takes the terms out of the very bytes, and takes the right to send by one
guarded UPDATE that can succeed only once for an order.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal

import msgspec
from django.db.models import QuerySet
from django.utils import timezone

from approvals.domain.lifecycle import ProposalState, terms_hash
from approvals.models import READERS_ALONE, Proposal
from kalshi_site import prepared
from kalshi_site.hasty import hasty
from portfolio import risk
from portfolio.domain.limits import TradingMode
from portfolio.risk import Over
from trading.domain.orders import Action, BookSide, OrderState, Side, Terms, book_side
from trading.domain.prices import complement
from trading.exchange.order_messages import NewOrder
from trading.exchange.outcomes import NotSent, Unknown
from trading.models import Order

ZERO = Decimal(0)


def hash_of(body: bytes) -> str:
    """SHA-256 of the bytes of a create, as it is stored beside them."""
    return hashlib.sha256(body).hexdigest()


def hash_of_terms(body: bytes, proposal: Proposal) -> str:
    """The terms hash of what the bytes would do, in the proposal's words; "" when they do another thing.

    An approval is in words (sell NO), the bytes in the exchange's (bid): the same bytes can mean two sentences.
    """
    sent = msgspec.json.decode(body, type=NewOrder)
    action, side = Action(proposal.action), Side(proposal.side)
    if book_side(action, side) is not BookSide(sent.side):
        return ""
    price = Decimal(sent.price)
    terms = Terms(
        sent.ticker,
        action,
        side,
        Decimal(sent.count),
        price if side is Side.YES else complement(price),
    )
    return terms_hash(terms, reduce_only=bool(sent.reduce_only), venue=proposal.venue)


def stopped_since(proposal: Proposal, over: Over) -> str:
    """A stop ends what was approved before it, also when trading was resumed in between; not a person's own exit.

    Which came first is told by the kill epoch that the approval saw under the trading state's lock, never by times:
    the clocks of the two hosts may differ, and one may be set back.
    """
    stopped = over.halted_epoch > proposal.kill_epoch
    return "E306: trading was stopped after the approval" if stopped and not proposal.is_manual_exit else ""


def refusal(order: Order) -> NotSent | Unknown | None:
    """Take the right to send this order's bytes; None when it is ours. Every exception is a no of the caller.

    NotSent: nothing of this order has ever left. Unknown: somebody has taken the right before, and may have sent.
    """
    wrong = _wrong_with(order)
    if wrong:
        return NotSent(f"the last look before the send: {wrong}")
    untaken = {
        "pk": order.pk,
        "state": OrderState.SENDING,
        "attempts": 1,
        "sent_at": None,
        "cancel_requested_at": None,
        "body_hash": hash_of(order.body.encode()),
    }
    # The claim is on disk: whatever a power cut undoes here, what was claimed is never sent again.
    with hasty():
        if prepared.update(Order, where=untaken, changes={"sent_at": timezone.now()}):
            return None
    row = Order.objects.get(pk=order.pk)
    if row.sent_at is not None:
        return Unknown("the last look before the send: it was handed to the exchange before")
    if row.cancel_requested_at is not None:
        return NotSent("the last look before the send: it was called off")
    return NotSent(f"the last look before the send: the row says {row.state}, attempts {row.attempts}")


def _wrong_with(order: Order) -> str:
    """What keeps these bytes from being the approved order; empty when nothing does."""
    entered = _entered(order.proposal.pk) if order.proposal else []
    proposal = entered[0].proposal if entered else None
    if proposal is None or proposal.state != ProposalState.CLAIMED:
        return "no claimed proposal stands behind it"
    if not proposal.is_genuine:
        return "E208 the proposal's terms are not those of its hash"
    if hash_of_terms(order.body.encode(), proposal) != proposal.terms_hash:
        return "E208 the bytes say something else than what was approved"
    if withdrawn := _withdrawn(proposal):
        return withdrawn
    whole = sum((each.quantity for each in entered), ZERO)
    if whole > proposal.quantity:
        return f"{whole} contracts for an approval of {proposal.quantity}"
    return ""


def _withdrawn(proposal: Proposal) -> str:
    """A stop or a pause since the claim, which may have waited for the answer to the order before."""
    over = risk.over(proposal.venue, proposal.scopes)
    paused = over.mode is TradingMode.REDUCING and not proposal.reduce_only
    return stopped_since(proposal, over) or ("E305: trading was paused after the claim" if paused else "")


@prepared.prepared
def _entered(proposal: int) -> QuerySet[Order]:
    """Every order of the proposal, each with the proposal as it is now."""
    unread = [f"proposal__{name}" for name in READERS_ALONE]
    return Order.objects.filter(proposal_id=proposal).select_related("proposal").defer("body", *unread)
