"""The offline analyst: a modest strategy that needs no model and sees only public data.

It believes three things. What many people paid over the last minutes is a better guess than the last touch. Depth leans
where the next price goes. The markets of a mutually exclusive event must add up to one. It trades only when a touch
strays from that guess by more than fee and noise, which in practice is when somebody pushed the price too far too fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading.agent.schemas import Claim, Forecast, MarketBrief, Print, Refusal
from trading.domain.prices import cents_text, percent_text

PRINTS_WANTED = 6
WINDOW = timedelta(minutes=6)
HALF_LIFE = timedelta(seconds=75)
WIDEST = Decimal("0.12")  # a wider spread says that nobody knows
EDGE_OF_BOOK = Decimal("0.04")  # below 4¢ and above 96¢ the fee formula and the noise eat every edge
STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class OfflineAnalyst:
    """Fair value from prints, depth and the event's other markets. Deterministic."""

    name: str = "offline-analyst"
    prompt_version: str = "prints-depth-sum/1"

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        """Forecast, or say which public fact is missing."""
        book = brief.facts.book
        mid = book.mid
        if mid is None or book.yes_bid is None or book.yes_ask is None:
            return Refusal("one side of the book is empty")
        if book.yes_ask - book.yes_bid > WIDEST:
            return Refusal(f"the spread is {cents_text(book.yes_ask - book.yes_bid)}")
        if not EDGE_OF_BOOK < mid < 1 - EDGE_OF_BOOK:
            return Refusal(f"at {cents_text(mid)} there is no room for an edge")
        recent = _recent(brief.prints, book.as_of)
        if len(recent) < PRINTS_WANTED:
            return Refusal(f"{len(recent)} trades in {WINDOW.seconds // 60} minutes")
        return self._forecast(brief, mid, recent)

    def _forecast(self, brief: MarketBrief, mid: Decimal, recent: list[Print]) -> Forecast:
        paid, spread = weighted_price(recent, recent[0].at)
        lean = depth_lean(brief)
        guess = paid * Decimal("0.7") + mid * Decimal("0.2") + lean * Decimal("0.1")
        claims = [
            Claim(f"{len(recent)} recent trades average {cents_text(paid.quantize(STEP))}.", "market.trades"),
            Claim(
                f"Depth leans towards {cents_text(lean.quantize(STEP))}; the middle is {cents_text(mid)}.",
                "market.book",
            ),
        ]
        total = exclusive_sum(brief)
        if total is not None:
            guess = guess * Decimal("0.6") + mid / total * Decimal("0.4")
            claims.append(Claim(f"The event's markets add up to {percent_text(total)}.", "event.markets"))
        claims.append(
            Claim(
                f"Against: prices of the window scatter by {cents_text(spread.quantize(STEP))}.",
                "market.trades",
            )
        )
        half = max(spread, Decimal("0.01"))
        guess = min(max(guess, STEP), 1 - STEP)
        return Forecast(
            probability=guess.quantize(STEP),
            low=max(guess - half, Decimal(0)).quantize(STEP),
            high=min(guess + half, Decimal(1)).quantize(STEP),
            claims=tuple(claims),
            model=self.name,
            prompt_version=self.prompt_version,
        )


def _recent(prints: tuple[Print, ...], now: datetime | None) -> list[Print]:
    return [] if now is None else [p for p in prints if now - p.at <= WINDOW]


def weighted_price(prints: list[Print], now: datetime) -> tuple[Decimal, Decimal]:
    """Mean price and mean absolute deviation, weighted by quantity and by age (half-life 75 s)."""
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
