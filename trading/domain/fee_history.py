"""Which fees hold at a moment: the series' steps, overridden by the event's (API.md 13). Pure.

A waiver (`fee_waiver_expiration_time`) is not counted on: what it spares is not published, so an estimate may be too
high while one lasts, and is never too low.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading.domain.fees import FeeSchedule, FeeType, UnknownFee


@dataclass(frozen=True, slots=True)
class FeeStep:
    """From `at` on these fees hold. Of an event, None: that part is not overridden (any more)."""

    at: datetime
    fee_type: FeeType | None
    multiplier: Decimal | None


def step_at(steps: Iterable[FeeStep], at: datetime) -> FeeStep | None:
    """The step that holds at a moment; it begins with its very instant. None before the first one."""
    return max((step for step in steps if step.at <= at), key=lambda step: step.at, default=None)


def next_step(steps: Iterable[FeeStep], at: datetime) -> FeeStep | None:
    """The next step after a moment, or None."""
    return min((step for step in steps if step.at > at), key=lambda step: step.at, default=None)


def fees_at(series: Iterable[FeeStep], event: Iterable[FeeStep], at: datetime) -> FeeSchedule:
    """The fees of an event's markets at a moment. Raises UnknownFee when nothing is known of that time."""
    fee_type, multiplier = None, None
    for step in (step_at(series, at), step_at(event, at)):
        if step is not None:
            fee_type = fee_type if step.fee_type is None else step.fee_type
            multiplier = multiplier if step.multiplier is None else step.multiplier
    if fee_type is None or multiplier is None:
        raise UnknownFee(f"no fee is known for {at:%Y-%m-%d %H:%M} UTC")
    return FeeSchedule(fee_type, multiplier)
