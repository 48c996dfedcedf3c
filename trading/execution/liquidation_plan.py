"""What a liquidation would bring: every holding walked through the book as it stands, down to its floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from portfolio import risk
from portfolio.models import Position
from trading.domain.fees import FeeSchedule, UnknownFee, estimate
from trading.domain.orders import Side
from trading.domain.prices import complement
from trading.execution.liquidation import floors_of
from trading.execution.liquidation_prices import prices_of, side_of
from trading.models import Quote

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One holding. `proceeds` is before `fee`; amounts are None where the book or the fee is not known.

    `slippage` is what the walk loses against selling all of it at the best bid. Where it is known that nobody bids,
    nothing is sold and every amount is zero. `doubt` says why the book is not known.
    """

    ticker: str
    title: str
    side: Side
    quantity: Decimal
    bid: Decimal | None
    floor: Decimal | None
    sold: Decimal
    proceeds: Decimal | None
    slippage: Decimal | None
    fee: Decimal | None
    doubt: str = ""

    @property
    def unsold(self) -> Decimal:
        return self.quantity - self.sold


@dataclass(frozen=True, slots=True)
class Plan:
    """All holdings and their sums; a sum is None while a part of it is unknown."""

    lines: tuple[PlanLine, ...]

    @property
    def proceeds(self) -> Decimal | None:
        return _sum(line.proceeds for line in self.lines)

    @property
    def slippage(self) -> Decimal | None:
        return _sum(line.slippage for line in self.lines)

    @property
    def fee(self) -> Decimal | None:
        return _sum(line.fee for line in self.lines)

    @property
    def unsold(self) -> int:
        """In how many markets something would stay held."""
        return sum(line.unsold > 0 for line in self.lines)


def plan(venue: str, slippage: Decimal) -> Plan:
    """What selling everything now would bring, by our own books. An estimate: books move while one sells.

    A book that is too old to be sold by promises nothing.
    """
    held = list(Position.objects.held(venue).order_by("event_ticker", "ticker"))
    prices = prices_of(held)
    floors = floors_of(held, prices, slippage)
    quotes = Quote.objects.in_bulk([row.ticker for row in held])
    facts = risk.market_facts([row.ticker for row in held])
    lines = []
    for row in held:
        side, quote, known = side_of(row), quotes.get(row.ticker), facts.get(row.ticker)
        bid, doubt = prices[row.ticker].bid, prices[row.ticker].doubt
        levels = [] if quote is None or bid is None else bids_of(quote.levels, side)
        fees = None if known is None else known.fees
        if known is not None and bid is not None and not levels:
            levels = [
                (bid, known.book.bid_quantity(side))
            ]  # the depth is not known: count on the touch alone
        if doubt:
            lines.append(_nothing(row, side, None, doubt))
        else:
            lines.append(_line(row, side, bid, floors.get(row.ticker), levels, fees))
    return Plan(tuple(lines))


def bids_of(levels: dict[str, list[list[str]]], side: Side) -> list[tuple[Decimal, Decimal]]:
    """Who buys this side: price on its own scale and quantity, best first. A bid for NO is an ask for YES."""
    if side is Side.YES:
        return [(Decimal(price), Decimal(count)) for price, count in levels.get("bids", ())]
    return [(complement(Decimal(price)), Decimal(count)) for price, count in levels.get("asks", ())]


def walk(
    levels: Iterable[tuple[Decimal, Decimal]], quantity: Decimal, floor: Decimal
) -> list[tuple[Decimal, Decimal]]:
    """Price and count of each part that is sold, best first, down to the floor."""
    parts, left = [], quantity
    for price, count in levels:
        if price < floor or left <= 0:
            break
        taken = min(count, left)
        parts.append((price, taken))
        left -= taken
    return parts


def _line(
    row: Position,
    side: Side,
    bid: Decimal | None,
    floor: Decimal | None,
    levels: list[tuple[Decimal, Decimal]],
    fees: FeeSchedule | None,
) -> PlanLine:
    quantity = abs(row.quantity)
    if bid is None:
        return _nothing(row, side, ZERO)
    if floor is None:  # a bid that came between the two looks
        return _nothing(row, side, None)
    parts = walk(levels, quantity, floor)
    sold = sum((count for _, count in parts), ZERO)
    proceeds = sum((price * count for price, count in parts), ZERO)
    fee = _fee(fees, parts)
    return PlanLine(
        row.ticker, row.title, side, quantity, bid, floor, sold, proceeds, sold * bid - proceeds, fee
    )


def _nothing(row: Position, side: Side, amount: Decimal | None, doubt: str = "") -> PlanLine:
    """A holding of which nothing is sold: it brings zero where nobody bids, and nobody knows what without a price."""
    return PlanLine(
        row.ticker, row.title, side, abs(row.quantity), None, None, ZERO, amount, amount, amount, doubt
    )


def _fee(fees: FeeSchedule | None, parts: list[tuple[Decimal, Decimal]]) -> Decimal | None:
    if fees is None:
        return None
    try:
        return sum((estimate(fees, price, count) for price, count in parts), ZERO)
    except UnknownFee:
        return None


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = list(amounts)
    return None if any(amount is None for amount in known) else sum((a for a in known if a is not None), ZERO)
