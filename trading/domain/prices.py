"""Prices on Kalshi's YES and NO scales, and the tick grid of a market.

A price is a `Decimal` in dollars strictly between 0 and 1; a probability is the same number read as a chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

ONE = Decimal(1)
CENT = Decimal("0.01")
PRICE_STEP = Decimal("0.0001")  # the finest step that the exchange quotes (API.md 9)
COUNT_STEP = Decimal("0.01")  # contracts are fractional since April 2026 (API.md 1)
MONEY_STEP = Decimal("0.000001")  # the finest step of a fee (API.md 13)


class OffGrid(ValueError):
    """A price that the market's grid does not allow. Carries the price and the nearest allowed ones."""

    code = "E014"

    def __init__(self, price: Decimal, below: Decimal | None, above: Decimal | None) -> None:
        near = " or ".join(f"{p}" for p in (below, above) if p is not None)
        super().__init__(f"{price} is off the market's price grid; nearest: {near}")
        self.price, self.below, self.above = price, below, above


@dataclass(frozen=True, slots=True)
class PriceBand:
    """One band `{start, end, step}` of a market's `price_ranges`, in dollars; both ends belong to the band."""

    start: Decimal
    end: Decimal
    step: Decimal

    def holds(self, price: Decimal) -> bool:
        return self.start <= price <= self.end and (price - self.start) % self.step == 0

    def floor(self, price: Decimal) -> Decimal:
        steps = ((min(price, self.end) - self.start) / self.step).to_integral_value(ROUND_FLOOR)
        return self.start + steps * self.step

    def ceil(self, price: Decimal) -> Decimal:
        steps = ((max(price, self.start) - self.start) / self.step).to_integral_value(ROUND_CEILING)
        return self.start + steps * self.step


@dataclass(frozen=True, slots=True)
class PriceGrid:
    """The prices at which orders in one market may stand. `price_ranges` is the only source (API.md 9)."""

    bands: tuple[PriceBand, ...]

    @classmethod
    def from_ranges(cls, ranges: Iterable[dict[str, str]]) -> PriceGrid:
        """Read the exchange's `price_ranges`. Raises ValueError when there is no usable band."""
        try:
            bands = [PriceBand(*(Decimal(band[key]) for key in ("start", "end", "step"))) for band in ranges]
        except (KeyError, InvalidOperation, TypeError) as error:
            raise ValueError(f"unreadable price_ranges: {error!r}") from error
        if not bands or any(band.step <= 0 or band.end < band.start for band in bands):
            raise ValueError("price_ranges has no usable band")
        return cls(tuple(sorted(bands, key=lambda band: band.start)))

    def holds(self, price: Decimal) -> bool:
        """True when an order may stand at this price: inside (0, 1) and on a step of some band."""
        return 0 < price < 1 and any(band.holds(price) for band in self.bands)

    def floor(self, price: Decimal) -> Decimal | None:
        """The highest allowed price at or below `price`, or None."""
        below = [band.floor(price) for band in self.bands if band.start <= price]
        return max((p for p in below if self.holds(p)), default=None)

    def ceil(self, price: Decimal) -> Decimal | None:
        """The lowest allowed price at or above `price`, or None."""
        above = [band.ceil(price) for band in self.bands if band.end >= price]
        return min((p for p in above if self.holds(p) and p >= price), default=None)

    def require(self, price: Decimal) -> Decimal:
        """Return the price, or raise OffGrid with the nearest allowed ones."""
        if not self.holds(price):
            raise OffGrid(price, self.floor(price), self.ceil(price))
        return price

    def complement(self) -> PriceGrid:
        """The same grid read on the other side's scale: p becomes 1 - p."""
        return PriceGrid(tuple(PriceBand(ONE - b.end, ONE - b.start, b.step) for b in reversed(self.bands)))


def linear_grid(step: Decimal = CENT) -> PriceGrid:
    """A grid with one step from 0 to 1, such as `linear_cent`."""
    return PriceGrid((PriceBand(Decimal(0), ONE, step),))


def complement(price: Decimal) -> Decimal:
    """The same price on the other side's scale: YES at p is NO at 1 - p."""
    return ONE - price


def cents_text(price: Decimal | None, *, fine: bool = False) -> str:
    """`38¢`, or `38.5¢` where the price (or, with `fine`, the column) is finer than a cent; `–` when unknown."""
    if price is None:
        return "–"
    cents = price * 100
    if cents == cents.to_integral_value() and not fine:
        return f"{cents:.0f}¢"
    return f"{cents.normalize():f}¢" if cents != cents.quantize(Decimal("0.1")) else f"{cents:.1f}¢"


def dollars_text(amount: Decimal | None, *, signed: bool = False) -> str:
    """`$1,234.56`, minus as U+2212, `+` when `signed`; `–` when unknown."""
    if amount is None:
        return "–"
    rounded = amount.quantize(CENT)
    sign = "−" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}${abs(rounded):,.2f}"


def percent_text(probability: Decimal | None) -> str:
    """`61%`; `–` when unknown."""
    return "–" if probability is None else f"{probability * 100:.0f}%"


def count_text(count: Decimal | None) -> str:
    """`120`, or `0.50` when fractional; `–` when unknown."""
    if count is None:
        return "–"
    return f"{count:,.0f}" if count == count.to_integral_value() else f"{count:,.2f}"
