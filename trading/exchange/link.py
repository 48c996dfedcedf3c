"""What all requests of one process share: the exchange's time, the account's budget, the breakers."""

from __future__ import annotations

from dataclasses import dataclass, field

from trading.domain.breaker import Breaker, NoBreaker
from trading.exchange.budget import Budget, Unlimited
from trading.exchange.venue_clock import VenueClock


@dataclass(frozen=True, slots=True)
class Link:
    """By itself: a clock that has heard nothing yet, no budget and no breakers.

    Only `reads` holds requests back. Writes are counted here; whether an order may go is asked before its claim.
    """

    clock: VenueClock = field(default_factory=VenueClock)
    budget: Budget = field(default_factory=Unlimited)
    reads: Breaker = field(default_factory=NoBreaker)
    writes: Breaker = field(default_factory=NoBreaker)
    cancels: Breaker = field(default_factory=NoBreaker)
