"""What goes into an analyst and what may come out. Prices and probabilities are Decimal in 0..1, times UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from trading.domain.markets import MarketFacts
from trading.domain.orders import Side


@dataclass(frozen=True, slots=True)
class Print:
    """A public trade: the price on the YES scale, contracts, which side took, when."""

    yes_price: Decimal
    quantity: Decimal
    taker: Side
    at: datetime


@dataclass(frozen=True, slots=True)
class Rung:
    """Another market of the event that resolves YES at or above its own strike, and the middle of its book."""

    strike: Decimal
    mid: Decimal


@dataclass(frozen=True, slots=True)
class MarketBrief:
    """Everything an analyst may see of one market: what the exchange's public API shows, and nothing else."""

    facts: MarketFacts
    rules_text: str
    category: str
    mutually_exclusive: bool
    bids: tuple[tuple[Decimal, Decimal], ...]  # YES scale, best first: price, contracts
    asks: tuple[tuple[Decimal, Decimal], ...]
    prints: tuple[Print, ...]  # newest first
    siblings: tuple[MarketFacts, ...] = ()  # the other markets of the event
    strike: Decimal | None = None  # where YES means "at or above the strike"
    ladder: tuple[Rung, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the reasoning and where it comes from. Untrusted text: shown escaped, never acted on."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Our probability that the market resolves YES, with a range and the reasons."""

    probability: Decimal
    low: Decimal
    high: Decimal
    claims: tuple[Claim, ...] = ()
    model: str = ""
    prompt_version: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.probability <= self.high <= 1:
            raise ValueError(
                f"not a forecast: {self.low} ≤ {self.probability} ≤ {self.high} must lie in 0..1"
            )

    def as_json(self) -> dict[str, Any]:
        return {
            "probability": str(self.probability),
            "low": str(self.low),
            "high": str(self.high),
            "claims": [{"text": claim.text, "source": claim.source} for claim in self.claims],
            "model": self.model,
            "prompt_version": self.prompt_version,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """The analyst has no idea worth the name. The reason is kept, so that "why no trade?" has an answer."""

    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


class Analyst(Protocol):
    """The interface of every analyst, offline or model. Bad output, a timeout or a refusal means no idea."""

    @property
    def name(self) -> str: ...

    def study(self, brief: MarketBrief) -> Forecast | Refusal:
        """Forecast one market from its brief. Must not raise for odd markets; anything raised counts as no idea."""
        ...
