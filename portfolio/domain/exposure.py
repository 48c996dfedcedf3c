"""What an order could add to what can be lost. Money is Decimal dollars, quantities are contracts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.domain.fees import FeeSchedule, UnknownFee, estimate
from trading.domain.orders import Terms
from trading.domain.prices import MONEY_STEP, complement

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What wholly filling an order at its limit would do: contracts that reduce, contracts that open, cash needed."""

    reducing: Decimal
    opening: Decimal
    cost: Decimal  # paid for the opening part, without fees: what can be lost
    fee: Decimal | None  # None: not known, which only an order that opens nothing can do with

    @property
    def cash(self) -> Decimal:
        """A fee that is not known is left out: what only reduces pays it out of what it brings."""
        return self.cost + (self.fee or ZERO)


def worst_case(terms: Terms, held: Decimal, fees: FeeSchedule) -> WorstCase:
    """The most that `terms` can cost, given the signed position `held`.

    Raises UnknownFee where it opens anything (fail closed). What only reduces is a way out, and never blocked by it.
    """
    signed = terms.signed_quantity
    reducing = min(abs(held), terms.quantity) if held * signed < 0 else ZERO
    opening = terms.quantity - reducing
    entry = terms.yes_price if signed > 0 else complement(terms.yes_price)
    fee = _fee(terms, fees) if opening == 0 else estimate(fees, terms.yes_price, terms.quantity)
    return WorstCase(reducing, opening, (opening * entry).quantize(MONEY_STEP), fee)


def _fee(terms: Terms, fees: FeeSchedule) -> Decimal | None:
    try:
        return estimate(fees, terms.yes_price, terms.quantity)
    except UnknownFee:
        return None
