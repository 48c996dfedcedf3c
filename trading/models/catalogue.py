"""Series and events of the exchange's catalogue. Markets name theirs by ticker."""

from __future__ import annotations

from django.db import models


class Series(models.Model):
    """What repeats: its category, its words, its fees as the exchange last told them."""

    ticker = models.CharField(max_length=120, primary_key=True)
    title = models.CharField(max_length=300)
    category = models.CharField(max_length=80, blank=True)
    frequency = models.CharField(max_length=40, blank=True)
    tags = models.JSONField(default=list)
    contract_url = models.CharField(max_length=500, blank=True)
    fee_type = models.CharField(max_length=40)
    fee_multiplier = models.CharField(max_length=20)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "series"

    def __str__(self) -> str:
        return self.ticker


class Event(models.Model):
    """A question with its markets. A fee override is empty where the series' fees hold."""

    ticker = models.CharField(max_length=120, primary_key=True)
    series = models.ForeignKey(Series, on_delete=models.PROTECT, related_name="events")
    title = models.CharField(max_length=300, blank=True)
    subtitle = models.CharField(max_length=300, blank=True)
    category = models.CharField(max_length=80, blank=True)
    mutually_exclusive = models.BooleanField(default=False)
    collateral_return = models.CharField(max_length=20, blank=True)
    strike_at = models.DateTimeField(null=True, blank=True)
    fee_type_override = models.CharField(max_length=40, blank=True)
    fee_multiplier_override = models.CharField(max_length=20, blank=True)
    exchange_index = models.IntegerField(default=0)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.ticker
