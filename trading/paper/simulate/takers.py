"""Takers: the informed, who trade when the price is wrong by more than the fee; the whimsical; and now and then
somebody in a hurry, whose burst of orders pushes the price away from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide, TimeInForce
from trading.paper.simulate.listings import Listing
from trading.paper.simulate.makers import CENT
from trading.paper.world import Touch, Venue

# Seconds between arrivals in one market of pace 1.
NOISE_EVERY = 5.0
INFORMED_EVERY = 14.0
BURST_EVERY = 150.0
INFORMED_ERROR, INFORMED_MARGIN = 0.012, 0.008  # dollars
SHORTEST_BURST, LONGEST_BURST = 5, 10  # orders
SWEEP: Ticks = 200  # how far beyond the touch one order of a burst goes


@dataclass(slots=True)
class Burst:
    """A buyer or seller in a hurry: so many orders still to come, none beyond the limit."""

    side: BookSide
    orders_left: int
    limit: Ticks
    next_at: float


class Crowd:
    """The takers of one market."""

    def __init__(self, listing: Listing, chance: Random, now: float) -> None:
        self._listing, self._chance = listing, chance
        self._pace = listing.plan.pace
        self._noise_at = now + self._wait(NOISE_EVERY)
        self._informed_at = now + self._wait(INFORMED_EVERY)
        self._burst_at = now + self._wait(BURST_EVERY)
        self._burst: Burst | None = None

    def act(self, venue: Venue, truth: float, now: float) -> int:
        """Let those whose time has come trade; the number of orders entered."""
        entered = 0
        if now >= self._noise_at:
            self._noise_at = now + self._wait(NOISE_EVERY)
            entered += self._trade_on_a_whim(venue)
        if now >= self._informed_at:
            self._informed_at = now + self._wait(INFORMED_EVERY)
            entered += self._trade_on_knowledge(venue, truth)
        if now >= self._burst_at:
            self._burst_at = now + self._wait(BURST_EVERY)
            self._burst = self._start_burst(venue, now)
        if self._burst is not None and now >= self._burst.next_at:
            entered += self._hurry(venue, self._burst, now)
        return entered

    def _trade_on_a_whim(self, venue: Venue) -> int:
        side = self._chance.choice((BookSide.BID, BookSide.ASK))
        price = _opposite(venue.touch(self._listing.ticker), side)
        return self._take(venue, "crowd", side, price, self._contracts(12)) if price is not None else 0

    def _trade_on_knowledge(self, venue: Venue, truth: float) -> int:
        touch = venue.touch(self._listing.ticker)
        view = truth + self._chance.gauss(0, INFORMED_ERROR)
        cost = 0.07 * float(self._listing.plan.fee_multiplier) * truth * (1 - truth) + INFORMED_MARGIN
        for side, worth in ((BookSide.BID, view - cost), (BookSide.ASK, view + cost)):
            price = _opposite(touch, side)
            if price is not None and _better(side, price, worth * TICKS_PER_DOLLAR):
                return self._take(venue, "informed", side, price, self._contracts(20))
        return 0

    def _start_burst(self, venue: Venue, now: float) -> Burst | None:
        """Whoever is in a hurry goes 5 to 13 cents far, but not in a market that is all but decided."""
        touch = venue.touch(self._listing.ticker)
        if touch.bid_ticks is None or touch.ask_ticks is None or not 800 < touch.bid_ticks < 9_200:
            return None
        reach = self._chance.randint(5, 12) * CENT  # cents stand on every grid
        side = self._chance.choice((BookSide.BID, BookSide.ASK))
        start = touch.ask_ticks if side is BookSide.BID else touch.bid_ticks
        limit = start // CENT * CENT + (reach if side is BookSide.BID else -reach)
        limit = min(max(limit, CENT), TICKS_PER_DOLLAR - CENT)
        return Burst(side, self._chance.randint(SHORTEST_BURST, LONGEST_BURST), limit, now)

    def _hurry(self, venue: Venue, burst: Burst, now: float) -> int:
        price = _opposite(venue.touch(self._listing.ticker), burst.side)
        burst.orders_left -= 1
        burst.next_at = now + self._chance.uniform(0.4, 1.6)
        if burst.orders_left <= 0:
            self._burst = None
        if price is None or not _better(burst.side, price, burst.limit):
            return 0
        return self._take(venue, "hurried", burst.side, _beyond(burst, price), self._contracts(50))

    def _take(self, venue: Venue, who: str, side: BookSide, price: Ticks, lots: Lots) -> int:
        venue.house_submit(who, self._listing.ticker, side, price, lots, TimeInForce.IOC)
        return 1

    def _contracts(self, mean: float) -> Lots:
        """An exponential size; one in four is fractional."""
        contracts = min(self._chance.expovariate(1 / mean), 6 * mean)
        if self._chance.random() < 0.25:
            return max(round(contracts * 100), 1)
        return max(round(contracts), 1) * 100

    def _wait(self, mean: float) -> float:
        return self._chance.expovariate(self._pace / mean)


def _opposite(touch: Touch, side: BookSide) -> Ticks | None:
    return touch.ask_ticks if side is BookSide.BID else touch.bid_ticks


def _beyond(burst: Burst, price: Ticks) -> Ticks:
    """A price some cents through the touch, on a whole cent, within the burst's limit."""
    if burst.side is BookSide.BID:
        return max(price, min((price + SWEEP) // CENT * CENT, burst.limit))
    return min(price, max(-(-(price - SWEEP) // CENT) * CENT, burst.limit))


def _better(side: BookSide, price: Ticks, limit: float) -> bool:
    return price <= limit if side is BookSide.BID else price >= limit
