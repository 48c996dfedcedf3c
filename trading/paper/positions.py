"""One account's net position in one market: what a fill or a settlement does to it (API.md 12).

There is no separate NO inventory: an ask first reduces what is held of YES, then goes short. A pair nets at
once and returns its dollar, therefore closing a NO contract by buying YES at p pays 1 - p.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide
from trading.domain.prices import MONEY_STEP
from trading.paper.records import ZERO, FillRecord, SettlementRecord
from trading.paper.wire import MONEY_GRID, lots_decimal, ticks_decimal


@dataclass(slots=True)
class Position:
    """Signed lots (+ YES, - NO) with cost basis and history. Money in dollars."""

    account_id: str
    ticker: str
    event_ticker: str
    subaccount: int = 0
    exchange_index: int = 0
    lots: Lots = 0
    cost: Decimal = ZERO  # paid for what is held now, without fees
    cost_fees: Decimal = ZERO  # fees paid for what is held now
    realized: Decimal = ZERO  # without fees
    fees: Decimal = ZERO
    traded: Decimal = ZERO  # dollars moved, both directions
    traded_lots: Lots = 0
    updated_ms: int = 0
    settled: bool = False

    def apply_fill(self, fill: FillRecord) -> None:
        """Close what the fill works against, open the rest."""
        closing = closing_lots(self.lots, fill.side, fill.lots)
        opening = fill.lots - closing
        own = own_price(fill.side, fill.price_ticks)
        if closing:
            self._close(closing, (1 - own) * lots_decimal(closing))
        self.cost += own * lots_decimal(opening)
        self.cost_fees += _share(fill.fee, opening, fill.lots)
        self.traded += own * lots_decimal(opening) + (1 - own) * lots_decimal(closing)
        self.lots += fill.lots if fill.side is BookSide.BID else -fill.lots
        self.fees += fill.fee
        self.traded_lots += fill.lots
        self.updated_ms = fill.at_ms

    def apply_settlement(self, settlement: SettlementRecord) -> None:
        """Everything held is paid out."""
        if self.lots:
            self._close(abs(self.lots), settlement.revenue + settlement.rounding)
        self.fees += settlement.rounding
        self.lots = 0
        self.settled = True
        self.updated_ms = settlement.at_ms

    def _close(self, lots: Lots, proceeds: Decimal) -> None:
        basis = _share(self.cost, lots, abs(self.lots))
        self.realized += proceeds - basis
        self.cost -= basis
        self.cost_fees -= _share(self.cost_fees, lots, abs(self.lots))

    def payout(self, value_ticks: Ticks) -> tuple[Decimal, Decimal]:
        """What settlement at this YES value pays: YES the value, NO 1 - value, rounded down to the balance grid; and
        what the rounding leaves, which is shown as a fee (API.md 12)."""
        held = value_ticks if self.lots > 0 else TICKS_PER_DOLLAR - value_ticks
        exact = ticks_decimal(held) * lots_decimal(abs(self.lots))
        paid = exact.quantize(MONEY_GRID, ROUND_FLOOR)
        return paid, exact - paid


def closing_lots(position_lots: Lots, side: BookSide, lots: Lots) -> Lots:
    """How many lots of an order on this side reduce the signed position instead of opening a new one."""
    against = -position_lots if side is BookSide.BID else position_lots
    return max(0, min(lots, against))


def own_price(side: BookSide, price_ticks: Ticks) -> Decimal:
    """What one contract of the acquired side costs: a bid pays p for YES, an ask 1 - p for NO."""
    return ticks_decimal(price_ticks if side is BookSide.BID else TICKS_PER_DOLLAR - price_ticks)


def revenue(position_lots: Lots, side: BookSide, price_ticks: Ticks, lots: Lots) -> Decimal:
    """The balance change of a fill before fees: closing pays the other side's price, opening costs the own
    one."""
    closing = closing_lots(position_lots, side, lots)
    own = own_price(side, price_ticks)
    return (1 - own) * lots_decimal(closing) - own * lots_decimal(lots - closing)


def _share(total: Decimal, lots: Lots, of_lots: Lots) -> Decimal:
    if lots == of_lots:
        return total
    return (total * lots / of_lots).quantize(MONEY_STEP, ROUND_HALF_EVEN)
