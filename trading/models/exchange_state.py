"""What the exchange last said of itself: one row for each venue."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models

from kalshi_site.prepared import prepared
from kalshi_site.versioning import VersionedModel
from trading.domain.hours import ExchangeFacts, ShardState, Window


class ExchangeState(VersionedModel):
    """Written by the feed, which asks every few seconds. `version` grows only when something changed but the time."""

    venue = models.CharField(max_length=10, primary_key=True)
    is_active = models.BooleanField(help_text="False: it takes nothing, not even cancels.")
    is_trading = models.BooleanField(help_text="False: it takes cancels only.")
    resumes_at = models.DateTimeField(null=True, blank=True)
    shards = models.JSONField(default=list, help_text="[exchange_index, is_active, is_trading] each.")
    maintenance = models.JSONField(
        default=list, help_text="Announced windows: [start, end] in ISO 8601 each."
    )
    weekly = models.BooleanField(help_text="It rests every Thursday from 03:00 to 05:00 in New York.")
    as_of = models.DateTimeField(help_text="When it was last asked and answered.")

    def __str__(self) -> str:
        return f"{self.venue} {'trading' if self.is_trading else 'not trading'}"

    @property
    def facts(self) -> ExchangeFacts:
        return ExchangeFacts(
            is_active=self.is_active,
            is_trading=self.is_trading,
            as_of=self.as_of,
            resumes_at=self.resumes_at,
            shards=tuple(ShardState(*shard) for shard in self.shards),
            maintenance=tuple(
                Window(*(datetime.fromisoformat(moment) for moment in span)) for span in self.maintenance
            ),
            weekly=self.weekly,
        )


def exchange_facts(venue: str | None = None) -> ExchangeFacts:
    """What the venue (this profile's) last said; unknown when it never did."""
    row = _said.first(venue or settings.KALSHI_PROFILE)
    return ExchangeFacts() if row is None else row.facts


@prepared
def _said(venue: str) -> models.QuerySet[ExchangeState]:
    return ExchangeState.objects.filter(venue=venue)
