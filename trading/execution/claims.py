"""From an approved proposal to an order row that may be sent: one transaction, committed before the first byte."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from approvals import decisions, proposals
from approvals.models import Decision, Proposal
from kalshi_site import live
from kalshi_site.identity import new_id
from kalshi_site.locks import Held
from kalshi_site.prepared import insert, prepared
from portfolio import risk
from portfolio.domain import scopes
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.models import TradingState
from portfolio.risk import Over
from trading.domain.expiry import expiry_from
from trading.domain.markets import MarketFacts
from trading.domain.orders import OrderState, TimeInForce
from trading.exchange.orders import create_body
from trading.execution import throttle
from trading.execution.checkpoints import reached
from trading.execution.last_look import hash_of, hash_of_terms, stopped_since
from trading.models import Order, OrderEvent, OrderGroup

ANSWER_WITHIN = timedelta(seconds=5)
ORDER_KNOWN = "could not be claimed: an order under this approval's id is known already"
EXIT_LIFE = timedelta(minutes=5)  # of a person's own exit without a claim: nobody's clock shall keep us in
LEAST_LIFE = timedelta(seconds=30)  # a past expiry may act as immediate-or-cancel (RELIABILITY.md, A8)


class NetMissing(Exception):
    """The shard of an opening order has no order group yet: nothing opens without its net."""

    def __init__(self, exchange_index: int) -> None:
        super().__init__(f"shard {exchange_index} has no order group")
        self.exchange_index = exchange_index


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """How long an approval may wait for its claim; how far ahead an order's expiry lies; how long it may rest in all.

    `order_life` is renewed again and again (`trading.execution.renewal`), `lifetime` is what was approved.
    """

    approval_life: timedelta = timedelta(seconds=60)
    order_life: timedelta = timedelta(seconds=120)
    lifetime: timedelta = timedelta(seconds=300)
    least_life: timedelta = LEAST_LIFE
    orders_per_minute: int | None = None  # that open something
    needs_group: bool = False  # of an order that opens something


def client_order_id(*, venue: str, deployment: uuid.UUID, proposal_id: str) -> str:
    """Derived from the approval, never drawn: after a crash or a restore it can be computed again.

    `k`, the environment's letter, and a UUID in the deployment's own namespace; at most 64 allowed characters.
    """
    return f"{mark_of(venue)}{uuid.uuid5(deployment, f'{venue}|{proposal_id}|1')}"


def mark_of(venue: str) -> str:
    """What the client ids of this desk's kind begin with in an environment: strangers' do not."""
    return f"k{venue[0]}-"


def claim(
    proposal: Proposal,
    *,
    held: Held,
    deployment: uuid.UUID,
    rules: ClaimRules,
    clock: Callable[[], datetime] = timezone.now,
    build: str = "",
    only_void: bool = False,
) -> Order | None:
    """Judge once more on fresh numbers, claim, and insert the order as `sending`. None when it was voided instead,
    or must wait.

    `clock` is the exchange's time: the order is signed by it and its expiry is counted from it. `only_void`: it may not
    be sent now, and is looked at only for a reason why it never will be.

    Raises Outrun (another execution has taken over), OtherBuild (this code may not claim; a person's own exit passes),
    NetMissing (it waits until its net is made), WrongState or StaleVersion (another claim was first).
    """
    with transaction.atomic():
        held.require()
        state = risk.trading_state(proposal.venue, lock=True)
        if _is_quiet(state) and not proposal.is_manual_exit:
            return None  # the exchange might cancel it with all others; it waits
        # The bytes are made of the row as it is now.
        fresh = _now(proposal.pk)[0]
        if not fresh.is_manual_exit:
            risk.require_build(state, build)
        market = risk.market_facts([fresh.ticker]).get(fresh.ticker)
        group = _group_for(fresh, market)
        reason = _reason_to_void(fresh, market, group, state, rules)
        if reason or market is None:
            proposals.void(proposal=fresh, reason=reason)
            return None
        order = _unsent(fresh, market, deployment, rules, clock())
        body = _body(order, group)
        if hash_of_terms(body, fresh) != fresh.terms_hash:
            proposals.void(proposal=fresh, reason="E208: the bytes say something else than what was approved")
            return None
        if only_void:
            return None
        if rules.needs_group and group is None and not fresh.reduce_only:
            raise NetMissing(market.exchange_index)
        reached("judged")
        order.proposal = decisions.claim(proposal=fresh)
        order.body, order.body_hash = body.decode(), hash_of(body)
        order.kill_epoch, order.fence = state.kill_epoch, held.fence
        inserted = _insert(order)
        reached("inserted")
        return inserted


def _reason_to_void(
    proposal: Proposal,
    market: MarketFacts | None,
    group: OrderGroup | None,
    state: TradingState,
    rules: ClaimRules,
) -> str:
    """The first reason why this approval will never be sent; empty when none stands against it."""
    over = risk.over(proposal.venue, _covering(proposal, market))
    return (
        stopped_since(proposal, over)
        or _lost_mandate(proposal)
        or _not_as_approved(proposal)
        or _net_tripped(group)
        or _reason_not_to_send(proposal, market, state, over, rules)
        or _too_many(proposal, state, rules)
    )


@prepared
def _now(pk: int) -> QuerySet[Proposal]:
    return Proposal.objects.terms_alone().filter(pk=pk)


@prepared
def _approvals(proposal: int, terms_hash: str) -> QuerySet[Decision, int]:
    rows = Decision.objects.filter(proposal_id=proposal, terms_hash=terms_hash)
    return rows.filter(verdict=Decision.Verdict.APPROVE).values_list("pk", flat=True)


@prepared
def _doubtful(venue: str, ticker: str) -> QuerySet[Order, int]:
    unproven = (OrderState.SENDING, OrderState.UNKNOWN)  # sending: left so by a process that died
    rows = Order.objects.filter(venue=venue, ticker=ticker, state__in=unproven)
    return rows.values_list("pk", flat=True)[:1]


def _covering(proposal: Proposal, market: MarketFacts | None) -> set[str]:
    """The scopes it was proposed in, and the series that the catalogue names now, should that have been corrected."""
    series = "" if market is None else market.series_ticker
    return {*proposal.scopes, *scopes.covering(strategy="", series=series, market="")}


def _lost_mandate(proposal: Proposal) -> str:
    """What no person approved goes out only while the autonomy level still says so: lowering it works at once."""
    lost = proposal.is_unattended and risk.level_of(proposal.venue) is not AutonomyLevel.AUTO
    return "E314: the autonomy level was lowered after the approval" if lost else ""


def _not_as_approved(proposal: Proposal) -> str:
    """The approvals are of these very terms, and there are enough of them; a person's own exit needs none."""
    if not proposal.is_genuine:
        return "E208: the terms were changed after the hash was made of them"
    if len(_approvals(proposal.pk, proposal.terms_hash)) < proposal.required_approvals:
        return "E208: nobody has approved these terms"
    return ""


def _reason_not_to_send(
    proposal: Proposal, market: MarketFacts | None, state: TradingState, over: Over, rules: ClaimRules
) -> str:
    """Why this approval must not be sent any more; empty when it may. An exception counts as a no."""
    waited_from = proposal.decided_at
    if waited_from is not None and state.quiet_until is not None:
        waited_from = max(waited_from, state.quiet_until)  # what had to wait has not waited of itself
    life = max(rules.approval_life, EXIT_LIFE) if proposal.is_manual_exit else rules.approval_life
    if waited_from is None or timezone.now() - waited_from > life:
        return "the approval was not claimed in time"
    # A person's own exit only reduces, and the exchange itself holds it to that: doubt does not block the way out.
    if not proposal.is_manual_exit and _doubtful(proposal.venue, proposal.ticker):
        return "E610: an order in this market has an unknown outcome"
    if market is None:
        return f"could not be judged: no market {proposal.ticker}"
    try:
        report = risk.check_order(
            venue=proposal.venue,
            terms=proposal.terms,
            market=market,
            reduce_only=proposal.reduce_only,
            manual_exit=proposal.is_manual_exit,
            excluding=proposal.public_id,
            strategy=proposal.strategy,
            mode=over.mode,
        )
    except Exception as error:  # fail closed: what cannot be judged is not sent
        return f"could not be judged: {error}"
    return "; ".join(f"{check.code} {check.label}: {check.text}" for check in report.blocks)


def _is_quiet(state: TradingState) -> bool:
    return state.quiet_until is not None and timezone.now() < state.quiet_until


def _group_for(proposal: Proposal, market: MarketFacts | None) -> OrderGroup | None:
    """The net that an opening order goes into. An exit goes into none: a tripped net must not keep us in."""
    if proposal.reduce_only or market is None:
        return None
    return OrderGroup.of_shard(proposal.venue, market.exchange_index)


def _net_tripped(group: OrderGroup | None) -> str:
    if group is None or group.tripped_at is None:
        return ""
    return f"E315: the order group has tripped: {group.reason}"


def _too_many(proposal: Proposal, state: TradingState, rules: ClaimRules) -> str:
    return "" if proposal.reduce_only else throttle.too_many(state, rules.orders_per_minute)


def _unsent(
    proposal: Proposal, market: MarketFacts, deployment: uuid.UUID, rules: ClaimRules, now: datetime
) -> Order:
    """The order row of a claimed proposal. Exits, and orders that would outlive the market, are immediate-or-cancel.

    `now` is the exchange's time; only how long we wait for its answer goes by our own.
    """
    ahead = max(rules.order_life, rules.least_life)
    good_until = min(now + max(rules.lifetime, ahead), market.close_at)
    immediate = proposal.reduce_only or now + ahead >= market.close_at
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
        expires_at=None if immediate else expiry_from(now, ahead=ahead, good_until=good_until),
        good_until=None if immediate else good_until,
        remaining_quantity=proposal.quantity,
        attempts=1,
        signed_at=now,
        answer_due_at=timezone.now() + ANSWER_WITHIN,
    )


def _body(order: Order, group: OrderGroup | None) -> bytes:
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
        order_group_id=None if group is None else group.venue_group_id,
    )


def _insert(order: Order) -> Order:
    insert(order)
    insert(
        OrderEvent(
            order=order, version=order.version, to_state=order.state, actor="execution", reason="claimed"
        )
    )
    live.changed("orders", key=order.public_id, version=order.version, kind=order.state)
    return order
