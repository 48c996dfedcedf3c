"""How much the analyst may do by itself: nothing, propose, or have small proposals approved without a person.

It is a ceiling and never a permission: the limits, the trading state and the policy of approvals stand above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final


class AutonomyLevel(StrEnum):
    OFF = "off"
    PROPOSE = "propose"
    AUTO = "auto"


MEANINGS: Final[Mapping[AutonomyLevel, str]] = {
    AutonomyLevel.OFF: "the analyst is not asked and nothing of it is stored",
    AutonomyLevel.PROPOSE: "every proposal asks a person",
    AutonomyLevel.AUTO: "LOW risk within the day's budget is approved without a person",
}
_ORDER: Final = tuple(AutonomyLevel)


def is_raise(before: AutonomyLevel, after: AutonomyLevel) -> bool:
    """Whether this gives the analyst more room. Less room is never asked about."""
    return _ORDER.index(after) > _ORDER.index(before)


@dataclass(frozen=True, slots=True)
class Mandate:
    """What may be approved without a person now. `against` says why nothing may; empty where something may.

    `left` is what is left of the day's budget, in dollars at the limit prices.
    """

    level: AutonomyLevel
    left: Decimal
    against: str = ""
