"""From a forecast to a trade worth proposing: which side, how much, at which limit; or an exit from what is held."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from trading.agent.schemas import Forecast, MarketBrief, Refusal
from trading.domain import sizing
from trading.domain.fees import estimate
from trading.domain.markets import MarketFacts
from trading.domain.orders import Action, Side, Terms


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


USUAL = Appetite()


@dataclass(frozen=True, slots=True)
class Idea:
    """A trade worth proposing: the terms, what it rests on, and its edge in dollars per contract after fee."""

    brief: MarketBrief
    forecast: Forecast
    terms: Terms
    edge: Decimal
    reduce_only: bool = False


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
