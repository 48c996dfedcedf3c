"""Market makers: ladders of quotes around a late and noisy guess of the true chance, leaned against the inventory.

A maker learns of a fill only by seeing its quote eaten. Its guess lags and wanders, so honest mispricings come and go;
its inventory moves the price with the flow and is worked off elsewhere, so a burst's price comes back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from math import exp, sqrt
from random import Random

from trading.domain.matching import TICKS_PER_DOLLAR, Lots, Ticks
from trading.domain.orders import BookSide
from trading.paper.simulate.listings import Listing
from trading.paper.world import Touch, Venue

CENT: Ticks = 100
_EDGE = 0.002  # no maker centres its quotes nearer to certainty


@dataclass(frozen=True, slots=True)
class Temper:
    """A maker's ways. Times in seconds, prices in dollars, sizes in contracts.

    `noise` wanders with the time constant `wander`; `lean` is the price move per contract of inventory, which
    halves in about 0.7 x `unwind`.
    """

    name: str
    lag: float
    noise: float
    wander: float
    half_spread: float
    sizes: tuple[float, ...]
    lean: float
    unwind: float
    whole_contracts: bool


TEMPERS = (
    Temper("maker-swift", 2.0, 0.009, 35, 0.010, (25, 45, 80), 0.00035, 130, whole_contracts=True),
    Temper("maker-calm", 7.0, 0.013, 60, 0.016, (35, 65, 110), 0.0003, 200, whole_contracts=False),
)


def allowed_prices(ranges: list[dict[str, str]]) -> list[Ticks]:
    """Every price of a grid in ticks, ascending, both dollar ends left out."""
    found: set[Ticks] = set()
    for band in ranges:
        start, end, step = (round(float(band[key]) * TICKS_PER_DOLLAR) for key in ("start", "end", "step"))
        found.update(range(start, end + 1, step))
    return sorted(found - {0, TICKS_PER_DOLLAR})


@dataclass(slots=True)
class Quote:
    order_id: str
    lots: Lots


@dataclass(slots=True)
class Maker:
    """One maker in one market. `inventory` in contracts, + when it holds YES."""

    temper: Temper
    listing: Listing
    prices: list[Ticks]
    chance: Random
    guess: float = 0.0
    inventory: float = 0.0
    quoted_at: float | None = None  # the centre of the standing quotes, in dollars
    quotes: dict[tuple[BookSide, Ticks], Quote] = field(default_factory=dict)
    _noise: float = 0.0

    def begin(self, truth: float) -> None:
        """Start with a guess at the truth and some error."""
        self.guess = truth
        self._noise = self.chance.gauss(0, self.temper.noise)

    def learn(self, truth: float, seconds: float, left: float) -> None:
        """Let time pass: move towards the truth, wander, work off inventory. Everybody hurries near the close."""
        temper = self.temper
        lag = min(temper.lag, max(left / 25, 0.5))
        self.guess += (truth - self.guess) * (1 - exp(-seconds / lag))
        keep = exp(-seconds / temper.wander)
        self._noise = self._noise * keep + self.chance.gauss(0, temper.noise) * sqrt(1 - keep * keep)
        self.inventory *= exp(-seconds / temper.unwind)

    @property
    def centre(self) -> float:
        """Where the maker believes the price should be, in dollars."""
        doubt = 4 * self.guess * (1 - self.guess)
        lean = min(max(self.temper.lean * self.inventory, -0.12), 0.12)
        return min(max(self.guess + self._noise * doubt - lean * (0.3 + 0.7 * doubt), _EDGE), 1 - _EDGE)

    def half_spread(self, sensitivity: float) -> float:
        """Wider where the truth may run away before the maker sees it."""
        doubt = 4 * self.guess * (1 - self.guess)
        base = self.temper.half_spread * (0.3 + 0.7 * doubt)
        return min(base + 0.4 * sensitivity * sqrt(self.temper.lag), 0.04)

    def urgency(self, touch: Touch, sensitivity: float) -> float:
        """How badly the quotes need renewal; below 1 they may stand."""
        if self.quoted_at is None:
            return 10.0
        if self._eaten(BookSide.BID, touch) or self._eaten(BookSide.ASK, touch):
            return 3.0 if self.chance.random() < 0.4 else 0.0  # reaction takes about half a second
        tolerance = max(0.0055, 0.5 * self.half_spread(sensitivity))
        return abs(self.centre - self.quoted_at) / tolerance

    def requote(self, venue: Venue, sensitivity: float) -> int:
        """Bring the standing orders in line with the ladder; the number of orders entered or canceled."""
        wanted = self._ladder(self.half_spread(sensitivity))
        touch = venue.touch(self.listing.ticker)
        stale = [key for key in self.quotes if key not in wanted or self._gone(key, touch)]
        for key in stale:
            self._take_off(venue, key)
        entered = [key for key in wanted if key not in self.quotes]
        for key in entered:
            self._put_on(venue, key, wanted[key])
        self.quoted_at = self.centre
        return len(stale) + len(entered)

    def _ladder(self, half: float) -> dict[tuple[BookSide, Ticks], Lots]:
        centre = self.centre
        wanted: dict[tuple[BookSide, Ticks], Lots] = {}
        gap = max(4 * centre * (1 - centre) * CENT, 10)
        bid, ask = (centre - half) * TICKS_PER_DOLLAR, (centre + half) * TICKS_PER_DOLLAR
        for size in self.temper.sizes:
            lots = self._lots(size)
            below = bisect_right(self.prices, bid) - 1
            if below >= 0:
                wanted[BookSide.BID, self.prices[below]] = lots
                bid = self.prices[below] - gap
            above = bisect_left(self.prices, ask)
            if above < len(self.prices):
                wanted[BookSide.ASK, self.prices[above]] = lots
                ask = self.prices[above] + gap
        return wanted

    def _lots(self, size: float) -> Lots:
        contracts = size * self.chance.uniform(0.6, 1.5)
        return round(contracts) * 100 if self.temper.whole_contracts else round(contracts * 100)

    def _eaten(self, side: BookSide, touch: Touch) -> bool:
        return any(self._gone(key, touch) for key in self.quotes if key[0] is side)

    def _gone(self, key: tuple[BookSide, Ticks], touch: Touch) -> bool:
        """True when the public book shows less than our order at its price."""
        side, tick = key
        best, shown = (
            (touch.bid_ticks, touch.bid_lots) if side is BookSide.BID else (touch.ask_ticks, touch.ask_lots)
        )
        if best is None or (tick > best if side is BookSide.BID else tick < best):
            return True
        return tick == best and shown < self.quotes[key].lots

    def _take_off(self, venue: Venue, key: tuple[BookSide, Ticks]) -> None:
        quote = self.quotes.pop(key)
        eaten = quote.lots - venue.house_cancel(self.listing.ticker, quote.order_id)
        self.inventory += eaten / 100 if key[0] is BookSide.BID else -eaten / 100

    def _put_on(self, venue: Venue, key: tuple[BookSide, Ticks], lots: Lots) -> None:
        side, tick = key
        order = venue.house_submit(self.temper.name, self.listing.ticker, side, tick, lots, post_only=True)
        if order.remaining_lots:
            self.quotes[key] = Quote(order.order_id, order.remaining_lots)
