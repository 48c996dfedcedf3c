"""Kalshi's trading fees and their rounding (API.md 13). Money is Decimal dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from trading.domain.prices import MONEY_STEP, ONE

TAKER_RATE = Decimal("0.07")
DIRECT_GRID = Decimal("0.0001")  # balance precision of direct members
INDIRECT_GRID = Decimal("0.01")


class FeeType(StrEnum):
    QUADRATIC = "quadratic"
    QUADRATIC_WITH_MAKER = "quadratic_with_maker_fees"
    QUADRATIC_WITH_COMBO_MAKER = "quadratic_with_combo_maker_fees"
    FLAT = "flat"


# The maker's share of the taker's fee.
MAKER_SHARE: dict[FeeType, Decimal] = {
    FeeType.QUADRATIC: Decimal(0),
    FeeType.QUADRATIC_WITH_MAKER: Decimal("0.25"),
    FeeType.QUADRATIC_WITH_COMBO_MAKER: Decimal("0.5"),
}


class UnknownFee(ValueError):
    """The fee cannot be computed from what the API tells (type `flat`, or a new type): fail closed."""

    code = "E313"


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """A market's fee inputs: type and multiplier of its series, overridden by its event where present."""

    fee_type: FeeType = FeeType.QUADRATIC
    multiplier: Decimal = ONE

    def trade_fee(self, price: Decimal, count: Decimal, *, is_taker: bool) -> Decimal:
        """The fee of one fill in dollars, rounded up to $0.000001. Raises UnknownFee for `flat`."""
        if self.fee_type not in MAKER_SHARE:
            raise UnknownFee(f"the fee of type {self.fee_type} is not in the API")
        share = ONE if is_taker else MAKER_SHARE[self.fee_type]
        model = TAKER_RATE * share * self.multiplier * count * price * (ONE - price)
        return model.quantize(MONEY_STEP, ROUND_CEILING)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one fill changes: the net fee, the balance change (revenue minus net fee), the accumulator after it."""

    fee: Decimal
    change: Decimal
    accumulator: Decimal


def charge(
    trade_fee: Decimal, revenue: Decimal, accumulator: Decimal, *, grid: Decimal = DIRECT_GRID
) -> Charge:
    """Round one fill's fee to the account's grid and pay rebates from the order's accumulator (API.md 13, 1-4).

    `revenue` is negative for the side that pays. The net fee is never below zero.
    """
    exact = revenue - trade_fee
    rounded = (exact / grid).to_integral_value(ROUND_FLOOR) * grid
    rounding_fee = exact - rounded
    gathered = accumulator + rounding_fee
    fee = trade_fee + rounding_fee
    payable = min(gathered, fee)
    rebate = (payable / grid).to_integral_value(ROUND_FLOOR) * grid
    return Charge(fee=fee - rebate, change=revenue - fee + rebate, accumulator=gathered - rebate)


def estimate(schedule: FeeSchedule, price: Decimal, count: Decimal, *, is_taker: bool = True) -> Decimal:
    """The fee to expect for an order that fills at one price, on the direct member's grid, rounded up."""
    fee = schedule.trade_fee(price, count, is_taker=is_taker)
    return (fee / DIRECT_GRID).to_integral_value(ROUND_CEILING) * DIRECT_GRID
