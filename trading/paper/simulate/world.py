"""The simulated world's loop: lists what the calendar says, lets makers and takers act, ends what has closed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from trading.domain.markets import MarketStatus
from trading.paper.simulate.listings import Calendar, Listing
from trading.paper.simulate.makers import TEMPERS, Maker, allowed_prices
from trading.paper.simulate.takers import Crowd
from trading.paper.world import Venue

TICKS_PER_SECOND = 4
ACTIONS_PER_SECOND = 44.0  # what the makers may do in the long run; the takers add about ten
ACTIONS_IN_HAND = 240.0  # enough to quote a new event at once
LAST_ORDERS = 0.6  # seconds before the close after which nobody acts
READING_DELAY = 1.0  # seconds from close to determination
PAST = timedelta(minutes=5)  # what a fresh exchange has behind it when it opens its doors


@dataclass(slots=True)
class Pit:
    """One open market with the people in it."""

    listing: Listing
    makers: list[Maker]
    crowd: Crowd


class SimulatedWorld:
    """The world of one seed (`trading.paper.world.World`). All of it follows from seed, clock and the desk's trades."""

    def __init__(self, seed: int) -> None:
        self.calendar = Calendar(seed)
        self.actions = 0
        self._seed = seed
        self._listed: dict[str, Listing] = {}
        self._pits: dict[str, Pit] = {}
        self._settle_at: dict[str, float] = {}
        self._allowance = ACTIONS_IN_HAND
        self._last_step: float | None = None

    def describe(self) -> str:
        return f"simulation, seed {self._seed}"

    async def run(self, exchange: Venue) -> None:
        """Drive the exchange until canceled."""
        if exchange.restored():
            self.begin(exchange)
        else:
            exchange.live_through(PAST, timedelta(seconds=1 / TICKS_PER_SECOND), lambda: self._live(exchange))
        while True:
            await asyncio.sleep(1 / TICKS_PER_SECOND)
            self.step(exchange)

    def _live(self, venue: Venue) -> None:
        if self._last_step is None:
            self.begin(venue)
        else:
            self.step(venue)

    def begin(self, venue: Venue) -> None:
        """List the series, take back the markets of an earlier run, list and quote what stands now."""
        for series in self.calendar.series():
            venue.add_series(series)
        self._adopt(venue)
        self.step(venue, allowance=1e9)

    def step(self, venue: Venue, *, allowance: float | None = None) -> None:
        """One moment of the world: calendar, endings, quotes, trades."""
        now = venue.now().timestamp()
        seconds = 0.0 if self._last_step is None else min(now - self._last_step, 5.0)
        self._last_step = now
        self._allowance = allowance or min(self._allowance + seconds * ACTIONS_PER_SECOND, ACTIONS_IN_HAND)
        self._list_new(venue, now)
        self._end_closed(venue, now)
        self._open_pits(venue, now)
        self._trade(venue, now, seconds)

    def _adopt(self, venue: Venue) -> None:
        """Markets of an earlier run of this seed settle as if it had never stopped; others are left to the engine."""
        for ticker, definition in venue.restored().items():
            listing = self._recall(ticker, definition)
            if listing is not None:
                event = self.calendar.event(listing.plan, int(listing.opens_at))
                venue.add_event(event.definition)
                venue.add_market(listing.definition)
                self._listed[ticker] = listing

    def _recall(self, ticker: str, definition: Mapping[str, Any]) -> Listing | None:
        series = str(definition.get("event_ticker", "")).partition("-")[0]
        opens_at = datetime.fromisoformat(definition["open_time"]).timestamp()
        return self.calendar.find(ticker, series, opens_at)

    def _list_new(self, venue: Venue, now: float) -> None:
        for event in self.calendar.events_at(now):
            new = [market for market in event.markets if market.ticker not in self._listed]
            if new:
                venue.add_event(event.definition)
            for market in new:
                venue.add_market(market.definition)
                self._listed[market.ticker] = market

    def _end_closed(self, venue: Venue, now: float) -> None:
        for ticker, listing in list(self._listed.items()):
            if now < listing.closes_at + READING_DELAY:
                continue
            self._pits.pop(ticker, None)
            if ticker not in self._settle_at:
                if venue.status(ticker) not in (MarketStatus.DETERMINED, MarketStatus.FINALIZED):
                    venue.determine(ticker, listing.outcome(), expiration_value=str(listing.reading()))
                self._settle_at[ticker] = listing.closes_at + READING_DELAY + listing.plan.settlement_timer
            if now >= self._settle_at[ticker]:
                venue.settle(ticker)
                del self._settle_at[ticker], self._listed[ticker]

    def _open_pits(self, venue: Venue, now: float) -> None:
        for ticker, listing in self._listed.items():
            if ticker in self._pits or not listing.opens_at <= now < listing.closes_at - LAST_ORDERS:
                continue
            if venue.status(ticker) == MarketStatus.INITIALIZED:
                venue.open_market(ticker)
            self._pits[ticker] = self._people(listing, now)

    def _people(self, listing: Listing, now: float) -> Pit:
        prices = allowed_prices(listing.plan.grid.ranges)
        truth = listing.chance(now)
        makers = []
        for temper in TEMPERS:
            maker = Maker(temper, listing, prices, self._chance(listing, temper.name))
            maker.begin(truth)
            makers.append(maker)
        return Pit(listing, makers, Crowd(listing, self._chance(listing, "crowd"), now))

    def _chance(self, listing: Listing, who: str) -> Random:
        return Random(f"{self._seed}/{listing.ticker}/{who}")

    def _trade(self, venue: Venue, now: float, seconds: float) -> None:
        """Takers act when their time comes; makers with the worst quotes are served first while the allowance lasts."""
        waiting: list[tuple[float, int, Maker, float]] = []
        for pit in self._pits.values():
            listing = pit.listing
            left = listing.closes_at - now
            if left < LAST_ORDERS or venue.status(listing.ticker) != MarketStatus.ACTIVE:
                continue
            truth = listing.chance(now)
            self.actions += pit.crowd.act(venue, truth, now)
            sensitivity = listing.strike.sensitivity(listing.gauge, now, listing.closes_at)
            touch = venue.touch(listing.ticker)
            for maker in pit.makers:
                maker.learn(truth, seconds, left)
                urgency = maker.urgency(touch, sensitivity)
                if urgency >= 1:
                    waiting.append((urgency, len(waiting), maker, sensitivity))
        for _, _, maker, sensitivity in sorted(waiting, reverse=True):
            if self._allowance <= 0:
                return
            done = maker.requote(venue, sensitivity)
            self._allowance -= done
            self.actions += done
