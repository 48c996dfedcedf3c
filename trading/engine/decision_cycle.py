"""One look for trades: brief the analyst on the open markets and put its best ideas before a person.

No lock is held while the analyst thinks. What it saw is frozen into the proposal, by version; an idea whose world has
changed meanwhile is dropped (`World`), and the gateway judges the others again on fresh numbers.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from django.db import IntegrityError, transaction
from django.utils import timezone

from approvals.domain.policy import Origin
from approvals.models import Proposal
from approvals.proposals import Draft, submit
from kalshi_site import locks
from portfolio import ledger, risk
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.domain.limits import TradingMode
from portfolio.models import Position
from portfolio.risk import World
from trading.agent.schemas import Analyst, MarketBrief, Refusal
from trading.domain.fees import UnknownFee
from trading.engine.briefs import briefs_of, prints_of
from trading.engine.ideas import USUAL, Appetite, Idea, entry_idea, exit_idea
from trading.exchange.reports import PublicTrade
from trading.models import Cycle, Market, Order
from trading.models.cycle import slot_of

log = logging.getLogger(__name__)

LOOP = "decision"
STRATEGY = "fair-value"
TTL = timedelta(seconds=15)


class PublicTrades(Protocol):
    """What the cycle asks of the exchange: all markets' recent trades in one read."""

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]: ...


@dataclass(slots=True)
class Round:
    """What one cycle did, for the record: why there was no trade is a question people ask."""

    studied: int = 0
    proposed: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"studied {self.studied}, proposed {len(self.proposed)}"


def decision_cycle(
    *, venue: str, analyst: Analyst, public: PublicTrades, appetite: Appetite = USUAL
) -> Round | None:
    """Run this time slot's look, once. None when the slot is taken, held elsewhere, or trading is not active."""
    cycle = _take_slot(appetite.interval)
    if cycle is None:
        return None
    done = Round()
    try:
        if TradingMode(risk.trading_state(venue).mode) is not TradingMode.ACTIVE:
            done.reasons["trading is paused or stopped"] += 1
        elif risk.level_of(venue) is AutonomyLevel.OFF:
            done.reasons["the autonomy level is off"] += 1
        else:
            _look(venue, analyst, public, appetite, cycle, done)
    finally:
        Cycle.objects.filter(pk=cycle.pk).update(
            finished_at=timezone.now(), outcome=str(done), detail={"reasons": dict(done.reasons)}
        )
    return done


def _take_slot(interval: timedelta) -> Cycle | None:
    now = timezone.now()
    try:
        with locks.hold(LOOP, ttl=TTL, needs_redis=True) as held, transaction.atomic():
            held.require()
            return Cycle.objects.create(
                loop=LOOP, slot=slot_of(now, interval), fence=held.fence, started_at=now
            )
    except (locks.Busy, locks.Outrun, IntegrityError) as error:
        log.info("decision_cycle.skipped", extra={"reason": str(error)})
        return None


def _look(
    venue: str, analyst: Analyst, public: PublicTrades, appetite: Appetite, cycle: Cycle, done: Round
) -> None:
    room = appetite.most_pending - Proposal.objects.filter(venue=venue).decidable().count()
    if room <= 0:
        done.reasons["enough ideas wait for a decision"] += 1
        return
    now, world = timezone.now(), World.now(venue)
    prints = prints_of(public.trades(since=now - appetite.window))
    briefs = briefs_of(list(Market.objects.open(now).select_related("quote")), prints)
    busy = _busy(venue, now, appetite)
    ideas = _ideas(venue, analyst, [b for b in briefs if b.facts.ticker not in busy], appetite, done)
    for idea in sorted(ideas, key=lambda each: each.edge, reverse=True)[: min(room, appetite.per_cycle)]:
        _propose(venue, analyst, idea, appetite, cycle, world, done)


def _busy(venue: str, now: datetime, appetite: Appetite) -> set[str]:
    """Markets with an idea waiting or recent, or with an order under way."""
    proposals = Proposal.objects.filter(venue=venue)
    return {
        *proposals.decidable().values_list("ticker", flat=True),
        *proposals.filter(created_at__gt=now - appetite.rest).values_list("ticker", flat=True),
        *Order.objects.open().filter(venue=venue).values_list("ticker", flat=True),
    }


def _ideas(
    venue: str, analyst: Analyst, briefs: list[MarketBrief], appetite: Appetite, done: Round
) -> list[Idea]:
    # Between its close and its settlement a held market has no bid: what it may bring is not wagered again meanwhile.
    equity = ledger.valuation(venue).at_least
    held: dict[str, Decimal] = dict(Position.objects.held(venue).values_list("ticker", "quantity"))
    ideas = []
    for brief in briefs:
        done.studied += 1
        idea = _study(analyst, brief, held.get(brief.facts.ticker, Decimal(0)), equity, appetite)
        if isinstance(idea, Refusal):
            done.reasons[idea.reason] += 1
        else:
            ideas.append(idea)
    return ideas


def _study(
    analyst: Analyst, brief: MarketBrief, held: Decimal, equity: Decimal, appetite: Appetite
) -> Idea | Refusal:
    """Ask the analyst about one market. A refusal, an error or odd output is no idea, never a trade."""
    if brief.facts.close_at - timezone.now() < appetite.least_time_to_close:
        return Refusal("too near to the close")
    try:
        forecast = analyst.study(brief)
        if isinstance(forecast, Refusal):
            return forecast
        return exit_idea(brief, forecast, held, appetite) or entry_idea(
            brief, forecast, held, equity, appetite
        )
    except UnknownFee:
        return Refusal("its fee is not in the API")
    except Exception:  # an analyst may fail in any way; none of them is a reason to trade
        log.exception("analyst.broke", extra={"ticker": brief.facts.ticker})
        return Refusal("the analyst failed")


def _propose(
    venue: str, analyst: Analyst, idea: Idea, appetite: Appetite, cycle: Cycle, world: World, done: Round
) -> None:
    """Store one idea, under the lock again: of two cycles that overlap only the newer may write."""
    draft = Draft(
        venue=venue,
        terms=idea.terms,
        origin=Origin.AGENT,
        proposer=analyst.name,
        strategy=STRATEGY,
        time_to_decide=appetite.time_to_decide,
        reduce_only=idea.reduce_only,
        rules_text=idea.brief.rules_text,
        forecast={**idea.forecast.as_json(), "edge": str(idea.edge)},
        seen_versions={"cycle": cycle.pk, **world.seen(idea.brief.facts)},
        idea_key=f"{LOOP}:{cycle.slot}:{idea.terms.ticker}",
    )
    try:
        with locks.hold(LOOP, ttl=TTL, needs_redis=True) as held, transaction.atomic():
            held.require()
            if reason := _overtaken(venue, idea, cycle, world):
                done.reasons[reason] += 1
                return
            done.proposed.append(submit(draft).public_id)
    except (locks.Busy, locks.Outrun):
        done.reasons["the lock was taken"] += 1


def _overtaken(venue: str, idea: Idea, cycle: Cycle, world: World) -> str:
    """Why the idea comes too late; "" when it stands. Locks the trading state, so that it stands until it is stored."""
    if Cycle.objects.filter(loop=LOOP, slot__gt=cycle.slot).exists():
        return "a newer cycle has begun"
    risk.trading_state(venue, lock=True)
    return world.change(World.now(venue), idea.brief.facts, STRATEGY)
