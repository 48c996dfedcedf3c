"""How much to trade on an edge: a fraction of the Kelly stake, within limits. Money is Decimal dollars."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from trading.domain.fees import FeeSchedule, estimate
from trading.domain.orders import Side
from trading.domain.prices import ONE, complement


def edge(probability: Decimal, price: Decimal, side: Side, fees: FeeSchedule) -> Decimal:
    """Expected dollars per contract after the taker's fee, buying `side` at `price` (on that side's own scale).

    `probability` is that YES happens. Raises UnknownFee.
    """
    chance = probability if side is Side.YES else complement(probability)
    return chance - price - estimate(fees, price, ONE)


def kelly_share(probability: Decimal, price: Decimal, side: Side) -> Decimal:
    """The share of wealth that maximises growth for a binary contract: (p - price) / (1 - price), never negative."""
    chance = probability if side is Side.YES else complement(probability)
    return max((chance - price) / (ONE - price), Decimal(0))


def contracts(
    *, equity: Decimal, share: Decimal, price: Decimal, most_notional: Decimal, available: Decimal
) -> Decimal:
    """Whole contracts to buy: the stake `share` of equity, at most `most_notional` dollars and what the book offers."""
    stake = min(max(equity, Decimal(0)) * share, most_notional)
    return min(stake / price, available).to_integral_value(ROUND_FLOOR)
