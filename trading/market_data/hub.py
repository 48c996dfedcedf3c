"""The live books in memory: books kept by the stream or told by events, changed quotes out.

One event loop owns it; nothing here waits. Memory is bounded: a book is two short rows, and there are at most so many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from trading.domain.book import Book, BookFault
from trading.domain.markets import TopOfBook
from trading.domain.orders import BookSide
from trading.exchange.bookkeeping import Shelf
from trading.exchange.events import (
    BookDelta,
    BookSnapshot,
    Disconnected,
    Gap,
    StreamEvent,
    TickerUpdate,
)

log = logging.getLogger(__name__)

DEPTH: Final = 10  # levels of each side that are written out
MOST_BOOKS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Touch:
    """One market's quote at the moment it was taken: `is_trusted` False means that it has none."""

    ticker: str
    top: TopOfBook
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    is_trusted: bool


@dataclass(frozen=True, slots=True)
class Activity:
    """What the ticker channel told of a market's trading."""

    last_price: Decimal | None
    volume: Decimal
    open_interest: Decimal


class Hub:
    """Keeps a book for each followed market and notes which of them changed.

    A stream that keeps books itself does so in `shelf`; what one tells by events is applied here, and `on_fault` is
    called with the ticker of a book whose messages describe no real book: its snapshot must be fetched.

    `books` is in the order in which they were wanted, the least recently wanted first: those go when there are more
    than `most_books`.
    """

    def __init__(self, on_fault: Callable[[str], None], *, most_books: int = MOST_BOOKS) -> None:
        self.books: dict[str, Book] = {}
        self.activity: dict[str, Activity] = {}
        self.shelf = Shelf(self.books)
        self._most_books = most_books
        self._revisions: dict[str, int] = {}
        self._on_fault = on_fault
        self._unwritten: set[str] = set()
        self._unpublished: set[str] = set()
        self._active: set[str] = set()

    def follow(self, tickers: Iterable[str]) -> list[str]:
        """Want these markets: keep their books too, untrusted until their snapshots.

        Returns the markets whose books had to go for them: they must be unsubscribed.
        """
        for ticker in tickers:
            book = self.books.pop(ticker, None)
            if book is None:
                book = Book(ticker)
                self._changed(ticker)
            self.books[ticker] = book  # the most recently wanted is the last
        evicted = list(self.books)[: max(0, len(self.books) - self._most_books)]
        if evicted:
            log.warning("feed.books.evicted", extra={"books": len(evicted), "most": self._most_books})
            self.drop(evicted)
        return evicted

    def drop(self, tickers: Iterable[str]) -> None:
        """Keep these books no longer; their quotes go out once more, as untrusted."""
        for ticker in tickers:
            for each in (self.books, self.activity, self._revisions):
                each.pop(ticker, None)
            self._active.discard(ticker)
            self._changed(ticker)

    def apply(self, event: StreamEvent) -> None:
        """Bring the books up to one event."""
        if isinstance(event, BookDelta | BookSnapshot):
            self._apply_book(event)
        elif isinstance(event, TickerUpdate):
            if event.ticker not in self.books:
                return
            self.activity[event.ticker] = Activity(event.last_price, event.volume, event.open_interest)
            self._active.add(event.ticker)
        elif isinstance(event, Disconnected):
            self.distrust(self.books)
        elif isinstance(event, Gap):
            self.distrust(event.tickers)

    def distrust(self, tickers: Iterable[str]) -> None:
        """Empty these books until their next snapshots."""
        for ticker in tickers:
            book = self.books.get(ticker)
            if book is not None and book.is_current:
                book.invalidate()

    @property
    def waiting(self) -> list[str]:
        """The followed markets that have no trusted book yet."""
        return [ticker for ticker, book in self.books.items() if not book.is_current]

    def take_unwritten(self) -> list[Touch]:
        """The quotes that changed since the last call."""
        self._note_revisions()
        taken, self._unwritten = self._unwritten, set()
        return [self.touch(ticker) for ticker in sorted(taken)]

    def put_back(self, touches: Iterable[Touch]) -> None:
        """These could not be written: take them again, as they are then."""
        self._unwritten.update(touch.ticker for touch in touches)

    def take_unpublished(self) -> list[Touch]:
        """The quotes whose best prices may have changed since the last call."""
        self._note_revisions()
        taken, self._unpublished = self._unpublished, set()
        return [self.touch(ticker) for ticker in sorted(taken)]

    def publish_again(self, touches: Iterable[Touch]) -> None:
        """These could not be published: take them again, as they are then."""
        self._unpublished.update(touch.ticker for touch in touches)

    def take_activity(self) -> dict[str, Activity]:
        """The trading of the markets that traded since the last call."""
        taken, self._active = self._active, set()
        return {ticker: self.activity[ticker] for ticker in sorted(taken)}

    def touch(self, ticker: str) -> Touch:
        """The quote of one market now."""
        book = self.books.get(ticker)
        if book is None or not book.is_current:
            return Touch(ticker, TopOfBook(None, None), (), (), is_trusted=False)
        return Touch(
            ticker, book.top(), _levels(book, BookSide.BID), _levels(book, BookSide.ASK), is_trusted=True
        )

    def _apply_book(self, event: BookDelta | BookSnapshot) -> None:
        book = self.books.get(event.ticker)
        if book is None:
            return
        try:
            if isinstance(event, BookDelta):
                book.apply_delta(event.side, event.tick, event.change, at_ms=event.at_ms)
            else:
                book.apply_snapshot(event.bids, event.asks, at_ms=event.at_ms)
        except BookFault as fault:
            log.warning("feed.book.fault", extra={"ticker": event.ticker, "fault": str(fault)})
            self._on_fault(event.ticker)

    def _note_revisions(self) -> None:
        seen = self._revisions
        for ticker, book in self.books.items():
            if seen.get(ticker) != book.revision:
                seen[ticker] = book.revision
                self._changed(ticker)

    def _changed(self, ticker: str) -> None:
        self._unwritten.add(ticker)
        self._unpublished.add(ticker)


def at(millis: int | None) -> datetime | None:
    """Unix milliseconds as an aware time."""
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)


def _levels(book: Book, side: BookSide) -> tuple[tuple[str, str], ...]:
    return tuple((f"{price:f}", f"{count:f}") for price, count in book.levels(side, DEPTH))
