"""What the other strikes of an event say about one of them.

"At least k" for rising k are points of one distribution, so their prices, read as normal quantiles, lie near a straight
line in k. A price that strays from the line through the others was pushed there. Floats are fine here: no money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist, linear_regression

from trading.agent.schemas import Rung

_NORMAL = NormalDist()
LEAST_OTHERS = 2
INSIDE = (Decimal("0.05"), Decimal("0.95"))  # further out a tick is worth too many quantiles
STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Fit:
    """The probability at one strike by the line through the others, and how well the others lie on their line."""

    probability: Decimal
    scatter: Decimal  # mean absolute residual, as a probability
    others: int


def fit_at(strike: Decimal, others: Sequence[Rung]) -> Fit | None:
    """Fit the others and read the line at `strike`.

    None with fewer than two usable others, outside them (one odd price would swing the end of the line), or where the
    line rises.
    """
    usable = [rung for rung in others if INSIDE[0] <= rung.mid <= INSIDE[1] and rung.strike != strike]
    strikes = [rung.strike for rung in usable]
    if len(usable) < LEAST_OTHERS or not min(strikes) < strike < max(strikes):
        return None
    at = [float(each) for each in strikes]
    quantiles = [_NORMAL.inv_cdf(float(rung.mid)) for rung in usable]
    slope, intercept = linear_regression(at, quantiles)
    if slope >= 0:
        return None
    read = [_NORMAL.cdf(slope * x + intercept) for x in at]
    off = [abs(p - float(rung.mid)) for p, rung in zip(read, usable, strict=True)]
    found = _NORMAL.cdf(slope * float(strike) + intercept)
    return Fit(_probability(found), _probability(sum(off) / len(off)), len(usable))


def _probability(value: float) -> Decimal:
    return Decimal(str(value)).quantize(STEP)
