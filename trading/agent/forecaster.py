"""The offline analyst: a modest strategy that needs no model and sees only public data.

It believes four things. What many people paid over the last minutes is a better guess than the last touch. Depth leans
where the next price goes. The strikes of one event are points of one distribution. The markets of a mutually exclusive
event add up to one. It trades only when a touch strays from that guess by more than fee and noise, which in practice is
when somebody pushed one price too far too fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading.agent.ladder import fit_at
from trading.agent.schemas import Claim, Forecast, MarketBrief, Print, Refusal
from trading.domain.prices import cents_text, percent_text

PRINTS_WANTED = 4
WINDOW = timedelta(minutes=6)
HALF_LIFE = timedelta(seconds=120)
WIDEST = Decimal("0.12")  # a wider spread says that nobody knows
EDGE_OF_BOOK = Decimal("0.04")  # below 4¢ and above 96¢ the fee formula and the noise eat every edge
STEP = Decimal("0.0001")
LEAST_RANGE = Decimal("0.01")
TRADE_NOISE = Decimal("0.03")  # how far single trades scatter around the fair price, in dollars
NEWS = Decimal("0.64")


@dataclass(frozen=True, slots=True)
class View:
    """One reason to believe in a probability: how much it counts, how unsure it is, and how to say it."""

    probability: Decimal
    weight: Decimal
    scatter: Decimal
    claim: Claim


@dataclass(frozen=True, slots=True)
class OfflineAnalyst:
    """Fair value from prints, depth, the event's other strikes and its sum. Deterministic."""

    name: str = "offline-analyst"
    prompt_version: str = "prints-depth-ladder-sum/3"

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        """Forecast, or say which public fact is missing."""
        book = brief.facts.book
        mid = book.mid
        if mid is None or book.yes_bid is None or book.yes_ask is None:
            return Refusal("one side of the book is empty")
        if book.yes_ask - book.yes_bid > WIDEST:
            return Refusal(f"the spread is {cents_text(book.yes_ask - book.yes_bid)}")
        if not EDGE_OF_BOOK < mid < 1 - EDGE_OF_BOOK:
            return Refusal("too near to 0 or 100 for an edge")
        views = [view for view in (_paid(brief, mid), _ladder(brief), _sum(brief, mid)) if view is not None]
        if not views:
            return Refusal("too few trades and no other strikes to compare with")
        return self._forecast([*views, _depth(brief, mid)])

    def _forecast(self, views: list[View]) -> Forecast:
        whole = sum((view.weight for view in views), Decimal(0))
        guess = sum((view.probability * view.weight for view in views), Decimal(0)) / whole
        guess = min(max(guess, STEP), 1 - STEP)
        apart = max(abs(view.probability - guess) for view in views)
        half = max(LEAST_RANGE, *(view.scatter for view in views))
        against = Claim(f"Against: the views lie up to {cents_text(apart.quantize(STEP))} apart.", "analyst")
        return Forecast(
            probability=guess.quantize(STEP),
            low=max(guess - half, Decimal(0)).quantize(STEP),
            high=min(guess + half, Decimal(1)).quantize(STEP),
            claims=(*(view.claim for view in views), against),
            model=self.name,
            prompt_version=self.prompt_version,
        )


def _paid(brief: MarketBrief, mid: Decimal) -> View | None:
    """What was paid lately; None while too few have traded."""
    recent = _recent(brief.prints, brief.facts.book.as_of)
    if len(recent) < PRINTS_WANTED:
        return None
    paid, scatter = weighted_price(recent, recent[0].at)
    believed = mid + (paid - mid) * staleness(brief, mid)
    text = f"{len(recent)} recent trades average {cents_text(paid.quantize(STEP))}."
    return View(believed, Decimal(3), scatter, Claim(text, "market.trades"))


def staleness(brief: MarketBrief, mid: Decimal) -> Decimal:
    """How far to believe in an average of old prices: 1 where no news can have come since, 0 where only news counts.

    A fair probability p moves by about sqrt(0.64 p (1 - p) t / T) in time t with T left until the outcome; against
    that stands the noise of single trades. Near the close news outruns every average.
    """
    seen_at = brief.facts.book.as_of
    left = 0.0 if seen_at is None else (brief.facts.close_at - seen_at).total_seconds()
    if left <= 0:
        return Decimal(0)
    since = Decimal(str(min(HALF_LIFE.total_seconds() / left, 1.0)))
    news = NEWS * mid * (1 - mid) * since
    return TRADE_NOISE**2 / (TRADE_NOISE**2 + news)


def _ladder(brief: MarketBrief) -> View | None:
    """What the event's other strikes imply for this one."""
    fit = None if brief.strike is None else fit_at(brief.strike, brief.ladder)
    if fit is None:
        return None
    text = f"The line through {fit.others} other strikes gives {cents_text(fit.probability)} here."
    return View(fit.probability, Decimal(4), fit.scatter, Claim(text, "event.strikes"))


def _sum(brief: MarketBrief, mid: Decimal) -> View | None:
    """The middle, corrected so that a mutually exclusive event adds up to one."""
    total = exclusive_sum(brief)
    if total is None:
        return None
    text = f"The event's markets add up to {percent_text(total)}."
    return View(mid / total, Decimal(3), Decimal(0), Claim(text, "event.markets"))


def _depth(brief: MarketBrief, mid: Decimal) -> View:
    """Where the depth of the book leans."""
    lean = depth_lean(brief)
    text = f"Depth leans towards {cents_text(lean.quantize(STEP))}; the middle is {cents_text(mid)}."
    return View(lean, Decimal(1), Decimal(0), Claim(text, "market.book"))


def _recent(prints: tuple[Print, ...], now: datetime | None) -> list[Print]:
    return [] if now is None else [p for p in prints if now - p.at <= WINDOW]


def weighted_price(prints: list[Print], now: datetime) -> tuple[Decimal, Decimal]:
    """Mean price and mean absolute deviation, weighted by quantity and by age (half-life 2 min)."""
    weights = [p.quantity * _decay(now - p.at) for p in prints]
    whole = sum(weights, Decimal(0))
    mean = sum((p.yes_price * w for p, w in zip(prints, weights, strict=True)), Decimal(0)) / whole
    scatter = sum((abs(p.yes_price - mean) * w for p, w in zip(prints, weights, strict=True)), Decimal(0))
    return mean, scatter / whole


def _decay(age: timedelta) -> Decimal:
    return Decimal(str(0.5 ** (max(age.total_seconds(), 0.0) / HALF_LIFE.total_seconds())))


def depth_lean(brief: MarketBrief) -> Decimal:
    """The price at which the first three levels of both sides would balance."""
    bids, asks = brief.bids[:3], brief.asks[:3]
    bid_quantity = sum((q for _, q in bids), Decimal(0))
    ask_quantity = sum((q for _, q in asks), Decimal(0))
    best_bid, best_ask = bids[0][0], asks[0][0]
    return (best_bid * ask_quantity + best_ask * bid_quantity) / (bid_quantity + ask_quantity)


def exclusive_sum(brief: MarketBrief) -> Decimal | None:
    """The sum of all middles of a mutually exclusive event; None unless every market of it has one."""
    if not brief.mutually_exclusive or not brief.siblings:
        return None
    mids = [facts.book.mid for facts in (brief.facts, *brief.siblings)]
    known = [mid for mid in mids if mid is not None]
    return sum(known, Decimal(0)) if len(known) == len(mids) and sum(known) > 0 else None
