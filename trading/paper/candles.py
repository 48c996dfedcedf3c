"""Candlesticks of one market, one minute each, from its trades and its quotes; longer periods are folded from
minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.paper.wire import count_fp, dollars

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
KEPT_MINUTES = 3 * 24 * 60
PERIODS = (1, 60, 1440)


@dataclass(slots=True)
class Range:
    """Open, high, low and close of one price."""

    open: Ticks
    high: Ticks
    low: Ticks
    close: Ticks

    def add(self, ticks: Ticks) -> None:
        self.high, self.low, self.close = max(self.high, ticks), min(self.low, ticks), ticks

    def fold(self, later: Range) -> None:
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close

    def payload(self) -> dict[str, Any]:
        return {
            "open_dollars": dollars(self.open),
            "low_dollars": dollars(self.low),
            "high_dollars": dollars(self.high),
            "close_dollars": dollars(self.close),
        }


def flat(ticks: Ticks) -> Range:
    return Range(ticks, ticks, ticks, ticks)


@dataclass(slots=True)
class Candle:
    """One period. `price` is None while nothing traded; a missing bid counts as 0, a missing ask as $1 (as on
    the wire)."""

    end_ms: int
    bid: Range
    ask: Range
    previous: Ticks | None
    open_interest: Lots
    price: Range | None = None
    volume: Lots = 0
    turnover: int = 0  # ticks x lots

    def add_trade(self, ticks: Ticks, lots: Lots) -> None:
        if self.price is None:
            self.price = flat(ticks)
        self.price.add(ticks)
        self.volume += lots
        self.turnover += ticks * lots

    def fold(self, later: Candle, end_ms: int) -> None:
        """Take in the next minute of the same period."""
        self.end_ms = end_ms
        self.bid.fold(later.bid)
        self.ask.fold(later.ask)
        if later.price is not None:
            if self.price is None:
                self.price = Range(later.price.open, later.price.high, later.price.low, later.price.close)
            else:
                self.price.fold(later.price)
        self.volume += later.volume
        self.turnover += later.turnover
        self.open_interest = later.open_interest

    def copy(self, end_ms: int) -> Candle:
        fresh = Candle(end_ms, _copy(self.bid), _copy(self.ask), self.previous, self.open_interest)
        fresh.price = None if self.price is None else _copy(self.price)
        fresh.volume, fresh.turnover = self.volume, self.turnover
        return fresh

    def projected(self, end_ms: int) -> Candle:
        """A later period in which nothing has happened since (`include_latest_before_start`)."""
        last = self.price.close if self.price else self.previous
        return Candle(end_ms, flat(self.bid.close), flat(self.ask.close), last, self.open_interest)

    def payload(self) -> dict[str, Any]:
        """The wire's MarketCandlestick."""
        names = ("open_dollars", "low_dollars", "high_dollars", "close_dollars", "mean_dollars")
        price: dict[str, Any] = dict.fromkeys(names)
        if self.price is not None:
            price = {**self.price.payload(), "mean_dollars": dollars(round(self.turnover / self.volume))}
        price["previous_dollars"] = None if self.previous is None else dollars(self.previous)
        return {
            "end_period_ts": self.end_ms // 1000,
            "yes_bid": self.bid.payload(),
            "yes_ask": self.ask.payload(),
            "price": price,
            "volume_fp": count_fp(self.volume),
            "open_interest_fp": count_fp(self.open_interest),
        }


def _copy(span: Range) -> Range:
    return Range(span.open, span.high, span.low, span.close)


@dataclass(slots=True)
class Candles:
    """The minutes of one market; quiet minutes are filled in when they are asked for."""

    minutes: deque[Candle] = field(default_factory=lambda: deque(maxlen=KEPT_MINUTES))
    last_price: Ticks | None = None
    day: deque[tuple[int, Lots]] = field(
        default_factory=deque
    )  # traded lots by end of minute, up to a day back
    day_lots: Lots = 0

    def day_volume(self, now_ms: int) -> Lots:
        """Lots traded within the last 24 hours, to the minute."""
        while self.day and self.day[0][0] <= now_ms - DAY_MS:
            self.day_lots -= self.day.popleft()[1]
        return self.day_lots

    def add_quote(self, at_ms: int, bid: Ticks | None, ask: Ticks | None, open_interest: Lots) -> None:
        bid_ticks, ask_ticks = bid or 0, TICKS_PER_DOLLAR if ask is None else ask
        candle = self._minute(at_ms, bid_ticks, ask_ticks, open_interest)
        candle.bid.add(bid_ticks)
        candle.ask.add(ask_ticks)

    def add_trade(self, at_ms: int, ticks: Ticks, lots: Lots, open_interest: Lots) -> None:
        last = self.minutes[-1] if self.minutes else None
        bid, ask = (last.bid.close, last.ask.close) if last else (0, TICKS_PER_DOLLAR)
        candle = self._minute(at_ms, bid, ask, open_interest)
        candle.add_trade(ticks, lots)
        candle.open_interest = open_interest
        earlier = self.day.pop()[1] if self.day and self.day[-1][0] == candle.end_ms else 0
        self.day.append((candle.end_ms, earlier + lots))
        self.day_lots += lots
        self.last_price = ticks

    def between(self, start_ts: int, end_ts: int, period_minutes: int) -> list[Candle]:
        """Candles whose end lies in [start_ts, end_ts] (Unix seconds), oldest first."""
        period_ms = period_minutes * MINUTE_MS
        folded: list[Candle] = []
        for minute in self._filled(end_ts * 1000):
            end_ms = -(-minute.end_ms // period_ms) * period_ms
            if folded and folded[-1].end_ms == end_ms:
                folded[-1].fold(minute, end_ms)
            else:
                folded.append(minute.copy(end_ms))
        return [candle for candle in folded if start_ts * 1000 <= candle.end_ms <= end_ts * 1000]

    def latest_before(self, start_ts: int, period_minutes: int) -> Candle | None:
        """The last candle before `start_ts`, or None (`include_latest_before_start`)."""
        earlier = self.between(0, start_ts - 1, period_minutes)
        return earlier[-1] if earlier else None

    def _minute(self, at_ms: int, bid: Ticks, ask: Ticks, open_interest: Lots) -> Candle:
        end_ms = (at_ms // MINUTE_MS + 1) * MINUTE_MS
        last = self.minutes[-1] if self.minutes else None
        if last is not None and last.end_ms >= end_ms:
            return last
        opening = (last.bid.close, last.ask.close) if last else (bid, ask)
        candle = Candle(end_ms, flat(opening[0]), flat(opening[1]), self.last_price, open_interest)
        self.minutes.append(candle)
        return candle

    def _filled(self, end_ms: int) -> Iterable[Candle]:
        previous: Candle | None = None
        for minute in self.minutes:
            if previous is not None:
                yield from self._quiet(previous, minute.end_ms)
            yield minute
            previous = minute
        if previous is not None:
            yield from self._quiet(previous, min(end_ms, previous.end_ms + KEPT_MINUTES * MINUTE_MS) + 1)

    @staticmethod
    def _quiet(before: Candle, until_ms: int) -> Iterable[Candle]:
        for end_ms in range(before.end_ms + MINUTE_MS, until_ms, MINUTE_MS):
            yield before.projected(end_ms)
