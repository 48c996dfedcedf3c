"""The one order-book builder: snapshot plus signed changes gives the book (API.md 14).

Feed, paper exchange, replay and backtest all use it. Inside, a price is a whole number of ticks ($0.0001) on
the YES scale and a quantity a whole number of lots (0.01 contract), because a book takes thousands of changes
a second; `Decimal` comes in and goes out at the edge. Asks are the NO bids read on the YES scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from trading.domain.markets import TopOfBook
from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks, to_lots, to_ticks
from trading.domain.orders import BookSide, Side

Level = tuple[Decimal, Decimal]
RawLevel = tuple[Ticks, Lots]


class BookFault(Exception):
    """The messages cannot describe a real book: trust nothing until the next snapshot."""

    code = "E301"


class Book:
    """One market's book. It is untrusted, and empty, until the first snapshot and after every fault or gap.

    `is_current`: the levels may be believed. `as_of_ms`: the exchange's time of the last message applied.
    """

    __slots__ = ("_asks", "_best_ask", "_best_bid", "_bids", "as_of_ms", "is_current", "ticker")

    def __init__(self, ticker: str) -> None:
        self.ticker = ticker
        self.is_current = False
        self.as_of_ms: int | None = None
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._best_bid: int | None = None
        self._best_ask: int | None = None

    def apply_snapshot(
        self, bids: Iterable[RawLevel], asks: Iterable[RawLevel], *, at_ms: int | None = None
    ) -> None:
        """Replace the whole book by (ticks, lots) on the YES scale. Raises BookFault on impossible levels."""
        self.invalidate()
        fresh_bids, fresh_asks = dict(bids), dict(asks)
        for tick, quantity in (*fresh_bids.items(), *fresh_asks.items()):
            if not 0 < tick < TICKS_PER_DOLLAR or quantity < 0:
                raise BookFault(f"{self.ticker}: snapshot level {quantity} at {tick}")
        self._bids = {tick: quantity for tick, quantity in fresh_bids.items() if quantity}
        self._asks = {tick: quantity for tick, quantity in fresh_asks.items() if quantity}
        self._best_bid = max(self._bids, default=None)
        self._best_ask = min(self._asks, default=None)
        self.is_current = True
        self._touch(at_ms)

    def apply_delta(self, side: BookSide, tick: int, change: int, *, at_ms: int | None = None) -> int:
        """Add a signed change in lots to the level at `tick` (YES scale); return the level's new quantity.

        Raises BookFault, and leaves the book empty and untrusted, when there is no snapshot to build on, the
        price is impossible or the level would fall below zero.
        """
        levels = self._bids if side is BookSide.BID else self._asks
        total = levels.get(tick, 0) + change
        if total < 0 or not self.is_current or not 0 < tick < TICKS_PER_DOLLAR:
            raise self._fault(side, tick, change)
        if total:
            levels[tick] = total
            self._note_better(side, tick)
        elif levels.pop(tick, None) is not None:
            self._note_removed(side, tick)
        self._touch(at_ms)
        return total

    def invalidate(self) -> None:
        """Forget every level: after a gap a price is missing, never old."""
        self.is_current = False
        self._bids, self._asks = {}, {}
        self._best_bid = self._best_ask = None

    @property
    def best_bid_tick(self) -> int | None:
        return self._best_bid

    @property
    def best_ask_tick(self) -> int | None:
        return self._best_ask

    @property
    def is_crossed(self) -> bool:
        """True when the best bid meets or passes the best ask, which a matching engine never leaves so."""
        return self._best_bid is not None and self._best_ask is not None and self._best_bid >= self._best_ask

    def quantity_at(self, side: BookSide, tick: int) -> int:
        """The lots standing at one tick, zero when there are none."""
        return (self._bids if side is BookSide.BID else self._asks).get(tick, 0)

    def raw_levels(self, side: BookSide) -> list[RawLevel]:
        """(ticks, lots) on the YES scale, best price first."""
        if side is BookSide.BID:
            return sorted(self._bids.items(), reverse=True)
        return sorted(self._asks.items())

    def levels(self, side: BookSide, depth: int | None = None) -> list[Level]:
        """(price, quantity) in dollars and contracts on the YES scale, best price first."""
        return [(price_of(tick), quantity_of(count)) for tick, count in self.raw_levels(side)[:depth]]

    def top(self) -> TopOfBook:
        """Best bid and ask with quantities; a side without orders, or an untrusted book, has no price."""
        bid, ask = self._best_bid, self._best_ask
        return TopOfBook(
            yes_bid=None if bid is None else price_of(bid),
            yes_ask=None if ask is None else price_of(ask),
            yes_bid_quantity=quantity_of(0 if bid is None else self._bids[bid]),
            yes_ask_quantity=quantity_of(0 if ask is None else self._asks[ask]),
            as_of=None if self.as_of_ms is None else datetime.fromtimestamp(self.as_of_ms / 1000, UTC),
        )

    def _touch(self, at_ms: int | None) -> None:
        if at_ms is not None:
            self.as_of_ms = at_ms

    def _note_better(self, side: BookSide, tick: int) -> None:
        if side is BookSide.BID:
            if self._best_bid is None or tick > self._best_bid:
                self._best_bid = tick
        elif self._best_ask is None or tick < self._best_ask:
            self._best_ask = tick

    def _note_removed(self, side: BookSide, tick: int) -> None:
        if side is BookSide.BID:
            if tick == self._best_bid:
                self._best_bid = max(self._bids, default=None)
        elif tick == self._best_ask:
            self._best_ask = min(self._asks, default=None)

    def _fault(self, side: BookSide, tick: int, change: int) -> BookFault:
        reason = "before any snapshot" if not self.is_current else f"on {self.quantity_at(side, tick)}"
        self.invalidate()
        return BookFault(f"{self.ticker}: {side} change of {change} at {tick} {reason}")


# The caches pay because the same short strings come again and again: prices are few, lots are round.
@lru_cache(maxsize=16_384)
def ticks(price: str) -> Ticks:
    """Dollars as ticks. Raises ValueError for what is no number or finer than $0.0001."""
    try:
        return to_ticks(price)
    except ArithmeticError as error:
        raise ValueError(f"{price!r} is not a price") from error


@lru_cache(maxsize=16_384)
def lots(count: str) -> Lots:
    """Contracts as lots. Raises ValueError for what is no number or finer than 0.01 contract."""
    try:
        return to_lots(count)
    except ArithmeticError as error:
        raise ValueError(f"{count!r} is not a count") from error


def price_of(tick: Ticks) -> Decimal:
    """Ticks as Decimal dollars with four decimals."""
    return Decimal(tick).scaleb(-4)


def quantity_of(count: Lots) -> Decimal:
    """Lots as Decimal contracts with two decimals."""
    return Decimal(count).scaleb(-2)


def side_and_tick(side: Side, tick: int, *, use_yes_price: bool = False) -> tuple[BookSide, int]:
    """A wire level's place in the YES book: NO bids are asks, at 1 - p unless already on the YES scale."""
    if side is Side.YES:
        return BookSide.BID, tick
    return BookSide.ASK, tick if use_yes_price else TICKS_PER_DOLLAR - tick
