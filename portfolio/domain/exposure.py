"""What an order could add to what can be lost. Money is Decimal dollars, quantities are contracts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.domain.fees import FeeSchedule, estimate
from trading.domain.orders import Terms
from trading.domain.prices import MONEY_STEP, complement

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What wholly filling an order at its limit would do: contracts that reduce, contracts that open, cash needed."""

    reducing: Decimal
    opening: Decimal
    cost: Decimal  # paid for the opening part, without fees: what can be lost
    fee: Decimal

    @property
    def cash(self) -> Decimal:
        return self.cost + self.fee


def worst_case(terms: Terms, held: Decimal, fees: FeeSchedule) -> WorstCase:
    """The most that `terms` can cost, given the signed position `held`. Raises UnknownFee (fail closed)."""
    signed = terms.signed_quantity
    reducing = min(abs(held), terms.quantity) if held * signed < 0 else ZERO
    opening = terms.quantity - reducing
    entry = terms.yes_price if signed > 0 else complement(terms.yes_price)
    fee = estimate(fees, terms.yes_price, terms.quantity)
    return WorstCase(reducing, opening, (opening * entry).quantize(MONEY_STEP), fee)
