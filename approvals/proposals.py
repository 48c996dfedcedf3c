"""Putting an idea before a person: submit, withdraw, expire, void."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from approvals.domain.lifecycle import ProposalState, require_move, terms_hash
from approvals.domain.policy import Origin, Policy, Ruling, decide
from approvals.models import BY_POLICY, Proposal, ProposalEvent
from approvals.signals import proposal_approved
from kalshi_site import audit, live, prepared
from kalshi_site.identity import new_id
from kalshi_site.versioning import StaleVersion, compare_and_set
from portfolio import risk
from portfolio.domain.limits import RiskReport
from trading.domain.markets import MarketFacts
from trading.domain.orders import Action, Side, Terms
from trading.domain.prices import PRICE_STEP

CLOSE_SLIPPAGE = Decimal("0.02")  # dollars below the bid that an exit by hand may sell at


@dataclass(frozen=True, slots=True)
class Draft:
    """What a proposer hands in. `idea_key` makes a repeated hand-in (a redelivered task) find the first row.

    `clone_of` is what it repeats: the idea stays its proposer's, and `asked_by` is the person who wants it once more.
    """

    venue: str
    terms: Terms
    origin: Origin
    proposer: str
    time_to_decide: timedelta
    strategy: str = ""
    reduce_only: bool = False
    rules_text: str = ""
    forecast: dict[str, Any] = field(default_factory=dict)
    seen_versions: dict[str, Any] = field(default_factory=dict)
    idea_key: str | None = None
    note: str = ""
    clone_of: Proposal | None = None
    asked_by: str = ""


def submit(draft: Draft) -> Proposal:
    """Judge the draft and store it: denied by our rules, pending a person, or approved (a person's own exit).

    The deadline is the earlier of now + `time_to_decide` and the market's close. Raises UnknownMarket, and UnknownFee
    for what opens a position.
    """
    try:
        with transaction.atomic():
            return _submit(draft)
    except IntegrityError:
        first = Proposal.objects.filter(idea_key=draft.idea_key).first() if draft.idea_key else None
        if first is None:
            raise
        return first


def _submit(draft: Draft) -> Proposal:
    state = risk.trading_state(draft.venue, lock=True)
    market = risk.facts_of(draft.terms.ticker)
    report = risk.check_order(
        venue=draft.venue,
        terms=draft.terms,
        market=market,
        reduce_only=draft.reduce_only,
        manual_exit=draft.origin is Origin.CLOSE,
        strategy=draft.strategy,
    )
    ruling = _ruling(draft, report)
    proposal = Proposal.objects.create(kill_epoch=state.kill_epoch, **_row(draft, market, report, ruling))
    if ruling.policy is Policy.AUTO:
        risk.reserve(
            venue=draft.venue,
            key=proposal.public_id,
            terms=draft.terms,
            event_ticker=market.event_ticker,
            report=report,
        )
        announce_approval(proposal)  # noted first, so that execution is woken before pages are told
    reason = (
        "; ".join(f"{check.label}: {check.text}" for check in report.blocks) or ruling.reason or draft.note
    )
    remember(
        proposal,
        before="",
        actor=draft.asked_by or draft.proposer,
        reason=reason,
        person=bool(draft.asked_by) or draft.origin is not Origin.AGENT,
    )
    return proposal


def _ruling(draft: Draft, report: RiskReport) -> Ruling:
    """Read under the trading state's lock, as the level is changed: two drafts cannot both use the budget's last."""
    now = timezone.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spent = Proposal.objects.all().unattended_notional(draft.venue, today)
    mandate = risk.mandate(draft.venue, spent=spent, now=now)
    return decide(report, draft.origin, draft.terms.notional, mandate, is_repeat=draft.clone_of is not None)


def _row(draft: Draft, market: MarketFacts, report: RiskReport, ruling: Ruling) -> dict[str, Any]:
    now, policy = timezone.now(), ruling.policy
    state = {
        Policy.DENY: ProposalState.DENIED,
        Policy.ASK: ProposalState.PENDING,
        Policy.AUTO: ProposalState.APPROVED,
    }[policy]
    decided = policy is not Policy.ASK
    book, terms = market.book, draft.terms
    return {
        "public_id": new_id("prop"),
        "venue": draft.venue,
        "state": state.value,
        "origin": draft.origin.value,
        "ticker": terms.ticker,
        "event_ticker": market.event_ticker,
        "series_ticker": market.series_ticker,
        "title": market.title,
        "rules_text": draft.rules_text,
        "close_at": market.close_at,
        "action": terms.action.value,
        "side": terms.side.value,
        "quantity": terms.quantity,
        "limit_price": terms.limit_price,
        "reduce_only": draft.reduce_only,
        "terms_hash": terms_hash(terms, reduce_only=draft.reduce_only, venue=draft.venue),
        "proposer": draft.proposer,
        "strategy": draft.strategy,
        "idea_key": draft.idea_key,
        "clone_of": draft.clone_of,
        "quote": {
            "yes_bid": None if book.yes_bid is None else str(book.yes_bid),
            "yes_ask": None if book.yes_ask is None else str(book.yes_ask),
            "yes_bid_quantity": str(book.yes_bid_quantity),
            "yes_ask_quantity": str(book.yes_ask_quantity),
            "as_of": None if book.as_of is None else book.as_of.isoformat(),
        },
        "forecast": draft.forecast,
        "risk_report": report.as_json(),
        "seen_versions": draft.seen_versions,
        "risk_level": report.level.value,
        "deadline_at": min(now + draft.time_to_decide, market.close_at),
        "required_approvals": 0 if policy is Policy.AUTO else 1,
        "decided_at": now if decided else None,
        "decided_by": _decided_by(draft, policy),
        "decision_reason": "; ".join(f"{check.label}: {check.text}" for check in report.blocks)
        or ruling.reason,
    }


def _decided_by(draft: Draft, policy: Policy) -> str:
    if policy is Policy.AUTO:
        return BY_POLICY if draft.origin is Origin.AGENT else draft.proposer
    return "risk gateway" if policy is Policy.DENY else ""


class NothingHeld(Exception):
    """There is no position to close in this market."""

    code = "E212"

    def __init__(self, ticker: str) -> None:
        super().__init__(f"nothing is held in {ticker}")


class NobodyBids(Exception):
    """There is no price at which the position could be sold now."""

    code = "E310"

    def __init__(self, ticker: str) -> None:
        super().__init__(f"nobody bids for what is held in {ticker}; wait for a bid or for the settlement")


def close_position(
    *,
    venue: str,
    ticker: str,
    actor: str,
    quantity: Decimal | None = None,
    floor: Decimal | None = None,
    bid: Decimal | None = None,
    idea_key: str | None = None,
) -> Proposal:
    """A person's own way out: sell `quantity` (default: all) of what is held, at `floor` or better.

    Without a floor: at most CLOSE_SLIPPAGE below the bid. Who has read the book elsewhere names its best bid; without
    `bid` our own quote's counts.

    It needs no second voice and passes a pause and a stop. Returns the approved proposal; execution sends it as
    immediate-or-cancel, reduce-only. Raises NothingHeld, NobodyBids, UnknownMarket; Denied when the market is closed.
    """
    world = risk.World.now(venue, ticker=ticker)
    held = risk.portfolio_facts(venue, risk.facts_of(ticker)).held
    wanted = abs(held) if quantity is None else min(quantity, abs(held))
    if wanted <= 0:
        raise NothingHeld(ticker)
    facts, side = risk.facts_of(ticker), Side.YES if held > 0 else Side.NO
    bid = facts.book.bid(side) if bid is None else bid
    if bid is None or (floor is not None and bid < floor):
        raise NobodyBids(ticker)
    worst = max(bid - CLOSE_SLIPPAGE, PRICE_STEP) if floor is None else floor
    grid = facts.grid if side is Side.YES else facts.grid.complement()
    terms = Terms(
        ticker,
        Action.SELL,
        side,
        wanted,
        (grid.floor(worst) if floor is None else grid.ceil(worst)) or bid,
    )
    draft = Draft(
        venue=venue,
        terms=terms,
        origin=Origin.CLOSE,
        proposer=actor,
        time_to_decide=timedelta(minutes=1),
        reduce_only=True,
        seen_versions=world.seen(facts),
        note="closed by hand",
        idea_key=idea_key,
    )
    with transaction.atomic():
        risk.require(risk.check_order(venue=venue, terms=terms, reduce_only=True, manual_exit=True))
        return submit(draft)


def withdraw(*, proposal: Proposal, actor: str, reason: str, version: int | None = None) -> Proposal:
    """The proposer takes the idea back. Raises WrongState, StaleVersion."""
    with transaction.atomic():
        return move(proposal, ProposalState.WITHDRAWN, actor=actor, reason=reason, version=version)


def expire_due(*, now: datetime | None = None) -> list[Proposal]:
    """Expire what nobody decided in time. A row that a decision wins in the same moment is left alone."""
    expired = []
    for proposal in Proposal.objects.due(now or timezone.now()):
        try:
            with transaction.atomic():
                expired.append(
                    move(proposal, ProposalState.EXPIRED, actor="deadline", reason="nobody decided in time")
                )
        except StaleVersion:
            continue  # somebody decided first: the database ordered the race
    return expired


def void(*, proposal: Proposal, reason: str, actor: str = "execution") -> Proposal:
    """An approved proposal will not be sent after all. Releases its reservation. Raises WrongState, StaleVersion."""
    with transaction.atomic():
        fresh = move(proposal, ProposalState.VOIDED, actor=actor, reason=reason)
        risk.release(key=fresh.public_id)
        return fresh


def move(
    proposal: Proposal,
    state: ProposalState,
    *,
    actor: str,
    reason: str = "",
    version: int | None = None,
    person: bool = False,
    guard: dict[str, Any] | None = None,
    **changes: Any,
) -> Proposal:
    """Change a proposal's state, with history, audit and announcement. The only place that writes `state`.

    Call inside a transaction.
    Raises WrongState when the table forbids the move, StaleVersion when somebody else moved it first.
    """
    require_move(ProposalState(proposal.state), state)
    decision = {"decided_at": timezone.now(), "decided_by": actor, "decision_reason": reason}
    if state in (ProposalState.HALF_APPROVED, ProposalState.CLAIMED, ProposalState.VOIDED):
        decision = {}
    fresh = compare_and_set(
        proposal,
        version=version,
        guard={"state": proposal.state, **(guard or {})},
        reread=False,  # a proposal changes with its version alone
        state=state.value,
        **{**decision, **changes},
    )
    remember(fresh, before=proposal.state, actor=actor, reason=reason, person=person)
    return fresh


def remember(proposal: Proposal, *, before: str, actor: str, reason: str, person: bool = False) -> None:
    """Write the history row, the audit row and the numbered announcement of a move."""
    event = ProposalEvent(
        proposal=proposal,
        version=proposal.version,
        from_state=before,
        to_state=proposal.state,
        actor=actor,
        reason=reason,
    )
    prepared.insert(event)
    audit.record(
        actor=actor,
        actor_kind="person" if person else "agent" if not before else "system",
        verb=f"proposal.{proposal.state}",
        object_type="proposal",
        object_id=proposal.public_id,
        reason=reason,
        version=proposal.version,
    )
    live.changed("proposals", key=proposal.public_id, version=proposal.version, kind=proposal.state)


def announce_approval(proposal: Proposal) -> None:
    """Wake execution once the approval is committed."""
    transaction.on_commit(
        lambda: proposal_approved.send_robust(sender=Proposal, proposal_id=proposal.public_id)
    )
