"""Price-time matching on one YES book, in whole numbers: prices in ticks of $0.0001, counts in lots of 0.01 contract."""

from __future__ import annotations

from decimal import Decimal

TICKS_PER_DOLLAR = 10_000
LOTS_PER_CONTRACT = 100

Ticks = int
Lots = int


def to_ticks(price: Decimal | str) -> Ticks:
    """Dollars to ticks. Raises ValueError for a price finer than $0.0001: rounding would invent a price."""
    return _whole(Decimal(price) * TICKS_PER_DOLLAR, price)


def to_lots(count: Decimal | str) -> Lots:
    """Contracts to lots. Raises ValueError for a count finer than 0.01 contract."""
    return _whole(Decimal(count) * LOTS_PER_CONTRACT, count)


def _whole(scaled: Decimal, given: Decimal | str) -> int:
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{given} is finer than the exchange's step")
    return whole
