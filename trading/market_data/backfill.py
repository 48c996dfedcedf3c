"""What the feed did not hear whole, from the exchange's own candles: they replace ours where both exist."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from trading.domain.candles import ZERO, Span
from trading.domain.candles import Candle as Made
from trading.exchange import reports
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import MarketDataGateway
from trading.market_data.charts import upsert
from trading.models import Candle, Market

log = logging.getLogger(__name__)

SPAN: Final = timedelta(hours=2)  # what a market's page shows
SETTLED: Final = timedelta(minutes=1)  # our own minute is written by then
ASK_AGAIN: Final = timedelta(minutes=10)  # of a market of which the exchange had nothing
MOST: Final = 50  # markets at a time: 6,000 candles


@dataclass(slots=True)
class Backfill:
    """One look asks for some markets that lack something. Not thread-safe."""

    exchange: MarketDataGateway
    _asked: dict[str, datetime] = field(default_factory=dict)

    def look(self) -> None:
        """Ask and write. What cannot be read stays as it was, and says that it is not whole."""
        now = timezone.now()
        self._asked = {ticker: at for ticker, at in self._asked.items() if now - at < ASK_AGAIN}
        tickers = self._lacking(now)[:MOST]
        if not tickers:
            return
        self._asked |= dict.fromkeys(tickers, now)
        since, until = now - SPAN, now - SETTLED
        try:
            told = self.exchange.candles_of(tickers, since=since, until=until)
        except ExchangeError as error:
            log.warning("charts.backfill.unread", extra={"error": repr(error)})
            return
        for ticker, candles in told.items():
            write_told(ticker, [each for each in candles if since < each.end_at <= until])

    def _lacking(self, now: datetime) -> list[str]:
        recent = Candle.objects.filter(minutes=1, end_at__gt=now - SPAN)
        broken = recent.filter(is_whole=False, end_at__lte=now - SETTLED).values_list("ticker", flat=True)
        unseen = Market.objects.open(now).exclude(ticker__in=recent.values("ticker"))
        wanted = [
            *broken.distinct(),
            *unseen.order_by("close_at").values_list("ticker", flat=True)[: 4 * MOST],
        ]
        return [ticker for ticker in dict.fromkeys(wanted) if ticker not in self._asked]


@transaction.atomic
def write_told(ticker: str, candles: Iterable[reports.Candle]) -> None:
    """Put the exchange's minutes in place of ours; a quiet one is not kept, but for the first."""
    rows, before = [], None
    for told in candles:
        made = made_of(told)
        if before is None or not _is_quiet(before, made):
            rows.append(Candle.row(ticker, 1, made))
        before = made
    upsert(rows)


def made_of(told: reports.Candle) -> Made:
    """The exchange's candle in our form."""
    return Made(
        end_ms=round(told.end_at.timestamp() * 1000),
        bid=_span(told.bid),
        ask=_span(told.ask),
        traded=None if told.traded is None else _span(told.traded),
        volume=told.volume,
        turnover=ZERO if told.mean is None else told.mean * told.volume,
        open_interest=told.open_interest,
        previous=told.previous,
    )


def _span(told: reports.OpenHighLowClose) -> Span:
    return Span(told.open, told.high, told.low, told.close)


def _is_quiet(before: Made, now: Made) -> bool:
    return (
        not now.volume and now.bid == Span.flat(before.bid.close) and now.ask == Span.flat(before.ask.close)
    )
