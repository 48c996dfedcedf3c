"""The one order-book builder: snapshot plus signed changes gives the book (API.md 14).

Feed, paper exchange, replay and backtest all use it. A price is a whole number of ticks ($0.0001) on the YES scale and
a quantity a whole number of lots (0.01 contract), because a book takes thousands of changes a second; `Decimal` comes
in and goes out at the edge. Asks are the NO bids read on the YES scale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

from trading.domain.markets import TopOfBook
from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks, to_lots, to_ticks
from trading.domain.orders import BookSide, Side
from trading.domain.rungs import RUNGS, rungs_for

Level = tuple[Decimal, Decimal]
RawLevel = tuple[Ticks, Lots]

_BID = BookSide.BID


class BookFault(Exception):
    """The messages cannot describe a real book: trust nothing until the next snapshot."""

    code = "E606"


class Book:
    """One market's book. It is untrusted, and empty, until the first snapshot and after every fault or gap.

    `is_current`: the levels may be believed. `as_of_ms` and `clock`: the exchange's time and its per-market clock
    (API.md 14, 0 where it gave none) of the last message applied. `revision` grows with all that is done to the book,
    so that whoever shows it can tell whether it has changed.

    `bids` and `asks` hold the lots of each slot of the `rungs`: two short rows of numbers, which stay in the
    processor's cache where thousands of dictionaries do not. Nearly all changes meet a level that stands and leave it
    standing or end it: only those may be written into the rows from outside (`exchange.session` does). A level that
    begins may cross the spread or move the best price: `begin_bid`, `begin_ask`. All else goes through `apply_delta`.

    `_top` and `_floor` bound the best bid from above and the best ask from below, as slots; they are exact once read.
    """

    __slots__ = (
        "_as_of_ms",
        "_clock",
        "_floor",
        "_late",
        "_top",
        "asks",
        "bids",
        "is_current",
        "revision",
        "rungs",
        "ticker",
    )

    def __init__(self, ticker: str) -> None:
        self.ticker = ticker
        self.is_current = False
        self._as_of_ms: int | None = None
        self._clock = 0
        self._late: Callable[[], tuple[int | None, int]] | None = None
        self.revision = 0
        self.rungs = RUNGS[0]
        self._clear()

    def apply_snapshot(
        self,
        bids: Iterable[RawLevel],
        asks: Iterable[RawLevel],
        *,
        at_ms: int | None = None,
        clock: int = 0,
    ) -> None:
        """Replace the whole book by (ticks, lots) on the YES scale. Raises BookFault on impossible levels."""
        self.invalidate()
        told_bids, told_asks = list(bids), list(asks)
        for tick, quantity in (*told_bids, *told_asks):
            if not 0 < tick < TICKS_PER_DOLLAR or quantity < 0:
                raise self._fault(f"snapshot level {quantity} at {tick}")
        self._refine(tick for tick, _ in (*told_bids, *told_asks))
        for row, told in ((self.bids, told_bids), (self.asks, told_asks)):
            for tick, quantity in told:
                row[tick // self.rungs.step] = quantity
        self._top, self._floor = self.rungs.last, 0
        bid, ask = self.best_bid_tick, self.best_ask_tick
        if bid is not None and ask is not None and bid >= ask:
            raise self._fault(f"snapshot with a bid at {bid} and an ask at {ask}")
        self.is_current = True
        self.stamp(at_ms, clock)

    def apply_delta(
        self, side: BookSide, tick: Ticks, change: Lots, at_ms: int | None = None, clock: int = 0
    ) -> Lots:
        """Add a signed change in lots to the level at `tick` (YES scale); return the level's new quantity.

        Raises BookFault, and leaves the book empty and untrusted, when there is no snapshot to build on, the price is
        impossible, the level would fall below zero or a bid would meet an ask.
        """
        slot, off = divmod(tick, self.rungs.step)
        if off or not 0 < slot < self.rungs.last:
            slot = self._slot(tick, f"{side} change of {change}")
        row = self.bids if side is _BID else self.asks
        total = row[slot] + change
        if total < 0 or not self.is_current:
            reason = f"on {row[slot]}" if self.is_current else "before any snapshot"
            raise self._fault(f"{side} change of {change} at {tick} {reason}")
        if row[slot] or not total:
            row[slot] = total
        elif side is _BID:
            self.begin_bid(slot, total)
        else:
            self.begin_ask(slot, total)
        self.stamp(at_ms, clock)
        return total

    def begin_bid(self, slot: int, count: Lots) -> None:
        """Let a level begin at a free slot. Raises BookFault where it meets the asks, or in an untrusted book."""
        if slot >= self._floor or not self.is_current:
            best = self.best_ask_tick
            if not self.is_current or (best is not None and slot * self.rungs.step >= best):
                raise self._fault(f"a bid at {slot * self.rungs.step} meets the asks from {best}")
        if slot > self._top:  # noqa: PLR1730 - a call costs more than all the rest
            self._top = slot
        self.bids[slot] = count

    def begin_ask(self, slot: int, count: Lots) -> None:
        """The same for an ask."""
        if slot <= self._top or not self.is_current:
            best = self.best_bid_tick
            if not self.is_current or (best is not None and slot * self.rungs.step <= best):
                raise self._fault(f"an ask at {slot * self.rungs.step} meets the bids from {best}")
        if slot < self._floor:  # noqa: PLR1730
            self._floor = slot
        self.asks[slot] = count

    def stamp(self, at_ms: int | None, clock: int) -> None:
        """Note the exchange's time and clock of the message that was applied last."""
        self.revision += 1
        self._note_time(at_ms, clock)

    def stamp_later(self, read: Callable[[], tuple[int | None, int]]) -> None:
        """The same, read from the message when somebody asks: changes are many, questions few."""
        self.revision += 1
        self._late = read

    @property
    def as_of_ms(self) -> int | None:
        if self._late is not None:
            self._note_time(*self._late())
        return self._as_of_ms

    @property
    def clock(self) -> int:
        if self._late is not None:
            self._note_time(*self._late())
        return self._clock

    def _note_time(self, at_ms: int | None, clock: int) -> None:
        self._late = None
        self._clock = clock
        if at_ms:
            self._as_of_ms = at_ms

    def invalidate(self) -> None:
        """Forget every level: after a gap a price is missing, never old."""
        self.is_current = False
        self.revision += 1
        self.bids[:] = self.asks[:] = [0] * len(
            self.bids
        )  # in place: whoever writes into the rows must see it
        self._top, self._floor = 0, self.rungs.last

    @property
    def best_bid_tick(self) -> Ticks | None:
        row, slot = self.bids, self._top
        while slot and not row[slot]:
            slot -= 1
        self._top = slot
        return slot * self.rungs.step or None

    @property
    def best_ask_tick(self) -> Ticks | None:
        row, slot, last = self.asks, self._floor, self.rungs.last
        while slot < last and not row[slot]:
            slot += 1
        self._floor = slot
        return None if slot == last else slot * self.rungs.step

    def quantity_at(self, side: BookSide, tick: Ticks) -> Lots:
        """The lots standing at one tick, zero when there are none."""
        slot, off = divmod(tick, self.rungs.step)
        return 0 if off else (self.bids if side is _BID else self.asks)[slot]

    def raw_levels(self, side: BookSide) -> list[RawLevel]:
        """(ticks, lots) on the YES scale, best price first."""
        return list(self._standing(side))

    def levels(self, side: BookSide, depth: int | None = None) -> list[Level]:
        """(price, quantity) in dollars and contracts on the YES scale, best price first."""
        return [(price_of(tick), quantity_of(count)) for tick, count in islice(self._standing(side), depth)]

    def top(self) -> TopOfBook:
        """Best bid and ask with quantities; a side without orders, or an untrusted book, has no price."""
        bid, ask = self.best_bid_tick, self.best_ask_tick
        return TopOfBook(
            yes_bid=None if bid is None else price_of(bid),
            yes_ask=None if ask is None else price_of(ask),
            yes_bid_quantity=quantity_of(0 if bid is None else self.bids[self._top]),
            yes_ask_quantity=quantity_of(0 if ask is None else self.asks[self._floor]),
            as_of=None if self.as_of_ms is None else datetime.fromtimestamp(self.as_of_ms / 1000, UTC),
        )

    def _standing(self, side: BookSide) -> Iterator[RawLevel]:
        step = self.rungs.step
        best = self.best_bid_tick if side is _BID else self.best_ask_tick
        if best is None:
            return
        if side is _BID:
            row, slots = self.bids, range(self._top, 0, -1)
        else:
            row, slots = self.asks, range(self._floor, self.rungs.last)
        for slot in slots:
            if row[slot]:
                yield slot * step, row[slot]

    def _slot(self, tick: Ticks, what: str) -> int:
        if not 0 < tick < TICKS_PER_DOLLAR:
            raise self._fault(f"{what} at {tick}")
        self._refine([tick])
        return tick // self.rungs.step

    def _refine(self, ticks: Iterable[Ticks]) -> None:
        """Take finer rungs when these prices need them. The rows are then others."""
        rungs = rungs_for(ticks, finer_than=self.rungs)
        if rungs is self.rungs:
            return
        factor, old_bids, old_asks = self.rungs.step // rungs.step, self.bids, self.asks
        top, floor = self._top, self._floor
        self.rungs = rungs
        self._clear()
        self.bids[::factor], self.asks[::factor] = old_bids, old_asks
        self._top, self._floor = top * factor, floor * factor

    def _clear(self) -> None:
        size = self.rungs.last + 1
        self.bids: list[Lots] = [0] * size
        self.asks: list[Lots] = [0] * size
        self._top, self._floor = 0, self.rungs.last

    def _fault(self, what: str) -> BookFault:
        self.invalidate()
        return BookFault(f"{self.ticker}: {what}")


class Readings:
    """Texts read before: the same short ones come again and again, because prices are few and lots are round.

    `known` is bounded and may be read directly. A text that cannot be read raises ValueError and is not kept.
    """

    __slots__ = ("_read", "known")

    def __init__(self, read: Callable[[str], int]) -> None:
        self.known: dict[str, int] = {}
        self._read = read

    def __getitem__(self, text: str) -> int:
        value = self.known.get(text)
        if value is None:
            if not _PLAIN_NUMBER.fullmatch(text):
                raise ValueError(f"{text[:40]!r} is not a price or count")
            value = self._read(text)
            if len(self.known) >= _MOST_READINGS:
                self.known.clear()
            self.known[text] = value
        return value


_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_MOST_READINGS = 16_384


def _price_tick(text: str) -> Ticks:
    """Raises ValueError outside of 0 to 1: a price in cents must not become a level at 42 dollars."""
    tick = to_ticks(text)
    if not 0 <= tick <= TICKS_PER_DOLLAR:
        raise ValueError(f"a price of {text[:40]} is impossible")
    return tick


TICKS = Readings(_price_tick)
LOTS = Readings(to_lots)


def ticks(price: str) -> Ticks:
    """Dollars as ticks. Raises ValueError for what is no number, finer than $0.0001 or outside of 0 to 1."""
    return TICKS[price]


def lots(count: str) -> Lots:
    """Contracts as lots. Raises ValueError for what is no number or finer than 0.01 contract."""
    return LOTS[count]


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
