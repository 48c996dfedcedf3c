"""One market's holding, and what a fill or a settlement does to it and to cash.

Kalshi keeps one signed position per market: + YES, - NO; opposite fills net at once (API.md 12). Money is in dollars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from trading.domain.fees import DIRECT_GRID
from trading.domain.orders import BookSide, Side
from trading.domain.prices import MONEY_STEP, complement

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Holding:
    """Signed contracts; `cost` is what the open contracts were paid for, without fees: the most that can be lost."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Decimal = ZERO

    @property
    def side(self) -> Side | None:
        return None if self.quantity == 0 else Side.YES if self.quantity > 0 else Side.NO

    @property
    def average_price(self) -> Decimal | None:
        """The mean entry price on the held side's own scale, or None when flat."""
        return None if self.quantity == 0 else self.cost / abs(self.quantity)

    def unrealized(self, own_price: Decimal | None) -> Decimal | None:
        """The gain if sold at `own_price` (the held side's own scale) before fees; None when the price is unknown."""
        if self.quantity == 0:
            return ZERO
        return None if own_price is None else abs(self.quantity) * own_price - self.cost


@dataclass(frozen=True, slots=True)
class Booking:
    """A holding after an event, and the change of cash it caused (fee included)."""

    holding: Holding
    cash: Decimal


def apply_fill(
    holding: Holding, book_side: BookSide, count: Decimal, yes_price: Decimal, fee: Decimal
) -> Booking:
    """Book one execution: first reduce what is held on the other side, then open with the rest."""
    signed = count if book_side is BookSide.BID else -count
    closing = min(abs(holding.quantity), count) if holding.quantity * signed < 0 else ZERO
    opening = count - closing
    exit_price = yes_price if holding.quantity > 0 else complement(yes_price)
    entry_price = yes_price if signed > 0 else complement(yes_price)
    released = _share(holding.cost, closing, abs(holding.quantity))
    proceeds = closing * exit_price
    return Booking(
        holding=replace(
            holding,
            quantity=holding.quantity + signed,
            cost=holding.cost - released + opening * entry_price,
            realized=holding.realized + proceeds - released,
            fees=holding.fees + fee,
        ),
        cash=proceeds - opening * entry_price - fee,
    )


def settle(holding: Holding, yes_value: Decimal) -> Booking:
    """Pay out: YES gets `yes_value` per contract, NO gets 1 - value (API.md 12). The holding is flat afterwards.

    A scalar value can come to less than the balance holds: that rest is not paid.
    """
    own_value = yes_value if holding.quantity > 0 else complement(yes_value)
    payout = (abs(holding.quantity) * own_value).quantize(DIRECT_GRID, ROUND_FLOOR)
    flat = replace(holding, quantity=ZERO, cost=ZERO, realized=holding.realized + payout - holding.cost)
    return Booking(holding=flat, cash=payout)


def _share(cost: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """The cost of `part` of `whole` contracts, exact for the last one so that nothing is left over."""
    if part == 0:
        return ZERO
    return cost if part == whole else (cost * part / whole).quantize(MONEY_STEP, ROUND_HALF_EVEN)
