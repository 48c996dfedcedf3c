"""Steps of the exchange's fees: past, present and announced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from django.db import models

from kalshi_site.prepared import prepared
from trading.domain.fee_history import FeeStep, fees_at, next_step
from trading.domain.fees import FeeSchedule, FeeType, UnknownFee
from trading.models.market import Market


class FeeChange(models.Model):
    """One step: of a series, or of an event that overrides its series'. Past steps are never removed.

    An announced step that the exchange takes back before its time goes. `observed` steps were seen to hold without an
    announcement, from the moment they were first seen.
    """

    class Scope(models.TextChoices):
        SERIES = "series"
        EVENT = "event"

    class Source(models.TextChoices):
        ANNOUNCED = "announced"
        OBSERVED = "observed"

    scope = models.CharField(max_length=6, choices=Scope.choices)
    ticker = models.CharField(max_length=120)
    at = models.DateTimeField()
    fee_type = models.CharField(max_length=40, blank=True, help_text="Empty: not overridden.")
    multiplier = models.CharField(max_length=20, blank=True, help_text="Empty: not overridden.")
    source = models.CharField(max_length=10, choices=Source.choices)
    seen_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["scope", "ticker", "at"], name="one_fee_step_per_moment")
        ]
        ordering: ClassVar[list[str]] = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.scope} {self.ticker} {self.fee_type} ×{self.multiplier} from {self.at:%Y-%m-%d %H:%M}"

    @property
    def step(self) -> FeeStep:
        return FeeStep(
            self.at,
            FeeType(self.fee_type) if self.fee_type else None,
            Decimal(self.multiplier) if self.multiplier else None,
        )


@prepared
def _steps(series: tuple[str, ...], events: tuple[str, ...]) -> models.QuerySet[FeeChange]:
    of_series = models.Q(scope=FeeChange.Scope.SERIES, ticker__in=series)
    return FeeChange.objects.filter(of_series | models.Q(scope=FeeChange.Scope.EVENT, ticker__in=events))


Steps = Mapping[tuple[str, str], list[FeeStep]]


@dataclass(frozen=True, slots=True)
class FeeBook:
    """The steps of some series and events, read in one query."""

    steps: Steps

    @classmethod
    def of(cls, series: Iterable[str], events: Iterable[str]) -> FeeBook:
        found: dict[tuple[str, str], list[FeeStep]] = defaultdict(list)
        for row in _steps(tuple(set(series)), tuple(set(events))):
            found[row.scope, row.ticker].append(row.step)
        return cls(dict(found))

    @classmethod
    def of_markets(cls, rows: Iterable[Market]) -> FeeBook:
        held = list(rows)
        return cls.of({row.series_ticker for row in held}, {row.event_ticker for row in held})

    def at(self, series: str, event: str, at: datetime) -> FeeSchedule:
        """The fees at a moment. Raises UnknownFee when nothing is known of that time."""
        return fees_at(self._of("series", series), self._of("event", event), at)

    def knows(self, series: str) -> bool:
        """Whether any step of this series is known."""
        return bool(self._of("series", series))

    def next(self, series: str, event: str, at: datetime) -> FeeStep | None:
        """The next announced step that touches this event's markets, or None."""
        return next_step((*self._of("series", series), *self._of("event", event)), at)

    def of_market(self, row: Market, at: datetime) -> FeeSchedule:
        """The market's fees at a moment; what its own row says where the history has not begun.

        A moment before the history's first step has the type `flat`, whose fee cannot be computed: fail closed.
        """
        if not self.knows(row.series_ticker):
            return row.fees
        try:
            return self.at(row.series_ticker, row.event_ticker, at)
        except UnknownFee:
            return FeeSchedule(FeeType.FLAT)

    def _of(self, scope: str, ticker: str) -> list[FeeStep]:
        return self.steps.get((scope, ticker), [])
