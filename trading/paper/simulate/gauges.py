"""What the simulated markets are about: measured quantities with a known law, and the questions put to them.

A gauge's future is normal (or, when geometric, lognormal) around its present, so the true chance of every
outcome is known at every instant. Floats are fair here: this is nature, not money.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from math import exp, inf, log, pi, sqrt

from trading.paper.simulate.wiener import NORMAL, Wiener

CERTAIN = 0.0005  # nobody is ever surer than this of an open market


@dataclass(frozen=True, slots=True)
class Gauge:
    """A quantity that is published to the nearest `step`. Times are Unix seconds.

    `volatility` is per square root of a second: of the quantity or, when `geometric`, of its logarithm.
    """

    path: Wiener
    starts_at: float
    start: float
    volatility: float
    step: Decimal
    geometric: bool = False

    def level(self, at: float) -> Decimal:
        """The published reading at an instant, rounded half up."""
        raw = self._position(at)
        return Decimal(exp(raw) if self.geometric else raw).quantize(self.step, ROUND_HALF_UP)

    def chance_at_least(self, strike: Decimal, now: float, at: float) -> float:
        """The chance, seen at `now`, that the reading at the later instant `at` is `strike` or more."""
        distance = self.distance(strike, now, at)
        return NORMAL.cdf(distance) if abs(distance) < inf else float(distance > 0)

    def distance(self, strike: Decimal, now: float, at: float) -> float:
        """How far the quantity stands above the strike, in standard deviations of what is still to come."""
        edge = float(strike - self.step / 2)
        if self.geometric:
            edge = log(edge) if edge > 0 else -inf
        gap = self._position(min(now, at)) - edge
        spread = self.volatility * sqrt(max(at - now, 0.0))
        return gap / spread if spread > 0 else (inf if gap >= 0 else -inf)

    def _position(self, at: float) -> float:
        start = log(self.start) if self.geometric else self.start
        return start + self.volatility * self.path.at(at - self.starts_at)


@dataclass(frozen=True, slots=True)
class Strike:
    """One outcome: a reading of at least `floor` and below `below`; None is open on that side."""

    floor: Decimal | None = None
    below: Decimal | None = None

    @property
    def kind(self) -> str:
        """The exchange's `strike_type`."""
        if self.floor is None:
            return "less"
        return "greater_or_equal" if self.below is None else "between"

    def holds(self, reading: Decimal) -> bool:
        """Whether the outcome has come true."""
        return (self.floor is None or reading >= self.floor) and (self.below is None or reading < self.below)

    def chance(self, gauge: Gauge, now: float, at: float) -> float:
        """The true chance of the outcome, strictly between 0 and 1 while the market is open."""
        above_floor = 1.0 if self.floor is None else gauge.chance_at_least(self.floor, now, at)
        above_all = 0.0 if self.below is None else gauge.chance_at_least(self.below, now, at)
        return min(max(above_floor - above_all, CERTAIN), 1 - CERTAIN)

    def sensitivity(self, gauge: Gauge, now: float, at: float) -> float:
        """How much the chance moves, one standard deviation, in the coming second."""
        left = max(at - now, 1.0)
        edges = [edge for edge in (self.floor, self.below) if edge is not None]
        slopes = [exp(-(min(abs(gauge.distance(edge, now, at)), 9.0) ** 2) / 2) for edge in edges]
        return max(slopes, default=0.0) / sqrt(2 * pi * left)
