"""Equity and its parts, from holdings and marks. Money is Decimal dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from portfolio.domain.positions import Holding
from trading.domain.markets import TopOfBook

ZERO = Decimal(0)


def mark_price(holding: Holding, book: TopOfBook | None) -> Decimal | None:
    """What the held side would fetch now: its own best bid; None when nobody bids or nothing is known."""
    if book is None or holding.side is None:
        return None
    return book.bid(holding.side)


@dataclass(frozen=True, slots=True)
class Valuation:
    """The portfolio in dollars; `unrealized` and `equity` are None while a held market has no mark: not zero."""

    cash: Decimal
    cost: Decimal
    realized: Decimal
    fees: Decimal
    unrealized: Decimal | None
    unmarked: int
    marked: Decimal = ZERO  # what the holdings with a mark would fetch

    @property
    def at_least(self) -> Decimal:
        """The equity if every holding without a mark turns out worthless: a bound that needs no price."""
        return self.cash + self.marked

    @property
    def equity(self) -> Decimal | None:
        return None if self.unrealized is None else self.cash + self.cost + self.unrealized


def value(cash: Decimal, holdings: Iterable[tuple[Holding, Decimal | None]]) -> Valuation:
    """Add up holdings with their marks (own-side prices)."""
    cost = realized = fees = gain = marked = ZERO
    unmarked = 0
    for holding, price in holdings:
        cost, realized, fees = cost + holding.cost, realized + holding.realized, fees + holding.fees
        unrealized = holding.unrealized(price)
        if unrealized is None:
            unmarked += 1
        else:
            gain += unrealized
            marked += holding.cost + unrealized
    return Valuation(cash, cost, realized, fees, None if unmarked else gain, unmarked, marked)
