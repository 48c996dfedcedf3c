"""The rungs of a book: one slot for each price of a step, and the wire's own words for each.

A market quotes in whole cents, in tenths of a cent or finer (API.md 9, `price_ranges`). A book of whole cents needs 101
slots for each side, one of the finest step 10,001: a book takes the coarsest ones that hold its prices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trading.domain.matching import TICKS_PER_DOLLAR, Ticks


class Rungs:
    """Slot n is the price of n x `step` ticks on the YES scale; the first and the last can never be traded at.

    `slots` finds a slot by the price as the exchange writes it, four decimals, `mirrored` by a NO price so written.
    """

    __slots__ = ("last", "mirrored", "slots", "step")

    def __init__(self, step: Ticks) -> None:
        self.step = step
        self.last = TICKS_PER_DOLLAR // step
        texts = [f"{tick // TICKS_PER_DOLLAR}.{tick % TICKS_PER_DOLLAR:04d}" for tick in self._ticks()]
        self.slots: dict[str, int] = {texts[slot]: slot for slot in range(1, self.last)}
        self.mirrored: dict[str, int] = {texts[self.last - slot]: slot for slot in range(1, self.last)}

    def _ticks(self) -> range:
        return range(0, TICKS_PER_DOLLAR + 1, self.step)


RUNGS: Final = (Rungs(100), Rungs(10), Rungs(1))


def rungs_for(ticks: Iterable[Ticks], *, finer_than: Rungs = RUNGS[0]) -> Rungs:
    """The coarsest rungs that hold all of these prices, and no coarser ones than given."""
    told = list(ticks)
    for rungs in RUNGS[RUNGS.index(finer_than) :]:
        if all(tick % rungs.step == 0 for tick in told):
            return rungs
    return RUNGS[-1]
