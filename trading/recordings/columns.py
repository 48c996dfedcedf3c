"""One market's recording as columns of integers, and its book at any instant. No numpy: `memoryview` is enough.

A row is a message or a gap, in the order of the files:

    ts      exchange's time, Unix ms; NONE where the message carries none (snapshots, gaps)
    recv    our clock at receipt, Unix ms
    kind    SNAPSHOT, DELTA, TRADE, GAP
    side    BID or ASK: the changed side of the book; of a trade, the taker's
    tick    price on the YES scale in ticks of $0.0001 (NO bids are asks at 1 - p)
    lots    signed change, or the trade's count, in 0.01 contract
    seq     the subscription's number
    reach   the earliest `ts` of a delta in this or any later row: never falls, so it can be bisected

Beside the rows lie `bases`: the full book after every snapshot and every `CHECKPOINT` rows, and the rows from which on
nothing is known. A book is its last base and the deltas since.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from trading.domain.book import RawLevel, price_of, quantity_of
from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks

SNAPSHOT, DELTA, TRADE, GAP = range(4)
BID, ASK = range(2)
NONE: Final = -1
NEVER: Final = 2**63 - 1
CHECKPOINT: Final = 1024
# Messages of one market came up to 2 ms before others of an earlier `ts_ms` (all recordings that we have). What a gap
# swallowed may be that much older than what stands before it; we allow far more.
SKEW_MS: Final = 250

ROW_COLUMNS: Final = ("ts", "recv", "kind", "side", "tick", "lots", "seq", "reach")
BASE_COLUMNS: Final = ("base_row", "base_start", "base_count")
LEVEL_COLUMNS: Final = ("level_side", "level_tick", "level_lots")
GAP_COLUMNS: Final = ("gap_row", "gap_from")
COLUMNS: Final = ROW_COLUMNS + BASE_COLUMNS + LEVEL_COLUMNS + GAP_COLUMNS

Column: TypeAlias = "memoryview[int]"


class NotKnown(Exception):
    """The recording does not tell the book at that instant; the message says why."""

    code = "E872"


@dataclass(frozen=True, slots=True)
class Row:
    """One row, for whoever walks through a recording."""

    ts: int
    recv: int
    kind: int
    side: int
    tick: Ticks
    lots: Lots
    seq: int


@dataclass(frozen=True, slots=True)
class RecordedBook:
    """A full book: lots by tick, both sides on the YES scale."""

    bids: Mapping[Ticks, Lots]
    asks: Mapping[Ticks, Lots]

    def wire(self) -> dict[str, list[list[str]]]:
        """As the exchange writes it: each side's bids on its own scale, by ascending price."""
        yes = sorted(self.bids.items())
        no = sorted((TICKS_PER_DOLLAR - tick, lots) for tick, lots in self.asks.items())
        return {"yes": [_level(level) for level in yes], "no": [_level(level) for level in no]}


class Columns:
    """Random access to one market's recording. Close it, or use it in a `with`, to give the mapped file back."""

    def __init__(self, ticker: str, columns: Mapping[str, Column], reasons: Mapping[int, str]) -> None:
        self.ticker = ticker
        self.reasons = reasons  # why the book is unknown, by the row of the gap
        self.ts, self.recv, self.kind, self.side = (columns[name] for name in ROW_COLUMNS[:4])
        self.tick, self.lots, self.seq, self.reach = (columns[name] for name in ROW_COLUMNS[4:])
        self._base_row, self._base_start, self._base_count = (columns[name] for name in BASE_COLUMNS)
        self._level_side, self._level_tick, self._level_lots = (columns[name] for name in LEVEL_COLUMNS)
        self._gap_row, self._gap_from = (columns[name] for name in GAP_COLUMNS)

    def __len__(self) -> int:
        return len(self.ts)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The rows from `start` up to, but without, `stop`."""
        for at in range(start, len(self) if stop is None else min(stop, len(self))):
            yield Row(
                *(self.ts[at], self.recv[at], self.kind[at], self.side[at]),
                *(self.tick[at], self.lots[at], self.seq[at]),
            )

    def row_at(self, ts_ms: int) -> int:
        """The row of the last change with `ts` ≤ `ts_ms`; -1 when there is none."""
        return bisect_right(self.reach, ts_ms) - 1

    def row_received(self, recv_ms: int) -> int:
        """The last row received up to `recv_ms`, for a clock that runs on receipt; -1 when there is none."""
        return bisect_right(self.recv, recv_ms) - 1

    def book_at(self, ts_ms: int) -> RecordedBook:
        """The book at that exchange time: after the last change, in the order of the files, with `ts` ≤ `ts_ms`.

        A snapshot carries no time of its own: it counts from the first change after it. Trades change no book, so
        their times decide nothing. Raises NotKnown before the first change, after a gap up to the first change that
        follows its healing snapshot, and within SKEW_MS before a gap, where a lost change may have belonged.
        """
        row = self.row_at(ts_ms)
        if row < 0:
            raise NotKnown(f"{self.ticker}: no change of the book was recorded up to {ts_ms}")
        following = bisect_right(self._gap_row, row)
        if following < len(self._gap_row) and ts_ms >= self._gap_from[following]:
            raise NotKnown(f"{self.ticker} at {ts_ms}: {self.reasons[self._gap_row[following]]}")
        return self.book_after(row)

    def book_after(self, row: int) -> RecordedBook:
        """The book after the messages up to and including `row`. Raises NotKnown."""
        base = bisect_right(self._base_row, row) - 1
        if base < 0:
            raise NotKnown(f"{self.ticker}: nothing is known before the first snapshot")
        first = self._base_row[base]
        if self._base_count[base] == NONE:
            raise NotKnown(f"{self.ticker}: {self.reasons.get(first, 'no snapshot after a gap')}")
        sides = self._base(base)
        kinds, at_side, ticks, lots = self.kind, self.side, self.tick, self.lots
        for at in range(first + 1, row + 1):
            if kinds[at] == DELTA:
                levels = sides[at_side[at]]
                levels[ticks[at]] = levels.get(ticks[at], 0) + lots[at]
        bids, asks = ({tick: count for tick, count in side.items() if count} for side in sides)
        return RecordedBook(bids, asks)

    def span(self) -> tuple[int, int]:
        """The first and last `ts` of a change. Raises NotKnown when there is none."""
        end = bisect_left(self.reach, NEVER)
        if not end:
            raise NotKnown(f"{self.ticker}: no change of the book was recorded")
        return self.reach[0], self.reach[end - 1]

    def _base(self, base: int) -> tuple[dict[Ticks, Lots], dict[Ticks, Lots]]:
        sides: tuple[dict[Ticks, Lots], dict[Ticks, Lots]] = ({}, {})
        start = self._base_start[base]
        for at in range(start, start + self._base_count[base]):
            sides[self._level_side[at]][self._level_tick[at]] = self._level_lots[at]
        return sides


def _level(level: RawLevel) -> list[str]:
    return [str(price_of(level[0])), str(quantity_of(level[1]))]
