"""Candles out: made from the feed's events, written minute by minute, rolled up into hours and days, bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from django.db import transaction
from django.db.models import Max

from trading.domain.candles import Candle as Made
from trading.domain.candles import Maker, end_of, filled, fold
from trading.exchange.events import Connected, Disconnected, Gap, StreamEvent, TickerUpdate, TradePrint
from trading.models import Candle

GRACE_MS: Final = 2_000  # a minute's last messages arrive a moment after its end
KEPT: Final[Mapping[int, timedelta]] = MappingProxyType(
    {1: timedelta(days=2), 60: timedelta(days=60), 1440: timedelta(days=800)}
)
SHORTER: Final[Mapping[int, int]] = MappingProxyType({60: 1, 1440: 60})
_FIELDS: Final = [
    field.name
    for field in Candle._meta.concrete_fields
    if field.name not in {"id", "ticker", "minutes", "end_at"}
]


class Charts:
    """A maker for each followed market. One event loop owns it; nothing here waits."""

    def __init__(self) -> None:
        self._makers: dict[str, Maker] = {}
        self._waiting: list[tuple[str, Made]] = []

    def apply(self, event: StreamEvent) -> None:
        """Bring the running minutes up to one event."""
        if isinstance(event, TickerUpdate):
            top = event.quote
            self._of(event.ticker).quote(event.at_ms, top.yes_bid, top.yes_ask, event.open_interest)
        elif isinstance(event, TradePrint):
            trade = event.trade
            self._of(trade.ticker).trade(event.at_ms, trade.price, trade.quantity)
        elif isinstance(event, Connected | Disconnected) or (
            isinstance(event, Gap) and event.channel in ("trade", "ticker")
        ):
            for maker in self._makers.values():
                maker.miss()

    def drop(self, tickers: Iterable[str]) -> None:
        """These markets are followed no longer; what they still have goes out."""
        for ticker in tickers:
            maker = self._makers.pop(ticker, None)
            if maker is not None:
                self._waiting += [(ticker, each) for each in maker.take(2**62)]

    def take(self, now_ms: int) -> list[tuple[str, Made]]:
        """The minutes that ended, each once."""
        taken, self._waiting = self._waiting, []
        for ticker, maker in self._makers.items():
            taken += [(ticker, each) for each in maker.take(now_ms - GRACE_MS)]
        return taken

    def take_all(self) -> list[tuple[str, Made]]:
        """Also the running ones, as parts: listening ends in the middle of a minute."""
        for maker in self._makers.values():
            maker.miss()
        return self.take(2**62)

    def put_back(self, taken: Iterable[tuple[str, Made]]) -> None:
        """These could not be written: take them again."""
        self._waiting[:0] = taken

    def _of(self, ticker: str) -> Maker:
        return self._makers.setdefault(ticker, Maker())


@transaction.atomic
def write_minutes(taken: Iterable[tuple[str, Made]]) -> None:
    """Write minutes; a part of a minute that has a row (of an earlier feed, or late) is joined to it."""
    parts: dict[tuple[str, int], Made] = {}
    for ticker, candle in taken:
        held = parts.get((ticker, candle.end_ms))
        parts[ticker, candle.end_ms] = candle if held is None else held.join(candle)
    ends = {datetime.fromtimestamp(end / 1000, UTC) for _, end in parts}
    rows = Candle.objects.filter(minutes=1, ticker__in={ticker for ticker, _ in parts}, end_at__in=ends)
    for row in rows:
        key = row.ticker, row.made.end_ms
        if key in parts:
            parts[key] = row.made.join(parts[key])
    upsert(Candle.row(ticker, 1, candle) for (ticker, _), candle in parts.items())


def upsert(rows: Iterable[Candle]) -> None:
    """Insert or replace candles."""
    Candle.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["ticker", "minutes", "end_at"],
        update_fields=_FIELDS,
        batch_size=100,
    )


@transaction.atomic
def roll_up(now: datetime) -> int:
    """Fold the minutes of finished hours into hours, and hours of finished days into days; returns how many rows.

    Safe to repeat: an hour is made anew from all its minutes as long as those are kept.
    """
    written = 0
    for minutes, shorter in SHORTER.items():
        begun = datetime.fromtimestamp((end_of(_ms(now), minutes) - minutes * 60_000) / 1000, UTC)
        last = Candle.objects.filter(minutes=minutes).aggregate(end=Max("end_at"))["end"]
        # The last one is made again: parts of it may have come late.
        since = begun - KEPT[shorter] if last is None else last - timedelta(minutes=minutes)
        rows = Candle.objects.filter(minutes=shorter, end_at__gt=since, end_at__lte=begun)
        made = [
            Candle.row(ticker, minutes, candle)
            for ticker, candles in _by_market(rows).items()
            for candle in fold(candles, minutes)
        ]
        upsert(made)
        written += len(made)
    return written


def prune(now: datetime) -> int:
    """Delete candles past their time; returns how many."""
    return sum(
        Candle.objects.filter(minutes=minutes, end_at__lt=now - kept).delete()[0]
        for minutes, kept in KEPT.items()
    )


def history(ticker: str, minutes: int, now: datetime, most: int) -> list[Made]:
    """The last candles up to now, oldest first, quiet periods filled in; the running period is not among them.

    Periods that are not rolled up yet are folded from shorter ones.
    """
    length = timedelta(minutes=minutes)
    since = now - length * (most + 1)
    stored = list(_read(ticker, minutes, since, now))
    if minutes in SHORTER:
        after = datetime.fromtimestamp(stored[-1].end_ms / 1000, UTC) if stored else since
        shorter = _parts(ticker, SHORTER[minutes], after, now)
        stored += fold(shorter, minutes)
    # The newest before the span opens it: a market may have been quiet for all of it.
    before = (
        Candle.objects.filter(ticker=ticker, minutes=minutes, end_at__lte=since).order_by("-end_at").first()
    )
    lead = [] if before is None else [before.made]
    until = end_of(_ms(now), minutes) - minutes * 60_000
    first = _ms(since)
    whole = [each for each in filled([*lead, *stored], until, minutes) if first < each.end_ms <= until]
    return whole[-most:]


def _parts(ticker: str, minutes: int, after: datetime, now: datetime) -> list[Made]:
    """What is stored of a shorter length after a moment, itself completed from still shorter ones."""
    stored = list(_read(ticker, minutes, after, now))
    if minutes in SHORTER:
        last = datetime.fromtimestamp(stored[-1].end_ms / 1000, UTC) if stored else after
        stored += fold(_parts(ticker, SHORTER[minutes], last, now), minutes)
    return stored


def _read(ticker: str, minutes: int, after: datetime, now: datetime) -> Iterable[Made]:
    rows = Candle.objects.filter(ticker=ticker, minutes=minutes, end_at__gt=after, end_at__lte=now)
    return [row.made for row in rows.order_by("end_at")]


def _by_market(rows: Iterable[Candle]) -> dict[str, list[Made]]:
    found: dict[str, list[Made]] = {}
    for row in sorted(rows, key=lambda each: (each.ticker, each.end_at)):
        found.setdefault(row.ticker, []).append(row.made)
    return found


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
