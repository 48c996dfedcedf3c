"""One look for trades: brief the analyst on the open markets and put its best ideas before a person.

No lock is held while the analyst thinks. What it saw is frozen into the proposal, and the gateway judges again on fresh
numbers when the proposal is stored.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
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
from portfolio.domain.limits import TradingMode
from portfolio.models import Position
from trading.agent.schemas import Analyst, Forecast, MarketBrief, Print, Refusal, Rung
from trading.domain import sizing
from trading.domain.fees import UnknownFee, estimate
from trading.domain.markets import MarketFacts
from trading.domain.orders import Action, Side, Terms
from trading.exchange.reports import PublicTrade
from trading.models import Cycle, Market, Order
from trading.models.cycle import slot_of
from trading.models.quote import facts_from

log = logging.getLogger(__name__)

LOOP = "decision"
STRATEGY = "fair-value"
TTL = timedelta(seconds=15)


class PublicTrades(Protocol):
    """What the cycle asks of the exchange: all markets' recent trades in one read."""

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]: ...


@dataclass(frozen=True, slots=True)
class Appetite:
    """How eager the strategy is. Dollars and probabilities; the gateway's limits stand above all of it."""

    interval: timedelta = timedelta(seconds=15)
    time_to_decide: timedelta = timedelta(minutes=5)
    least_edge: Decimal = Decimal("0.0125")
    most_edge: Decimal = Decimal(
        "0.25"
    )  # a larger one is a data error until shown otherwise (FIELD.md 3, rule 16)
    kelly_share: Decimal = Decimal("0.2")
    keep_edge: Decimal = Decimal("0.01")  # of the edge, what the limit may not give away to a moving price
    reach: Decimal = Decimal("0.02")  # how far past the touch the limit may go while a person decides
    most_notional: Decimal = Decimal(140)
    most_pending: int = 8
    per_cycle: int = 2
    rest: timedelta = timedelta(minutes=3)  # no second idea on a market within this time
    least_time_to_close: timedelta = timedelta(minutes=2)
    window: timedelta = timedelta(minutes=6)


@dataclass(frozen=True, slots=True)
class Idea:
    """A trade worth proposing: the terms, what it rests on, and its edge in dollars per contract after fee."""

    brief: MarketBrief
    forecast: Forecast
    terms: Terms
    edge: Decimal
    reduce_only: bool = False


@dataclass(slots=True)
class Round:
    """What one cycle did, for the record: why there was no trade is a question people ask."""

    studied: int = 0
    proposed: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"studied {self.studied}, proposed {len(self.proposed)}"


def decision_cycle(
    *, venue: str, analyst: Analyst, public: PublicTrades, appetite: Appetite = Appetite()
) -> Round | None:
    """Run this time slot's look, once. None when the slot is taken, held elsewhere, or trading is not active."""
    cycle = _take_slot(appetite.interval)
    if cycle is None:
        return None
    done = Round()
    try:
        if TradingMode(risk.trading_state(venue).mode) is not TradingMode.ACTIVE:
            done.reasons["trading is paused or stopped"] += 1
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
    now = timezone.now()
    prints = _prints(public.trades(since=now - appetite.window))
    briefs = _briefs(list(Market.objects.open(now).select_related("quote")), prints)
    busy = _busy(venue, now, appetite)
    ideas = _ideas(venue, analyst, [b for b in briefs if b.facts.ticker not in busy], appetite, done)
    for idea in sorted(ideas, key=lambda each: each.edge, reverse=True)[: min(room, appetite.per_cycle)]:
        _propose(venue, analyst, idea, appetite, cycle, done)


def _busy(venue: str, now: datetime, appetite: Appetite) -> set[str]:
    """Markets with an idea waiting or recent, or with an order under way."""
    proposals = Proposal.objects.filter(venue=venue)
    return {
        *proposals.decidable().values_list("ticker", flat=True),
        *proposals.filter(created_at__gt=now - appetite.rest).values_list("ticker", flat=True),
        *Order.objects.open().filter(venue=venue).values_list("ticker", flat=True),
    }


def _prints(trades: Iterable[PublicTrade]) -> dict[str, list[Print]]:
    by_market: dict[str, list[Print]] = defaultdict(list)
    for trade in sorted(trades, key=lambda each: each.at, reverse=True):
        by_market[trade.ticker].append(Print(trade.price, trade.quantity, trade.taker_side, trade.at))
    return by_market


def _briefs(markets: list[Market], prints: Mapping[str, list[Print]]) -> list[MarketBrief]:
    facts = {row.ticker: facts_from(row) for row in markets}
    rows: dict[str, list[Market]] = defaultdict(list)
    for row in markets:
        rows[row.event_ticker].append(row)
    return [
        MarketBrief(
            facts=facts[row.ticker],
            rules_text=row.rules_text,
            category=row.category,
            mutually_exclusive=row.mutually_exclusive,
            bids=_levels(row, "bids"),
            asks=_levels(row, "asks"),
            prints=tuple(prints.get(row.ticker, ())),
            siblings=tuple(facts[r.ticker] for r in rows[row.event_ticker] if r is not row),
            strike=_strike(row),
            ladder=_ladder(row, rows[row.event_ticker], facts),
        )
        for row in markets
    ]


def _strike(row: Market) -> Decimal | None:
    """The strike of a market that resolves YES at or above it; None for every other kind."""
    rises = row.strike_type in ("greater", "greater_or_equal") and not row.mutually_exclusive
    return Decimal(row.floor_strike) if rises and row.floor_strike else None


def _ladder(row: Market, event: list[Market], facts: Mapping[str, MarketFacts]) -> tuple[Rung, ...]:
    others = [(_strike(other), facts[other.ticker].book.mid) for other in event if other is not row]
    return tuple(Rung(strike, mid) for strike, mid in others if strike is not None and mid is not None)


def _levels(row: Market, side: str) -> tuple[tuple[Decimal, Decimal], ...]:
    levels = row.quote.levels if hasattr(row, "quote") else {}
    return tuple((Decimal(price), Decimal(count)) for price, count in levels.get(side, ()))


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


def entry_idea(
    brief: MarketBrief, forecast: Forecast, held: Decimal, equity: Decimal, appetite: Appetite
) -> Idea | Refusal:
    """Buy the side whose ask is furthest below the forecast, if that pays after the fee."""
    facts = brief.facts
    offers = [
        (sizing.edge(forecast.probability, price, side, facts.fees), side, price)
        for side in Side
        if (price := facts.book.ask(side)) is not None
    ]
    edge, side, price = max(offers)
    if edge < appetite.least_edge:
        return Refusal("no edge after the fee")
    if edge > appetite.most_edge:
        return Refusal("an edge too large to be true")
    if held and (held > 0) != (side is Side.YES):
        return Refusal("the other side is held")
    limit = _limit(facts, side, price, edge, appetite)
    quantity = sizing.contracts(
        equity=equity,
        share=sizing.kelly_share(forecast.probability, price, side) * appetite.kelly_share,
        price=limit,
        most_notional=appetite.most_notional,
        available=facts.book.ask_quantity(side),
    )
    if quantity < 1:
        return Refusal("too little on offer")
    return Idea(brief, forecast, Terms(facts.ticker, Action.BUY, side, quantity, limit), edge)


def _limit(facts: MarketFacts, side: Side, price: Decimal, edge: Decimal, appetite: Appetite) -> Decimal:
    """The worst price still worth paying: prices move while a person decides. Never worse than the touch plus reach."""
    grid = facts.grid if side is Side.YES else facts.grid.complement()
    worst = price + min(appetite.reach, edge - appetite.keep_edge)
    return max(grid.floor(worst) or price, price)


def exit_idea(brief: MarketBrief, forecast: Forecast, held: Decimal, appetite: Appetite) -> Idea | None:
    """Sell what is held when somebody bids more than it is thought to be worth, after the fee."""
    if held == 0:
        return None
    facts, side = brief.facts, Side.YES if held > 0 else Side.NO
    bid = facts.book.bid(side)
    if bid is None:
        return None
    worth = forecast.probability if side is Side.YES else 1 - forecast.probability
    edge = bid - worth - estimate(facts.fees, bid, Decimal(1))
    if not appetite.least_edge <= edge <= appetite.most_edge:
        return None
    quantity = min(abs(held), facts.book.bid_quantity(side))
    return Idea(brief, forecast, Terms(facts.ticker, Action.SELL, side, quantity, bid), edge, True)


def _propose(venue: str, analyst: Analyst, idea: Idea, appetite: Appetite, cycle: Cycle, done: Round) -> None:
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
        seen_versions={"cycle": cycle.pk, "quote_as_of": str(idea.brief.facts.book.as_of)},
        idea_key=f"{LOOP}:{cycle.slot}:{idea.terms.ticker}",
    )
    try:
        with locks.hold(LOOP, ttl=TTL, needs_redis=True) as held, transaction.atomic():
            held.require()
            if Cycle.objects.filter(loop=LOOP, slot__gt=cycle.slot).exists():
                done.reasons["a newer cycle has begun"] += 1
                return
            done.proposed.append(submit(draft).public_id)
    except (locks.Busy, locks.Outrun):
        done.reasons["the lock was taken"] += 1
