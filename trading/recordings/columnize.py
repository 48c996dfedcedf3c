"""Turn one market's messages into the columns of `columns`, in one pass."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from trading.domain.book import Book, BookFault, lots, ticks
from trading.domain.orders import BookSide
from trading.recordings import columns
from trading.recordings.columns import ASK, BID, CHECKPOINT, DELTA, GAP, NEVER, NONE, SKEW_MS, SNAPSHOT, TRADE
from trading.recordings.messages import Delta, Gap, Misplaced, Received, Snapshot, Trade, apply, delta_change

_SIDES = {BookSide.BID: BID, BookSide.ASK: ASK}


class Columnizer:
    """Collects rows and bases; `columns` and `reasons` are complete after `finish`."""

    def __init__(self, ticker: str) -> None:
        self.columns: dict[str, array[int]] = {name: array("q") for name in columns.COLUMNS}
        self.reasons: dict[int, str] = {}
        self._book = Book(ticker)
        self._rows = 0
        self._next_base = 0
        self._last_stamped = NONE  # the row of the last change with a time
        self._highest = 0
        self._begin_connection()

    def take(self, messages: Iterable[Received]) -> None:
        """Add messages in their order. One that describes no real book is followed by a gap."""
        for message in messages:
            try:
                apply(self._book, message)
            except BookFault as fault:
                self._add(message)
                self._gap(message.recv_ms, str(fault))
                continue
            if isinstance(message.event, Gap):
                self._gap(message.recv_ms, message.event.reason, message.event.misplaced)
            else:
                self._add(message)
                if isinstance(message.event, Snapshot) or (
                    self._rows > self._next_base and self._book.is_current
                ):
                    self._base()

    def finish(self) -> None:
        """Work out what needs the whole recording: how far back later rows reach, and from when a gap counts."""
        reach, earliest = self.columns["reach"], NEVER
        kinds, stamps = self.columns["kind"], self.columns["ts"]
        for row in range(self._rows - 1, -1, -1):
            if kinds[row] == DELTA and stamps[row] != NONE:
                earliest = min(earliest, stamps[row])
            reach[row] = earliest
        gap_from = self.columns["gap_from"]
        for number, last in enumerate(gap_from):
            gap_from[number] = 0 if last == NONE else reach[last] - SKEW_MS

    def _add(self, message: Received) -> None:
        event = message.event
        if isinstance(event, Delta):
            self._highest = event.seq
            side, tick, change = delta_change(event.msg)
            stamp = NONE if event.msg.ts_ms is None else event.msg.ts_ms
            if stamp != NONE:
                self._last_stamped = self._rows
            self._row(stamp, message.recv_ms, DELTA, _SIDES[side], tick, change, event.seq)
        elif isinstance(event, Trade):
            body = event.msg
            side, price = BookSide(body.taker_book_side), ticks(body.yes_price_dollars)
            self._row(body.ts_ms, message.recv_ms, TRADE, _SIDES[side], price, lots(body.count_fp), event.seq)
        elif isinstance(event, Snapshot):
            if event.seq <= self._highest:
                self._begin_connection()
            self._highest = event.seq
            self._row(NONE, message.recv_ms, SNAPSHOT, 0, 0, 0, event.seq)

    def _gap(self, recv_ms: int, reason: str, misplaced: Misplaced | None = None) -> None:
        self.reasons[self._rows] = reason
        self.columns["gap_row"].append(self._rows)
        self.columns["gap_from"].append(self._last_certain(misplaced))
        self._append_base(self._rows, 0, NONE)
        self._row(NONE, recv_ms, GAP, 0, 0, 0, 0)
        self._begin_connection()

    def _last_certain(self, misplaced: Misplaced | None) -> int:
        """The row of the last change that nothing lost can have come before."""
        if misplaced is None:
            return self._last_stamped
        kinds, numbers, receipts = self.columns["kind"], self.columns["seq"], self.columns["recv"]
        last = self._before_connection
        for row in range(self._connection, self._rows):
            is_higher = numbers[row] > misplaced.seq and (kinds[row] == TRADE) is misplaced.is_trade
            if is_higher or receipts[row] > misplaced.recv_ms:
                break
            if kinds[row] == DELTA and self.columns["ts"][row] != NONE:
                last = row
        return last

    def _begin_connection(self) -> None:
        self._connection, self._before_connection = self._rows, self._last_stamped

    def _base(self) -> None:
        levels = self.columns["level_side"], self.columns["level_tick"], self.columns["level_lots"]
        start = len(levels[0])
        for side in (BookSide.BID, BookSide.ASK):
            for tick, count in self._book.raw_levels(side):
                for column, value in zip(levels, (_SIDES[side], tick, count), strict=True):
                    column.append(value)
        self._append_base(self._rows - 1, start, len(levels[0]) - start)
        self._next_base = self._rows + CHECKPOINT

    def _append_base(self, *values: int) -> None:
        for name, value in zip(columns.BASE_COLUMNS, values, strict=True):
            self.columns[name].append(value)

    def _row(self, *values: int) -> None:
        for name, value in zip(columns.ROW_COLUMNS, (*values, NEVER), strict=True):
            self.columns[name].append(value)
        self._rows += 1
