"""Candles of a market, as rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db import models

from kalshi_site.models.fields import CountField, DollarsField
from trading.domain.candles import Candle as Made
from trading.domain.candles import Span

PARTS = ("open", "high", "low", "close")


class Candle(models.Model):
    """One period in which something happened; quiet ones are filled in when read. Bounded: housekeeping prunes."""

    ticker = models.CharField(max_length=120)
    minutes = models.PositiveSmallIntegerField(help_text="1, 60 or 1440.")
    end_at = models.DateTimeField()
    bid_open = DollarsField()
    bid_high = DollarsField()
    bid_low = DollarsField()
    bid_close = DollarsField()
    ask_open = DollarsField()
    ask_high = DollarsField()
    ask_low = DollarsField()
    ask_close = DollarsField()
    price_open = DollarsField(null=True)
    price_high = DollarsField(null=True)
    price_low = DollarsField(null=True)
    price_close = DollarsField(null=True)
    previous = DollarsField(null=True)
    volume = CountField(default=0)
    turnover = DollarsField(default=0)
    open_interest = CountField(null=True)
    is_whole = models.BooleanField(help_text="False: part of the period was not heard.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["ticker", "minutes", "end_at"], name="one_candle_per_period")
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["minutes", "end_at"])]

    def __str__(self) -> str:
        return f"{self.ticker} {self.minutes} min to {self.end_at:%Y-%m-%d %H:%M}"

    @property
    def made(self) -> Made:
        return Made(
            end_ms=round(self.end_at.timestamp() * 1000),
            bid=Span(*(getattr(self, f"bid_{part}") for part in PARTS)),
            ask=Span(*(getattr(self, f"ask_{part}") for part in PARTS)),
            traded=None
            if self.price_open is None
            else Span(*(getattr(self, f"price_{part}") for part in PARTS)),
            volume=self.volume,
            turnover=self.turnover,
            open_interest=self.open_interest,
            previous=self.previous,
            is_whole=self.is_whole,
        )

    @classmethod
    def row(cls, ticker: str, minutes: int, candle: Made) -> Candle:
        """An unsaved row."""
        spans: dict[str, Any] = {}
        for name, span in (("bid", candle.bid), ("ask", candle.ask), ("price", candle.traded)):
            spans |= {f"{name}_{part}": None if span is None else getattr(span, part) for part in PARTS}
        return cls(
            ticker=ticker,
            minutes=minutes,
            end_at=datetime.fromtimestamp(candle.end_ms / 1000, UTC),
            volume=candle.volume,
            turnover=candle.turnover,
            open_interest=candle.open_interest,
            previous=candle.previous,
            is_whole=candle.is_whole,
            **spans,
        )
