"""Asking for tokens before a request (API.md 7): who may send now, who waits, who is told that there is no room.

Ways out (cancels and the like) come first: a part of the write bucket is kept back for them, they wait a quarter of a
second at most, and are never refused here. The exchange's own refusal (429) empties the bucket and slows all down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from trading.exchange.errors import OverBudget
from trading.exchange.tariff import Charge, Kind, Rate, Tariff

LONGEST_WAIT_OUT: Final = 0.25  # seconds that a way out waits for tokens before it goes all the same
RESERVE: Final = 0.2  # of the write bucket, for ways out alone
# A request arrives later than it was booked, and the exchange's bucket may have been full meanwhile: ours stays a
# tenth smaller and a little slower than the exchange's, so that what is bunched up on the way still fits.
HEADROOM: Final = 0.9
PACE: Final[dict[Kind, float]] = {"read": 0.98, "write": 0.98, "public": 0.98, "balance": 0.9}
START: Final = (
    0.5  # of the capacity, and one request: when nothing is known of the bucket it may be half used
)
FIRST_PAUSE: Final = 0.25  # seconds after a 429, doubled with each further one
MOST_STRIKES: Final = 6
FORGIVEN_AFTER: Final = 5.0  # seconds until one 429 counts no longer
SLOWEST: Final = 3  # so many halvings of the pace at most
NEVER: Final = -1.0
_MOMENT: Final = 0.001  # seconds: a shorter wait is one of rounding, and would be asked for without end


@dataclass(frozen=True, slots=True)
class Terms:
    """A bucket as we use it: tokens per second, the most it holds, and what of it is kept back."""

    per_second: float
    capacity: float
    reserve: float

    @classmethod
    def of(cls, kind: Kind, rate: Rate, *, share: float = 1.0) -> Terms:
        """Our use of a bucket of the exchange; `share` of it when others cannot be asked."""
        per_second = rate.per_second * PACE[kind] * share
        capacity = rate.capacity if kind == "balance" else rate.capacity * HEADROOM * share
        return cls(per_second, capacity, capacity * RESERVE if kind == "write" else 0.0)


class Budget(Protocol):
    """The account's tokens. Never raises anything but OverBudget."""

    def take(self, charge: Charge, *, patience: float) -> None:
        """Wait until the tokens are there, `patience` seconds at most. Raises OverBudget. A way out always passes."""
        ...

    def throttled(self, charge: Charge) -> None:
        """The exchange has refused a request for its rate: slow down."""
        ...

    @property
    def tariff(self) -> Tariff: ...


class Unlimited:
    """No budget: every request passes, and what the exchange says to it is all there is."""

    tariff: Tariff = Tariff()

    def take(self, charge: Charge, *, patience: float) -> None:
        """Passes."""

    def throttled(self, charge: Charge) -> None:
        """Changes nothing."""


def wait_for(
    ask: Callable[[], float],
    charge: Charge,
    *,
    patience: float,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Ask until the answer is 0 seconds. Raises OverBudget when that comes too late for the caller."""
    deadline = monotonic() + patience
    while (wait := ask()) != 0:
        if charge.is_way_out:
            # Its tokens are booked already: what is missing is owed, and the others pay for it by waiting.
            sleep(min(wait, LONGEST_WAIT_OUT))
            return
        if wait == NEVER:
            raise OverBudget(f"{charge.cost} tokens at once are more than the {charge.kind} bucket holds")
        if monotonic() + wait > deadline:
            raise OverBudget(f"no {charge.kind} tokens within {patience:.1f} s; the next in {wait:.1f} s")
        sleep(wait)


@dataclass(slots=True)
class _Level:
    tokens: float
    at: float
    until: float = 0.0
    strikes: float = 0.0
    struck_at: float = 0.0


@dataclass(slots=True)
class LocalBudget:
    """Buckets of this process alone, with a share of the account's. Thread-safe."""

    tariff: Tariff = field(default_factory=Tariff)
    share: float = 1.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _levels: dict[str, _Level] = field(default_factory=dict)

    def take(self, charge: Charge, *, patience: float) -> None:
        wait_for(
            lambda: self.ask(charge),
            charge,
            patience=patience,
            sleep=self.sleep,
            monotonic=self.monotonic,
        )

    def ask(self, charge: Charge) -> float:
        """Take the tokens and return 0, or return the seconds until they may be there. NEVER: they never are."""
        terms = Terms.of(charge.kind, self.tariff.rate(charge.kind), share=self.share)
        reserve = 0.0 if charge.is_way_out else terms.reserve
        # A share can be smaller than one request: that one may be saved up for.
        capacity = max(terms.capacity, charge.cost + reserve) if self.share < 1 else terms.capacity
        with self._lock:
            levels = [self._level(name, terms.per_second, capacity, charge.cost) for name in charge.buckets]
            wait = max(self._wait(level, charge, terms.per_second, reserve) for level in levels)
            if wait == 0 or charge.is_way_out:
                for level in levels:
                    level.tokens = max(level.tokens - charge.cost, -capacity)
        return NEVER if charge.cost + reserve > capacity and not charge.is_way_out else wait

    def throttled(self, charge: Charge) -> None:
        now = self.monotonic()
        with self._lock:
            for name in charge.buckets:
                level = self._levels.setdefault(name, _Level(0.0, now))
                if now < level.until:
                    continue  # sent before the pause began: the same overshoot
                level.strikes = min(_strikes(level, now) + 1, MOST_STRIKES)
                level.struck_at, level.until = now, now + FIRST_PAUSE * 2 ** (level.strikes - 1)
                level.tokens, level.at = min(level.tokens, 0.0), now

    def _level(self, name: str, per_second: float, capacity: float, cost: float) -> _Level:
        now = self.monotonic()
        level = self._levels.setdefault(name, _Level(max(capacity * START, min(capacity, cost)), now))
        level.tokens = min(capacity, level.tokens + (now - level.at) * _pace(level, per_second, now))
        level.at = now
        return level

    def _wait(self, level: _Level, charge: Charge, per_second: float, reserve: float) -> float:
        now = self.monotonic()
        lack = max(0.0, charge.cost + reserve - level.tokens) / _pace(level, per_second, now)
        wait = lack if charge.is_way_out else max(lack, level.until - now)
        return max(wait, _MOMENT) if wait > 0 else 0.0


def _strikes(level: _Level, now: float) -> float:
    return max(0.0, level.strikes - (now - level.struck_at) / FORGIVEN_AFTER)


def _pace(level: _Level, per_second: float, now: float) -> float:
    return per_second * float(0.5 ** min(_strikes(level, now), SLOWEST))
