"""A market of the exchange's catalogue, as its definition says."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db import models

from kalshi_site.models.fields import CountField, DollarsField
from trading.domain.fees import FeeSchedule, FeeType
from trading.domain.markets import MarketStatus
from trading.domain.prices import PriceGrid

# What `trading.models.quote.facts_from` reads.
_FOR_RULES = (
    *("ticker", "event_ticker", "series_ticker", "title", "status", "open_at", "close_at", "price_ranges"),
    *("fee_type", "fee_multiplier", "fee_waiver_until", "exchange_index"),
    *("quote__yes_bid", "quote__yes_ask", "quote__yes_bid_quantity", "quote__yes_ask_quantity"),
    *("quote__trusted", "quote__as_of", "quote__verified_at"),
)


class MarketQuerySet(models.QuerySet["Market"]):
    def for_rules(self) -> MarketQuerySet:
        """With the quote, and without what the rules do not ask: they read a market for each order, twice."""
        return self.select_related("quote").only(*_FOR_RULES)

    def shard_of(self, ticker: str) -> int | None:
        """The shard on which a market trades; None for one that we do not know."""
        return self.filter(ticker=ticker).values_list("exchange_index", flat=True).first()

    def open(self, now: datetime) -> MarketQuerySet:
        """Tradable now by status and times."""
        return self.filter(status=MarketStatus.ACTIVE, open_at__lte=now, close_at__gt=now)


class Market(models.Model):
    """Definition, status and fees of one market. Written by the feed from the exchange's answers alone."""

    ticker = models.CharField(max_length=120, primary_key=True)
    event_ticker = models.CharField(max_length=120, db_index=True)
    series_ticker = models.CharField(max_length=120, db_index=True)
    category = models.CharField(max_length=80, blank=True)
    event_title = models.CharField(max_length=300, blank=True)
    title = models.CharField(max_length=300)
    yes_sub_title = models.CharField(max_length=300, blank=True)
    rules_primary = models.TextField(blank=True)
    rules_secondary = models.TextField(blank=True)
    mutually_exclusive = models.BooleanField(default=False)
    strike_type = models.CharField(max_length=30, blank=True)
    floor_strike = models.CharField(max_length=40, blank=True)
    cap_strike = models.CharField(max_length=40, blank=True)
    status = models.CharField(max_length=14, choices=[(s.value, s.value) for s in MarketStatus])
    open_at = models.DateTimeField()
    close_at = models.DateTimeField(db_index=True)
    price_ranges = models.JSONField()
    fee_type = models.CharField(max_length=40)
    fee_multiplier = models.CharField(max_length=20, default="1")
    fee_waiver_until = models.DateTimeField(null=True, blank=True)
    price_structure = models.CharField(max_length=60, blank=True, help_text="A label; the bands rule.")
    exchange_index = models.IntegerField(default=0)
    result = models.CharField(max_length=10, blank=True)
    settlement_value = DollarsField(null=True, blank=True)
    settlement_seconds = models.PositiveIntegerField(
        default=0, help_text="From the determination to the payout, unless it is disputed."
    )
    expected_at = models.DateTimeField(null=True, blank=True, help_text="When the outcome is expected.")
    settled_at = models.DateTimeField(null=True, blank=True)
    last_price = DollarsField(null=True, blank=True)
    volume = CountField(null=True, blank=True)
    volume_24h = CountField(null=True, blank=True)
    open_interest = CountField(null=True, blank=True)
    updated_at = models.DateTimeField()

    objects = MarketQuerySet.as_manager()

    def __str__(self) -> str:
        return self.ticker

    @property
    def grid(self) -> PriceGrid:
        return PriceGrid.from_ranges(self.price_ranges)

    @property
    def fees(self) -> FeeSchedule:
        return FeeSchedule(FeeType(self.fee_type), Decimal(self.fee_multiplier))

    @property
    def rules_text(self) -> str:
        return "\n\n".join(text for text in (self.rules_primary, self.rules_secondary) if text)
