"""From an approved proposal to an order row that may be sent: one transaction, committed before the first byte."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from approvals import decisions, proposals
from approvals.models import Proposal
from kalshi_site import live
from kalshi_site.identity import new_id
from kalshi_site.locks import Held
from portfolio import risk
from portfolio.domain.limits import TradingMode
from portfolio.models import TradingState
from trading.domain.markets import MarketFacts
from trading.domain.orders import OrderState, TimeInForce
from trading.exchange.orders import create_body
from trading.models import Order, OrderEvent

ANSWER_WITHIN = timedelta(seconds=5)
LEAST_LIFE = timedelta(seconds=30)  # a past expiry may act as immediate-or-cancel (RELIABILITY.md, A8)


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """How long an approval may wait for its claim, and how long an order may rest."""

    approval_life: timedelta = timedelta(seconds=60)
    order_life: timedelta = timedelta(seconds=120)


def client_order_id(*, venue: str, deployment: uuid.UUID, proposal_id: str) -> str:
    """Derived from the approval, never drawn: after a crash or a restore it can be computed again.

    `k`, the environment's letter, and a UUID in the deployment's own namespace; at most 64 allowed characters.
    """
    return f"k{venue[0]}-{uuid.uuid5(deployment, f'{venue}|{proposal_id}|1')}"


def claim(proposal: Proposal, *, held: Held, deployment: uuid.UUID, rules: ClaimRules) -> Order | None:
    """Judge once more on fresh numbers, claim, and insert the order as `sending`. None when it was voided instead.

    Raises Outrun (another execution has taken over), WrongState or StaleVersion (another claim was first).
    """
    with transaction.atomic():
        held.require()
        state = risk.trading_state(proposal.venue, lock=True)
        reason = _stopped_since(proposal, state) or _reason_not_to_send(proposal, rules)
        if reason:
            proposals.void(proposal=proposal, reason=reason)
            return None
        claimed = decisions.claim(proposal=proposal)
        order = _unsent(claimed, risk.facts_of(claimed.ticker), deployment, rules)
        body = _body(order)
        order.body, order.body_hash = body.decode(), hashlib.sha256(body).hexdigest()
        order.kill_epoch, order.fence = state.kill_epoch, held.fence
        return _insert(order)


def _stopped_since(proposal: Proposal, state: TradingState) -> str:
    """A stop voids what was approved before it, also when trading was resumed in between; not a person's own exit."""
    stops = state.events.filter(
        to_state=TradingMode.HALTED, at__gte=proposal.decided_at or proposal.created_at
    )
    stopped = not proposal.is_manual_exit and stops.exists()
    return "E306: trading was stopped after the approval" if stopped else ""


def _reason_not_to_send(proposal: Proposal, rules: ClaimRules) -> str:
    """Why this approval must not be sent any more; empty when it may. An exception counts as a no."""
    approved_at = proposal.decided_at
    if approved_at is None or timezone.now() - approved_at > rules.approval_life:
        return "the approval was not claimed in time"
    unproven = (OrderState.SENDING, OrderState.UNKNOWN)  # sending: left so by a process that died
    if Order.objects.filter(venue=proposal.venue, ticker=proposal.ticker, state__in=unproven).exists():
        return "E610: an order in this market has an unknown outcome"
    try:
        report = risk.check_order(
            venue=proposal.venue,
            terms=proposal.terms,
            reduce_only=proposal.reduce_only,
            manual_exit=proposal.is_manual_exit,
            excluding=proposal.public_id,
        )
    except Exception as error:  # fail closed: what cannot be judged is not sent
        return f"could not be judged: {error}"
    return "; ".join(f"{check.code} {check.label}: {check.text}" for check in report.blocks)


def _unsent(proposal: Proposal, market: MarketFacts, deployment: uuid.UUID, rules: ClaimRules) -> Order:
    """The order row of a claimed proposal. Exits, and orders that would outlive the market, are immediate-or-cancel."""
    now = timezone.now()
    expires_at = (now + max(rules.order_life, LEAST_LIFE)).replace(microsecond=0)
    immediate = proposal.reduce_only or expires_at >= market.close_at
    return Order(
        public_id=new_id("ord"),
        proposal=proposal,
        venue=proposal.venue,
        client_order_id=client_order_id(
            venue=proposal.venue, deployment=deployment, proposal_id=proposal.public_id
        ),
        state=OrderState.SENDING.value,
        evidence="claimed",
        ticker=proposal.ticker,
        event_ticker=proposal.event_ticker,
        title=proposal.title,
        exchange_index=market.exchange_index,
        action=proposal.action,
        side=proposal.side,
        quantity=proposal.quantity,
        limit_price=proposal.limit_price,
        time_in_force=(TimeInForce.IOC if immediate else TimeInForce.GTC).value,
        reduce_only=proposal.reduce_only,
        expires_at=None if immediate else expires_at,
        remaining_quantity=proposal.quantity,
        attempts=1,
        signed_at=now,
        answer_due_at=now + ANSWER_WITHIN,
    )


def _body(order: Order) -> bytes:
    terms = order.terms
    return create_body(
        ticker=order.ticker,
        client_order_id=order.client_order_id,
        book_side=terms.book_side,
        quantity=order.quantity,
        yes_price=terms.yes_price,
        time_in_force=TimeInForce(order.time_in_force),
        expires_at=order.expires_at,
        reduce_only=order.reduce_only,
        exchange_index=order.exchange_index,
    )


def _insert(order: Order) -> Order:
    order.save(force_insert=True)
    OrderEvent.objects.create(
        order=order, version=order.version, to_state=order.state, actor="execution", reason="claimed"
    )
    live.changed("orders", key=order.public_id, version=order.version, kind=order.state)
    return order
