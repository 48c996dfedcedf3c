"""Candles of one market, made from its trades and its best prices, as the exchange makes its own (API.md 10). Pure.

A period ends at `end_ms` and holds everything from its start up to, not including, its end. A missing bid counts as 0
and a missing ask as 1, as on the wire. A quiet minute opens and closes where the one before closed; it is not kept but
filled in by whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

MINUTE_MS: Final = 60_000
MINUTES: Final = (1, 60, 1440)
ZERO, ONE = Decimal(0), Decimal(1)


@dataclass(frozen=True, slots=True)
class Span:
    """Open, high, low and close of one price in dollars."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @classmethod
    def flat(cls, price: Decimal) -> Span:
        return cls(price, price, price, price)

    def then(self, price: Decimal) -> Span:
        return Span(self.open, max(self.high, price), min(self.low, price), price)

    def join(self, later: Span) -> Span:
        return Span(self.open, max(self.high, later.high), min(self.low, later.low), later.close)


@dataclass(frozen=True, slots=True)
class Candle:
    """One period. `traded` is None without a trade; `previous` is the last traded price before it.

    `is_whole` False: part of the period was not heard, so that volume, highs and lows may lack something.
    """

    end_ms: int
    bid: Span
    ask: Span
    traded: Span | None = None
    volume: Decimal = ZERO
    turnover: Decimal = ZERO  # price × quantity, summed
    open_interest: Decimal | None = None
    previous: Decimal | None = None
    is_whole: bool = True

    @property
    def mean(self) -> Decimal | None:
        """The mean traded price, weighted by quantity, to $0.0001; None also where the exchange gave none."""
        known = self.volume and self.turnover  # nothing trades at 0: no turnover of a volume is one not told
        return (self.turnover / self.volume).quantize(Decimal("0.0001")) if known else None

    @property
    def last(self) -> Decimal | None:
        """The last traded price at its end."""
        return self.traded.close if self.traded else self.previous

    def quoted(self, bid: Decimal, ask: Decimal) -> Candle:
        return replace(self, bid=self.bid.then(bid), ask=self.ask.then(ask))

    def after_trade(self, price: Decimal, quantity: Decimal) -> Candle:
        return replace(
            self,
            traded=self.traded.then(price) if self.traded else Span.flat(price),
            volume=self.volume + quantity,
            turnover=self.turnover + price * quantity,
        )

    def join(self, later: Candle) -> Candle:
        """This one and a later part as one, ending where the later one ends."""
        return Candle(
            end_ms=later.end_ms,
            bid=self.bid.join(later.bid),
            ask=self.ask.join(later.ask),
            traded=_join(self.traded, later.traded),
            volume=self.volume + later.volume,
            turnover=self.turnover + later.turnover,
            open_interest=self.open_interest if later.open_interest is None else later.open_interest,
            previous=self.previous,
            is_whole=self.is_whole and later.is_whole,
        )

    def quiet(self, end_ms: int) -> Candle:
        """A later period in which nothing has happened since."""
        return Candle(
            end_ms,
            Span.flat(self.bid.close),
            Span.flat(self.ask.close),
            open_interest=self.open_interest,
            previous=self.last,
            is_whole=self.is_whole,
        )


def _join(first: Span | None, later: Span | None) -> Span | None:
    if first is None or later is None:
        return first or later
    return first.join(later)


def end_of(at_ms: int, minutes: int = 1) -> int:
    """The end of the period that a moment lies in."""
    length = minutes * MINUTE_MS
    return (at_ms // length + 1) * length


def fold(candles: Iterable[Candle], minutes: int) -> Iterator[Candle]:
    """Longer periods out of shorter ones, which come in order of time."""
    held: Candle | None = None
    for candle in candles:
        end = end_of(candle.end_ms - 1, minutes)
        if held is not None and held.end_ms != end:
            yield held
            held = None
        whole = candle if held is None else held.join(candle)
        held = replace(whole, end_ms=end)
    if held is not None:
        yield held


def filled(candles: Iterable[Candle], until_ms: int, minutes: int) -> Iterator[Candle]:
    """The same with the quiet periods between them, and after the last one up to `until_ms`."""
    before: Candle | None = None
    for candle in candles:
        if before is not None:
            yield from _quiet(before, candle.end_ms, minutes)
        yield candle
        before = candle
    if before is not None:
        yield from _quiet(before, until_ms + 1, minutes)


def _quiet(before: Candle, until_ms: int, minutes: int) -> Iterator[Candle]:
    length = minutes * MINUTE_MS
    for end_ms in range(before.end_ms + length, until_ms, length):
        yield before.quiet(end_ms)


class Maker:
    """Makes one market's minutes while they run. What comes late for a minute that was given out is given as a part."""

    def __init__(self) -> None:
        self._running: Candle | None = None
        self._before: Candle | None = None
        self._done: list[Candle] = []
        self._missed = True  # the minute in which we begin to listen is not whole

    def quote(self, at_ms: int, bid: Decimal | None, ask: Decimal | None, interest: Decimal | None) -> None:
        """The best prices changed; `interest` is the open interest with them, where it is told."""
        low, high = ZERO if bid is None else bid, ONE if ask is None else ask
        candle = self._at(at_ms, low, high).quoted(low, high)
        self._running = candle if interest is None else replace(candle, open_interest=interest)

    def trade(self, at_ms: int, price: Decimal, quantity: Decimal) -> None:
        """A trade was printed."""
        self._running = self._at(at_ms, ZERO, ONE).after_trade(price, quantity)

    def miss(self) -> None:
        """Messages may have been lost: the running minute, or else the next one, is not whole."""
        if self._running is None:
            self._missed = True
        else:
            self._running = replace(self._running, is_whole=False)

    def take(self, until_ms: int) -> list[Candle]:
        """The minutes that ended by then, each once."""
        if self._running is not None and self._running.end_ms <= until_ms:
            self._finish(self._running)
        taken, self._done = self._done, []
        return taken

    def _at(self, at_ms: int, bid: Decimal, ask: Decimal) -> Candle:
        end, running = end_of(at_ms), self._running
        if running is not None and running.end_ms >= end:
            return running
        if running is not None:
            self._finish(running)
        before, whole = self._before, not self._missed
        self._missed = False
        if before is None:
            return Candle(end, Span.flat(bid), Span.flat(ask), is_whole=whole)
        return replace(before.quiet(max(end, before.end_ms)), is_whole=whole)

    def _finish(self, candle: Candle) -> None:
        self._done.append(candle)
        self._before, self._running = candle, None
