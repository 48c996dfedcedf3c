"""The catalogue: what markets there are, read by REST, and their rows.

Reading and writing are apart, because they run in different threads: `Catalogue` only asks the exchange,
`write_markets` only touches the database.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.db import transaction
from django.utils import timezone

from trading.domain.markets import MarketStatus
from trading.domain.prices import PriceGrid
from trading.exchange.errors import UnknownThere
from trading.exchange.events import LifecycleChange
from trading.exchange.gateway import MarketDataGateway
from trading.exchange.reports import EventDefinition, MarketDefinition, SeriesDefinition
from trading.market_data import fees
from trading.models import Event, Market, Series
from trading.models.fee_change import FeeBook

log = logging.getLogger(__name__)

OPENS_SOON: Final = timedelta(hours=1)
ASK_AGAIN: Final = timedelta(seconds=2)
LOAD_AGAIN: Final = timedelta(minutes=10)  # series and events whole: lifecycle messages tell of single ones
_FINAL: Final = frozenset({MarketStatus.FINALIZED})
_PUSHED_STATUS: Final = {"deactivated": MarketStatus.INACTIVE, "activated": MarketStatus.ACTIVE}
_SWITCHES: Final = frozenset({MarketStatus.ACTIVE, MarketStatus.INACTIVE})
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
    """What the exchange lists, kept in memory. One thread asks; `due` and `live` may be called from another one.

    A market that is final is forgotten with the next sweep, and its event with the next load: hours bring new ones.
    """

    def __init__(self, exchange: MarketDataGateway, *, with_combos: bool = False) -> None:
        self._exchange = exchange
        self._combos: Literal["exclude"] | None = None if with_combos else "exclude"
        self._loaded_at: datetime | None = None
        self._events: dict[str, EventDefinition] = {}
        self._series: dict[str, SeriesDefinition] = {}
        self._asked: dict[str, datetime] = {}
        self.listings: dict[str, Listing] = {}

    def sweep(self, known: Collection[str] = ()) -> list[Listing]:
        """Read all open markets, those that open soon, and again those of `known` and ours that are in neither list.

        Returns the listings that are new or changed. Raises ExchangeError; what was known stays.
        """
        now = timezone.now()
        self.listings = {
            ticker: each for ticker, each in self.listings.items() if each.market.status not in _FINAL
        }
        if self._loaded_at is None or now - self._loaded_at >= LOAD_AGAIN:
            self._load()
            self._loaded_at = now
        found = self._exchange.markets(status="open", combos=self._combos)
        soon = self._exchange.markets(status="unopened", combos=self._combos)
        found += [each for each in soon if each.open_at <= now + OPENS_SOON]
        missing = sorted((self.listings.keys() | set(known)) - {each.ticker for each in found})
        found += self._exchange.markets_named(missing)
        return self._note(found)

    def refresh(self, tickers: Collection[str]) -> list[Listing]:
        """Read these markets again; return those that are new or changed."""
        return self._note(self._exchange.markets_named(sorted(tickers)))

    def refresh_event(self, ticker: str) -> list[Listing]:
        """Read an event again, because its fees changed, with its markets."""
        self._events.pop(ticker, None)
        return self.refresh([name for name, each in self.listings.items() if each.event.ticker == ticker])

    def take_pushed(self, change: LifecycleChange) -> list[Listing]:
        """Let a message's own words hold at once: reads lag, and bands or a close that have moved must not wait."""
        known = self.listings.get(change.ticker)
        if known is None:
            return []
        moved: dict[str, Any] = {}
        if change.price_ranges is not None and (grid := _grid(change)) is not None:
            moved |= {"price_ranges": change.price_ranges, "grid": grid}
        if change.close_at is not None and change.kind == "close_date_updated":
            moved["close_at"] = change.close_at
        if change.kind in _PUSHED_STATUS and known.market.status in _SWITCHES:
            moved["status"] = _PUSHED_STATUS[change.kind]
        listing = replace(known, market=replace(known.market, **moved))
        if listing == known:
            return []
        self.listings[change.ticker] = listing
        return [listing]

    def due(self, now: datetime) -> list[str]:
        """The markets whose time to open or to close has come: of that the exchange sends no message (API.md 9).

        One that has not moved yet is named again after ASK_AGAIN.
        """
        due = [
            ticker
            for ticker, each in list(self.listings.items())  # in one step: the asking thread adds to it
            if _is_due(each.market, now)
            and now - self._asked.get(ticker, each.market.created_at) >= ASK_AGAIN
        ]
        self._asked = {ticker: at for ticker, at in self._asked.items() if now - at < ASK_AGAIN}
        self._asked.update(dict.fromkeys(due, now))
        return due

    def live(self, now: datetime, most: int) -> set[str]:
        """The markets to follow: those that close soonest, when there are more than `most`."""
        live = sorted(
            (each.market for each in list(self.listings.values()) if each.is_live(now)),
            key=lambda market: (market.close_at, market.ticker),
        )
        if len(live) > most:
            log.warning("feed.markets.cut", extra={"live": len(live), "followed": most})
        return {market.ticker for market in live[:most]}

    def _load(self) -> None:
        self._series = {each.ticker: each for each in self._exchange.series_list()}
        held = {each.event.ticker: each.event for each in self.listings.values()}
        loaded = self._exchange.events(status="open") + self._exchange.events(status="unopened")
        self._events = held | {event.ticker: event for event in loaded}

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


def _grid(change: LifecycleChange) -> PriceGrid | None:
    try:
        return PriceGrid.from_ranges(change.price_ranges or ())
    except ValueError:
        log.error("feed.bands.unreadable", extra={"ticker": change.ticker})
        return None


def _is_due(market: MarketDefinition, now: datetime) -> bool:
    if market.status is MarketStatus.INITIALIZED:
        return market.open_at <= now
    return market.status in {MarketStatus.ACTIVE, MarketStatus.INACTIVE} and market.close_at <= now


def unfinished_rows() -> list[str]:
    """The markets whose rows are not final: an earlier feed left them, and they may have ended since."""
    return list(Market.objects.exclude(status__in=_FINAL).values_list("ticker", flat=True))


@transaction.atomic
def write_markets(listings: Iterable[Listing]) -> None:
    """Insert or update the rows of these markets, of their events and their series, and note their fees."""
    now, held = timezone.now(), list(listings)
    series = {each.series.ticker: each.series for each in held}
    events = {each.event.ticker: each.event for each in held}
    _upsert(Series, [_series_row(each, now) for each in series.values()])
    _upsert(Event, [_event_row(each, now) for each in events.values()])
    fees.observe(series.values(), events.values(), now)
    book = FeeBook.of(series, events)
    Market.objects.bulk_create(
        [_row(listing, book, now) for listing in held],
        update_conflicts=True,
        unique_fields=["ticker"],
        update_fields=_WITH_ACTIVITY,
        batch_size=200,
    )


def _upsert(model: type[Series | Event], rows: list[Series] | list[Event]) -> None:
    names = [field.attname for field in model._meta.concrete_fields if not field.primary_key]
    model._default_manager.bulk_create(
        rows,  # type: ignore[arg-type]  # rows are of this very model
        update_conflicts=True,
        unique_fields=["ticker"],
        update_fields=names,
        batch_size=200,
    )


def _series_row(series: SeriesDefinition, now: datetime) -> Series:
    return Series(
        ticker=series.ticker,
        title=series.title[:_TITLE],
        category=series.category[:80],
        frequency=series.frequency[:40],
        tags=list(series.tags),
        contract_url=series.contract_url[:500],
        fee_type=series.fees.fee_type,
        fee_multiplier=f"{series.fees.multiplier}",
        updated_at=now,
    )


def _event_row(event: EventDefinition, now: datetime) -> Event:
    override = event.fee_multiplier_override
    return Event(
        ticker=event.ticker,
        series_id=event.series_ticker,
        title=event.title[:_TITLE],
        subtitle=event.subtitle[:_TITLE],
        category=event.category[:80],
        mutually_exclusive=event.mutually_exclusive,
        collateral_return=event.collateral_return[:20],
        strike_at=event.strike_at,
        fee_type_override=event.fee_type_override or "",
        fee_multiplier_override="" if override is None else f"{override}",
        exchange_index=event.exchange_index,
        updated_at=now,
    )


def _row(listing: Listing, book: FeeBook, now: datetime) -> Market:
    market, event, series = listing.market, listing.event, listing.series
    fees = book.at(series.ticker, event.ticker, now)
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
        fee_waiver_until=market.fee_waiver_until,
        price_structure=market.price_structure[:60],
        exchange_index=market.exchange_index,
        settlement_seconds=max(0, int(market.settlement_timer.total_seconds())),
        expected_at=market.expected_expiration_at,
        settled_at=market.settled_at,
        result=market.result or "",
        settlement_value=market.settlement_value,
        last_price=market.last_price,
        volume=market.volume,
        volume_24h=market.volume_24h,
        open_interest=market.open_interest,
        updated_at=now,
    )
