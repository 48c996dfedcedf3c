"""What is listed: series, events and markets, and how they belong together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from trading.domain.markets import MarketStatus
from trading.paper.definitions import (
    PRIMARY_SHARD,
    Definition,
    IllegalDefinition,
    Payload,
    whole_event,
    whole_market,
    whole_series,
)
from trading.paper.fill_models import FillModel
from trading.paper.listing import OVER, Listing
from trading.paper.shards import Shards
from trading.paper.wire import rfc3339_ms

_S = MarketStatus
# The words of the `status` filter (API.md 9): "closed" returns determined markets too.
FILTER_WORDS: dict[str, frozenset[MarketStatus]] = {
    "unopened": frozenset({_S.INITIALIZED}),
    "open": frozenset({_S.ACTIVE}),
    "paused": frozenset({_S.INACTIVE}),
    "closed": frozenset({_S.CLOSED, _S.DETERMINED, _S.DISPUTED, _S.AMENDED}),
    "settled": frozenset({_S.FINALIZED}),
}


class Catalog:
    """Everything that is listed, by ticker."""

    def __init__(self, shards: Shards, fill_model: FillModel = FillModel.PESSIMISTIC) -> None:
        self._shards = shards
        self._fill_model = fill_model
        self.series: dict[str, Payload] = {}
        self.events: dict[str, Payload] = {}
        self.listings: dict[str, Listing] = {}
        self.by_event: dict[str, dict[str, Listing]] = {}

    def add_series(self, definition: Definition, at_ms: int) -> None:
        """List or replace a series. Raises IllegalDefinition."""
        series = whole_series(definition, self.shard_of(definition))
        self.series[series["ticker"]] = _stamped(series, self.series.get(series["ticker"]), at_ms)

    def add_event(self, definition: Definition, at_ms: int) -> bool:
        """List or replace an event; True when it is new. Raises IllegalDefinition when its series is not
        listed."""
        event = whole_event(definition, self.shard_of(definition))
        if event["series_ticker"] not in self.series:
            raise IllegalDefinition(f"series {event['series_ticker']} is not listed")
        new = event["event_ticker"] not in self.events
        known = self.events.get(event["event_ticker"])
        self.events[event["event_ticker"]] = _stamped(event, known, at_ms)
        self.by_event.setdefault(event["event_ticker"], {})
        return new

    def add_market(self, definition: Definition, now: datetime) -> Listing:
        """A fresh listing, or the known one with the new definition. Raises IllegalDefinition when its event
        is not listed."""
        event = self.events.get(str(definition.get("event_ticker")))
        if event is None:
            raise IllegalDefinition(f"event {definition.get('event_ticker')} is not listed")
        market = whole_market(definition, now, event["exchange_index"])
        listing = self.listings.get(market["ticker"])
        if listing is not None and listing.status is not MarketStatus.FINALIZED:
            listing.event, listing.series = event, self.series[event["series_ticker"]]
            listing.define(market)
            return listing
        series = self.series[event["series_ticker"]]
        return self.put(Listing(market, event, series, fill_model=self._fill_model))

    def shard_of(self, definition: Definition) -> int:
        """The shard that a definition asks for, where this exchange has it, else the primary one."""
        asked = definition.get("exchange_index")
        return asked if isinstance(asked, int) and asked in self._shards else PRIMARY_SHARD

    def put(self, listing: Listing) -> Listing:
        self.listings[listing.ticker] = listing
        self.by_event.setdefault(listing.event_ticker, {})[listing.ticker] = listing
        return listing

    def restore(self, series: Payload, event: Payload, market: Payload) -> Listing:
        """A listing from the journal: its parents are listed too unless a world has done so."""
        series = self.series.setdefault(series["ticker"], series)
        event = self.events.setdefault(event["event_ticker"], event)
        return self.put(Listing(market, event, series, adopted=False, fill_model=self._fill_model))

    def remove(self, ticker: str) -> None:
        """Forget a market, and its event when it was the event's last."""
        listing = self.listings.pop(ticker)
        siblings = self.by_event[listing.event_ticker]
        del siblings[ticker]
        if not siblings:
            del self.by_event[listing.event_ticker]
            self.events.pop(listing.event_ticker, None)

    def markets_of(self, event_ticker: str) -> list[Listing]:
        return list(self.by_event.get(event_ticker, {}).values())

    def is_combo(self, event_ticker: str) -> bool:
        """Whether an event stems from a multivariate collection."""
        return any(self.collections_of(event_ticker))

    def collections_of(self, event_ticker: str) -> set[str]:
        """The multivariate collections that an event's markets stem from."""
        return {listing.collection for listing in self.markets_of(event_ticker)} - {""}

    def of_series(self, series_ticker: str) -> Iterator[Listing]:
        return (item for item in self.listings.values() if item.series_ticker == series_ticker)

    def event_has(self, event_ticker: str, word: str) -> bool:
        """Whether an event answers to a `status` filter word: as all its markets do, or as one of them where
        it is open."""
        markets = self.markets_of(event_ticker)
        if word == "open":
            return any(item.status in FILTER_WORDS[word] for item in markets)
        if word == "closed":
            return (
                bool(markets)
                and all(item.status in OVER for item in markets)
                and not self._all_final(markets)
            )
        if word == "settled":
            return bool(markets) and self._all_final(markets)
        return all(item.status in FILTER_WORDS[word] for item in markets)

    @staticmethod
    def _all_final(markets: list[Listing]) -> bool:
        return all(item.status is MarketStatus.FINALIZED for item in markets)


def _stamped(payload: Payload, known: Payload | None, at_ms: int) -> Payload:
    """A payload with the time of its last change: a definition that is listed again unchanged keeps its stamp."""
    stamp = {"last_updated_ts": rfc3339_ms(at_ms)}
    if known is not None and {**payload, **stamp} == {**known, **stamp}:
        return known
    return {**payload, **stamp}
