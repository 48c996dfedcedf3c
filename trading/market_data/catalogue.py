"""The catalogue: what markets there are, read by REST, and their rows.

Reading and writing are apart, because they run in different threads: `Catalogue` only asks the exchange,
`write_markets` only touches the database.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from trading.domain.markets import MarketStatus
from trading.exchange.errors import UnknownThere
from trading.exchange.gateway import MarketDataGateway
from trading.exchange.reports import EventDefinition, MarketDefinition, SeriesDefinition, fees_of
from trading.models import Market

log = logging.getLogger(__name__)

OPENS_SOON: Final = timedelta(hours=1)
ASK_AGAIN: Final = timedelta(seconds=2)
_FINAL: Final = frozenset({MarketStatus.FINALIZED})
_TITLE: Final = 300
_STATED = [
    field.name
    for field in Market._meta.concrete_fields
    if field.name not in {"ticker", "last_price", "volume", "open_interest"}
]
_WITH_ACTIVITY = [*_STATED, "last_price", "volume", "open_interest"]


@dataclass(frozen=True, slots=True)
class Listing:
    """A market with the event and series that it belongs to."""

    market: MarketDefinition
    event: EventDefinition
    series: SeriesDefinition

    def is_live(self, now: datetime) -> bool:
        """Whether its book shall be followed."""
        return self.market.status is MarketStatus.ACTIVE and now < self.market.close_at


class Catalogue:
    """What the exchange lists, kept in memory. Not thread-safe: one thread asks."""

    def __init__(self, exchange: MarketDataGateway) -> None:
        self._exchange = exchange
        self._events: dict[str, EventDefinition] = {}
        self._series: dict[str, SeriesDefinition] = {}
        self._asked: dict[str, datetime] = {}
        self.listings: dict[str, Listing] = {}

    def sweep(self, known: Collection[str] = ()) -> list[Listing]:
        """Read all open markets, those that open soon, and again those of `known` and ours that are in neither list.

        Returns the listings that are new or changed. Raises ExchangeError; what was known stays.
        """
        now = timezone.now()
        if not self._series:
            self._load()
        found = self._exchange.markets(status="open")
        found += [
            each for each in self._exchange.markets(status="unopened") if each.open_at <= now + OPENS_SOON
        ]
        unfinished = {ticker for ticker, each in self.listings.items() if each.market.status not in _FINAL}
        missing = sorted((unfinished | set(known)) - {each.ticker for each in found})
        found += self._exchange.markets_named(missing)
        return self._note(found)

    def refresh(self, tickers: Collection[str]) -> list[Listing]:
        """Read these markets again; return those that are new or changed."""
        return self._note(self._exchange.markets_named(sorted(tickers)))

    def refresh_event(self, ticker: str) -> list[Listing]:
        """Read an event again, because its fees changed, with its markets."""
        self._events.pop(ticker, None)
        return self.refresh([name for name, each in self.listings.items() if each.event.ticker == ticker])

    def due(self, now: datetime) -> list[str]:
        """The markets whose time to open or to close has come: of that the exchange sends no message (API.md 9).

        One that has not moved yet is named again after ASK_AGAIN.
        """
        due = [
            ticker
            for ticker, each in self.listings.items()
            if _is_due(each.market, now)
            and now - self._asked.get(ticker, each.market.created_at) >= ASK_AGAIN
        ]
        self._asked = {ticker: at for ticker, at in self._asked.items() if now - at < ASK_AGAIN}
        self._asked.update(dict.fromkeys(due, now))
        return due

    def live(self, now: datetime, most: int) -> set[str]:
        """The markets to follow: those that close soonest, when there are more than `most`."""
        live = sorted(
            (each.market for each in self.listings.values() if each.is_live(now)),
            key=lambda market: (market.close_at, market.ticker),
        )
        if len(live) > most:
            log.warning("feed.markets.cut", extra={"live": len(live), "followed": most})
        return {market.ticker for market in live[:most]}

    def _load(self) -> None:
        self._series = {each.ticker: each for each in self._exchange.series_list()}
        for status in ("open", "unopened"):
            for event in self._exchange.events(status=status):
                self._events[event.ticker] = event

    def _note(self, found: Iterable[MarketDefinition]) -> list[Listing]:
        changed = []
        for market in found:
            listing = self._listing(market)
            if listing is not None and listing != self.listings.get(market.ticker):
                self.listings[market.ticker] = listing
                changed.append(listing)
        return changed

    def _listing(self, market: MarketDefinition) -> Listing | None:
        try:
            event = self._events.get(market.event_ticker) or self._exchange.event(market.event_ticker)
            series = self._series.get(event.series_ticker) or self._exchange.series(event.series_ticker)
        except UnknownThere:
            # Right after its creation a market can be there before its event (API.md 9): the next sweep has both.
            log.warning("feed.event.missing", extra={"ticker": market.ticker})
            return None
        self._events[event.ticker], self._series[series.ticker] = event, series
        return Listing(market, event, series)


def _is_due(market: MarketDefinition, now: datetime) -> bool:
    if market.status is MarketStatus.INITIALIZED:
        return market.open_at <= now
    return market.status in {MarketStatus.ACTIVE, MarketStatus.INACTIVE} and market.close_at <= now


def unfinished_rows() -> list[str]:
    """The markets whose rows are not final: an earlier feed left them, and they may have ended since."""
    return list(Market.objects.exclude(status__in=_FINAL).values_list("ticker", flat=True))


def write_markets(listings: Iterable[Listing]) -> None:
    """Insert or update the rows of these markets."""
    now = timezone.now()
    Market.objects.bulk_create(
        [_row(listing, now) for listing in listings],
        update_conflicts=True,
        unique_fields=["ticker"],
        update_fields=_WITH_ACTIVITY,
        batch_size=200,
    )


def _row(listing: Listing, now: datetime) -> Market:
    market, event, series = listing.market, listing.event, listing.series
    fees = fees_of(series, event)
    return Market(
        ticker=market.ticker,
        event_ticker=event.ticker,
        series_ticker=series.ticker,
        category=(event.category or series.category)[:80],
        event_title=event.title[:_TITLE],
        title=market.title[:_TITLE],
        yes_sub_title=market.yes_title[:_TITLE],
        rules_primary=market.rules_primary,
        rules_secondary=market.rules_secondary,
        mutually_exclusive=event.mutually_exclusive,
        strike_type=market.strike_type[:30],
        floor_strike="" if market.floor_strike is None else f"{market.floor_strike}",
        cap_strike="" if market.cap_strike is None else f"{market.cap_strike}",
        status=market.status,
        open_at=market.open_at,
        close_at=market.close_at,
        price_ranges=list(market.price_ranges),
        fee_type=fees.fee_type,
        fee_multiplier=f"{fees.multiplier}",
        exchange_index=market.exchange_index,
        result=market.result or "",
        settlement_value=market.settlement_value,
        last_price=market.last_price,
        volume=market.volume,
        volume_24h=market.volume_24h,
        open_interest=market.open_interest,
        updated_at=now,
    )
