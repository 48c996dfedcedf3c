"""Best bid and ask of a market, as the feed last proved them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.db.models import QuerySet
from django.utils import timezone

from kalshi_site.models.fields import CountField, DollarsField
from kalshi_site.prepared import prepared
from trading.domain.hours import ExchangeFacts
from trading.domain.markets import MarketFacts, MarketStatus, TopOfBook
from trading.models.exchange_state import exchange_facts
from trading.models.fee_change import FeeBook
from trading.models.market import Market


class Quote(models.Model):
    """YES-scale touch with depth. `as_of` is the exchange's time of the last change; `verified_at` its time of the last
    frame on a gap-free subscription, which proves that a quiet book is still current. Empty sides are null."""

    market = models.OneToOneField(Market, on_delete=models.CASCADE, primary_key=True, related_name="quote")
    yes_bid = DollarsField(null=True, blank=True)
    yes_ask = DollarsField(null=True, blank=True)
    yes_bid_quantity = CountField(default=0)
    yes_ask_quantity = CountField(default=0)
    levels = models.JSONField(
        default=dict,
        help_text="Top levels on the YES scale: {'bids': [[price, count]], 'asks': …}, best first.",
    )
    trusted = models.BooleanField(
        default=False, help_text="False between a sequence gap and the next snapshot."
    )
    as_of = models.DateTimeField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.market_id} {self.yes_bid}/{self.yes_ask}"

    @property
    def proven_at(self) -> datetime | None:
        """When this quote was last known true; None while untrusted: an untrusted price is not a price."""
        if not self.trusted:
            return None
        return max((at for at in (self.as_of, self.verified_at) if at is not None), default=None)

    @property
    def top(self) -> TopOfBook:
        if not self.trusted:
            return TopOfBook(None, None)
        return TopOfBook(
            self.yes_bid, self.yes_ask, self.yes_bid_quantity, self.yes_ask_quantity, self.proven_at
        )


def market_facts(tickers: Collection[str]) -> dict[str, MarketFacts]:
    """Facts of the given markets in one query; what the catalogue does not hold is missing from the answer."""
    rows = _for_rules(tuple(tickers))
    around = Around.of(rows)
    return {row.ticker: facts_from(row, around) for row in rows}


@prepared
def _for_rules(tickers: tuple[str, ...]) -> QuerySet[Market]:
    return Market.objects.for_rules().filter(ticker__in=tickers)


@dataclass(frozen=True, slots=True)
class Around:
    """What holds for many markets at once at a moment: how the exchange stands, and which fees are in force."""

    exchange: ExchangeFacts
    fees: FeeBook
    now: datetime

    @classmethod
    def of(cls, rows: Iterable[Market]) -> Around:
        return cls(exchange_facts(), FeeBook.of_markets(rows), timezone.now())


def facts_from(row: Market, around: Around) -> MarketFacts:
    """One market row, with its quote, as the rules see it. A market never quoted has an empty book."""
    quote = getattr(row, "quote", None)
    return MarketFacts(
        ticker=row.ticker,
        event_ticker=row.event_ticker,
        series_ticker=row.series_ticker,
        title=row.title,
        status=MarketStatus(row.status),
        open_at=row.open_at,
        close_at=row.close_at,
        book=quote.top if quote is not None else TopOfBook(None, None),
        grid=row.grid,
        fees=around.fees.of_market(row, around.now),
        exchange_index=row.exchange_index,
        exchange=around.exchange,
    )
