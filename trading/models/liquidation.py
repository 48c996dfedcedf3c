"""One emergency liquidation: asked for by a person, carried out by execution, followed by whoever looks."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from kalshi_site.models.fields import DollarsField
from kalshi_site.versioning import HistoryRow, VersionedModel


class LiquidationQuerySet(models.QuerySet["Liquidation"]):
    def working(self, venue: str) -> LiquidationQuerySet:
        """The one whose end is not written down; a venue has at most one."""
        return self.filter(venue=venue, finished_at=None)

    def in_time(self) -> LiquidationQuerySet:
        """Those that may still sell: an execution that is dead writes no end of the others."""
        return self.filter(finished_at=None, ends_by__gt=timezone.now())


class Liquidation(VersionedModel):
    """Sell everything that is held, each market down to a floor that was fixed when it was asked for."""

    public_id = models.CharField(max_length=40, unique=True, editable=False)
    venue = models.CharField(max_length=10)
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=300, blank=True)
    slippage = DollarsField(help_text="Most dollars below the best bid at the beginning.")
    floors = models.JSONField(default=dict, help_text="Worst price per market, on the held side's own scale.")
    told = models.JSONField(default=dict, help_text="What was said last of each market.")
    tries = models.JSONField(default=dict, help_text="Exits sent per market.")
    remaining = models.JSONField(default=list, help_text="What was still held at the end.")
    ends_by = models.DateTimeField(help_text="Later nothing more is sold.")
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=300, blank=True)

    objects = LiquidationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["venue"], condition=Q(finished_at=None), name="one_liquidation_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.public_id} {self.outcome or 'working'}"

    @property
    def is_over(self) -> bool:
        return self.finished_at is not None

    @property
    def is_in_time(self) -> bool:
        """Whether it may still sell."""
        return not self.is_over and timezone.now() < self.ends_by

    def floor(self, ticker: str) -> Decimal | None:
        """The worst price for this market; None where nobody has bid since it was asked for."""
        stored = self.floors.get(ticker)
        return None if stored is None else Decimal(stored)


class LiquidationEvent(HistoryRow):
    """One step of a liquidation, in words."""

    liquidation = models.ForeignKey(Liquidation, on_delete=models.PROTECT, related_name="events")
    ticker = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["id"]

    def __str__(self) -> str:
        return f"{self.ticker}: {self.reason}" if self.ticker else self.reason
