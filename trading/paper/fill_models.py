"""Where recorded size that went away without a print had stood, as seen from a resting order of ours.

The feed tells how a level shrank but not whose order left. With `ahead` recorded lots before us, `lots` gone and
`left` remaining, what stands ahead afterwards is

    pessimistic   as much as can: they left from behind us first
    realistic     its share: everybody was equally likely to leave (rounded against us)
    optimistic    as little as can: they left from ahead of us first

Prints always take from the front. Never can a more optimistic model stand further back, so on the same tape it never
fills less.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from trading.domain.matching import Lots


class FillModel(StrEnum):
    PESSIMISTIC = "pessimistic"
    REALISTIC = "realistic"
    OPTIMISTIC = "optimistic"


def _behind_first(ahead: Lots, _lots: Lots, left: Lots) -> Lots:
    return min(ahead, left)


def _by_share(ahead: Lots, lots: Lots, left: Lots) -> Lots:
    before = left + lots
    return -(-ahead * left // before) if before else 0


def _ahead_first(ahead: Lots, lots: Lots, _left: Lots) -> Lots:
    return max(0, ahead - lots)


AHEAD_AFTER_REMOVAL: dict[FillModel, Callable[[Lots, Lots, Lots], Lots]] = {
    FillModel.PESSIMISTIC: _behind_first,
    FillModel.REALISTIC: _by_share,
    FillModel.OPTIMISTIC: _ahead_first,
}
