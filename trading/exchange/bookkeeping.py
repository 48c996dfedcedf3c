"""Who keeps the books that a session follows: the session itself in the consumer's books, or the consumer by events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, Protocol

from trading.domain.book import LOTS, TICKS, Book
from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide
from trading.exchange.events import BookDelta, BookSnapshot, StreamEvent
from trading.exchange.public_frames import DeltaBody, stamp_of


class Kept(Protocol):
    """One trusted book: where its changes go. Raises BookFault when they cannot be true. `Book` is one."""

    def apply_delta(
        self, side: BookSide, tick: Ticks, change: Lots, at_ms: int | None = None, clock: int = 0, /
    ) -> Lots: ...


class Bookkeeper(Protocol):
    """Takes snapshots and doubts."""

    def keep(self, snapshot: BookSnapshot) -> Kept | None:
        """Begin a book anew; return where its changes go, None when nobody wants it. Raises BookFault."""

    def doubt(self, tickers: Iterable[str]) -> None:
        """These books may be wrong from now on, until their next snapshots."""


class Shelf:
    """Keeps the consumer's own books current, without an event for each change: the fast way.

    `books` stays the consumer's: markets may come and go at any time. `Book.revision` tells which have changed.
    """

    def __init__(self, books: Mapping[str, Book]) -> None:
        self._books = books

    def keep(self, snapshot: BookSnapshot) -> Kept | None:
        book = self._books.get(snapshot.ticker)
        if book is not None:
            book.apply_snapshot(snapshot.bids, snapshot.asks, at_ms=snapshot.at_ms, clock=snapshot.clock)
        return book

    def doubt(self, tickers: Iterable[str]) -> None:
        for ticker in tickers:
            book = self._books.get(ticker)
            if book is not None and book.is_current:
                book.invalidate()


class Teller:
    """Tells a consumer that keeps the books itself; doubts reach it as `Gap` and `Disconnected`."""

    def __init__(self, emit: Callable[[StreamEvent], None]) -> None:
        self._emit = emit

    def keep(self, snapshot: BookSnapshot) -> Kept | None:
        self._emit(snapshot)
        return _Told(snapshot.ticker, self._emit)

    def doubt(self, tickers: Iterable[str]) -> None:
        pass


class _Told:
    __slots__ = ("_emit", "_ticker")

    def __init__(self, ticker: str, emit: Callable[[StreamEvent], None]) -> None:
        self._ticker = ticker
        self._emit = emit

    def apply_delta(
        self, side: BookSide, tick: Ticks, change: Lots, at_ms: int | None = None, clock: int = 0
    ) -> Lots:
        self._emit(BookDelta(self._ticker, side, tick, change, at_ms or None, clock))
        return change


# Slots by price as the wire writes it, lots by slot, and what begins a level: where a side's changes go directly.
_Row = tuple[dict[str, int], list[Lots], Callable[[int, Lots], None]]
_NO_ROW: Final[_Row] = ({}, [], lambda *_: None)
NO_ROWS: Final = (_NO_ROW, _NO_ROW)


class KeptBooks:
    """The trusted books of one session: where the changes of each go.

    `rows` has the two sides of those that are books themselves, which the session writes into; `changed` the
    frame of the last change of each that it wrote so, until `stamp`.
    """

    def __init__(self, keeper: Bookkeeper, *, use_yes_price: bool) -> None:
        self.kept: dict[str, Kept] = {}
        self.rows: dict[str, tuple[_Row, _Row]] = {}
        self.changed: dict[str, str | bytes] = {}
        self._keeper = keeper
        self._is_yes_scale = use_yes_price

    def begin(self, snapshot: BookSnapshot) -> None:
        """Trust a book from its snapshot on. Raises BookFault: then it is untrusted."""
        self._drop(snapshot.ticker)
        kept = self._keeper.keep(snapshot)
        if kept is not None:
            self.kept[snapshot.ticker] = kept
            self._note_rows(snapshot.ticker, kept)

    def change(self, told: DeltaBody, text: str | bytes) -> None:
        """Apply a change of any kind to any book; one of an untrusted book has nothing to build on and is passed over.

        Raises BookFault, and ValueError for what is no price or count.
        """
        kept = self.kept.get(told.market_ticker)
        if kept is None:
            return
        side, tick, change = BookSide.BID, TICKS[told.price_dollars], LOTS[told.delta_fp]
        if told.side == "no":
            side, tick = BookSide.ASK, tick if self._is_yes_scale else TICKS_PER_DOLLAR - tick
        kept.apply_delta(side, tick, change, *stamp_of(text))
        self._note_rows(told.market_ticker, kept)

    def stamp(self) -> None:
        """Give the books that were written into the marks of their last change, to be read when somebody asks."""
        for ticker, text in self.changed.items():
            kept = self.kept.get(ticker)
            if isinstance(kept, Book):
                kept.stamp_later(partial(stamp_of, text))
        self.changed.clear()

    def forget(self, tickers: Iterable[str]) -> None:
        """Trust these no longer."""
        for ticker in tickers:
            self._drop(ticker)
        self._keeper.doubt(tickers)

    def _drop(self, ticker: str) -> None:
        for each in (self.kept, self.rows, self.changed):
            each.pop(ticker, None)

    def _note_rows(self, ticker: str, kept: Kept) -> None:
        """Finer rungs bring other rows."""
        if isinstance(kept, Book):
            rungs = kept.rungs
            no_slots = rungs.slots if self._is_yes_scale else rungs.mirrored
            self.rows[ticker] = (
                (rungs.slots, kept.bids, kept.begin_bid),
                (no_slots, kept.asks, kept.begin_ask),
            )
