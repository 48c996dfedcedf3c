"""Chance that can be looked up: every number follows from the seed and a name, none from what ran before.

A simulated market must settle the same whether the process ran all the time or was killed in between, so
nothing here draws from a stream.
"""

from __future__ import annotations

import hashlib
from math import sqrt
from statistics import NormalDist

QUARTERS_PER_SECOND = 4
NORMAL = NormalDist()
_CACHE_LIMIT = 4_096
TETHER = 2**20  # seconds, 12 days: free below, tied back above, so that an index of years stays an index


def uniform(seed: int, name: str) -> float:
    """A number strictly between 0 and 1."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def normal(seed: int, name: str) -> float:
    """A number from the standard normal distribution."""
    return NORMAL.inv_cdf(min(max(uniform(seed, name), 1e-15), 1 - 1e-15))


class Wiener:
    """A Brownian path, W(0) = 0, with variance 1 per second, known at every quarter of a second of its span.

    Lévy's construction: a point in the middle is the mean of its neighbours plus a displacement that belongs to
    that point alone. Any instant costs `doublings` steps, its neighbours nearly nothing.
    """

    def __init__(self, seed: int, name: str, doublings: int) -> None:
        """The span is 2**doublings quarters of a second."""
        self._seed, self._name = seed, name
        self._end = 1 << doublings
        self._known: dict[int, float] = {}

    def at(self, seconds: float) -> float:
        """W after so many seconds, rounded down to the quarter. Raises ValueError outside the span."""
        quarter = int(seconds * QUARTERS_PER_SECOND)
        if not 0 <= quarter <= self._end:
            raise ValueError(f"{seconds} s lies outside the path {self._name}")
        if len(self._known) > _CACHE_LIMIT:
            self._known.clear()
        return self._value(quarter)

    def _value(self, quarter: int) -> float:
        if quarter == 0:
            return 0.0
        known = self._known.get(quarter)
        if known is None:
            known = self._known[quarter] = self._construct(quarter)
        return known

    def _construct(self, quarter: int) -> float:
        chance = normal(self._seed, f"{self._name}/{quarter}")
        if quarter == self._end:
            return chance * sqrt(min(quarter / QUARTERS_PER_SECOND, TETHER))
        reach = quarter & -quarter
        middle = (self._value(quarter - reach) + self._value(quarter + reach)) / 2
        return middle + chance * sqrt(min(reach / QUARTERS_PER_SECOND, TETHER) / 2)
