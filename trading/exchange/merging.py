"""One set of books out of several connections, merged by the exchange's per-market `clock` (API.md 14.4).

The exchange promises: the same change has the same clock on every connection; several changes of one action share a
clock and come in the same order everywhere; a snapshot includes every change up to its clock and none above. So the
place of a change is (clock, number among those of that clock), and of two connections the first to say it wins.

- A connection may go on from the merged book only if it stood at the same place: then nothing lies between. One that
  leaps over a place contradicts the other, and neither is believed until new snapshots.
- A connection that gaps is out of step until its next snapshot; another one in step carries the book meanwhile. One
  whose place has never met the merged one may be of another age of the clock: it must begin anew before it carries.
- A clock that goes back (maintenance), on one connection or against the exchange's time, begins a new age: that
  connection alone is believed for a while, until all others must have seen it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, NoReturn

from trading.domain.book import BookFault
from trading.domain.matching import Lots, Ticks
from trading.domain.orders import BookSide
from trading.exchange.bookkeeping import Bookkeeper, Kept
from trading.exchange.events import BookSnapshot

NEW_AGE_MS: Final = 10_000
_TIME_SLACK_MS: Final = 1_000


class Place(NamedTuple):
    """After the change `number` of those at `clock`; a snapshot stands after all of them."""

    clock: int
    number: float

    def meets(self, other: Place | None) -> bool:
        """Nothing lies between the two."""
        if other is None or self.clock != other.clock:
            return False
        return self.number == other.number or math.inf in {self.number, other.number}


class _Market:
    """One market's merged book: where it stands, and where each connection does."""

    __slots__ = ("aligned", "alone", "alone_until", "as_of_ms", "kept", "legs", "place")

    def __init__(self, legs: int) -> None:
        self.place: Place | None = None
        self.as_of_ms = 0
        self.kept: Kept | None = None
        self.legs: list[Place | None] = [None] * legs
        self.aligned = [False] * legs
        self.alone: int | None = None
        self.alone_until = 0


class Merge:
    """The books of several connections in one keeper. `ask` fetches a book anew on one connection.

    `lost` gathers the markets whose merged book became untrusted; whoever tells the consumer empties it.
    """

    def __init__(
        self,
        keeper: Bookkeeper,
        legs: int,
        *,
        ask: Callable[[int, str], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self.lost: dict[str, str] = {}
        self._keeper = keeper
        self._legs = legs
        self._ask = ask
        self._clock_ms = clock_ms
        self._markets: dict[str, _Market] = {}

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset(ticker for ticker, market in self._markets.items() if market.place is not None)

    def carries_all(self, leg: int) -> bool:
        """Whether this connection is in step with every trusted book."""
        return all(
            market.place is None or (market.legs[leg] is not None and market.aligned[leg])
            for market in self._markets.values()
        )

    def leg(self, number: int) -> Bookkeeper:
        """The keeper of one connection's session."""
        return _Leg(self, number)

    def forget(self, tickers: Iterable[str]) -> None:
        """Nobody wants these any more."""
        for ticker in tickers:
            self._markets.pop(ticker, None)
            self.lost.pop(ticker, None)

    # --- what one connection says

    def begin(self, leg: int, snapshot: BookSnapshot) -> Kept | None:
        """A snapshot: the merged book begins anew with it if it is ahead or there is none."""
        ticker = snapshot.ticker
        market = self._markets.setdefault(ticker, _Market(self._legs))
        told = _Told(self, leg, ticker, market)
        if self._is_excluded(market, leg):
            return told
        place = market.legs[leg] = Place(snapshot.clock, math.inf)
        is_ahead = market.place is None or place > market.place
        if is_ahead and not self._begin_anew(market, snapshot, place):
            return None
        for number, stands in enumerate(market.legs):
            if stands is not None and stands.meets(market.place):
                market.aligned[number] = True
        return told

    def _begin_anew(self, market: _Market, snapshot: BookSnapshot, place: Place) -> bool:
        if market.place is None:
            market.aligned = [False] * self._legs
        try:
            market.kept = self._keeper.keep(snapshot)
        except BookFault:
            self._distrust(snapshot.ticker, market, "a snapshot of no real book")
            raise
        if market.kept is None:
            return False
        market.place, market.as_of_ms = place, snapshot.at_ms or 0
        self.lost.pop(snapshot.ticker, None)
        return True

    def change(
        self,
        leg: int,
        ticker: str,
        market: _Market,
        change: tuple[BookSide, Ticks, Lots],
        at_ms: int,
        clock: int,
    ) -> None:
        """A change: applied if it is the next one, dropped if another connection said it before."""
        before = market.legs[leg]
        if self._is_excluded(market, leg):
            return
        if before is None:
            raise BookFault(f"{ticker}: this connection must begin anew")
        if clock < before.clock:
            self._new_age(leg, ticker, market, f"the clock went back from {before.clock} to {clock}")
        if clock == before.clock and before.number == math.inf:
            raise BookFault(f"{ticker}: a change at clock {clock} after a snapshot that includes it")
        place = market.legs[leg] = Place(clock, before.number + 1 if clock == before.clock else 1)
        if market.place is None:
            return
        if place <= market.place:
            market.aligned[leg] = market.aligned[leg] or place.meets(market.place)
            if at_ms > market.as_of_ms + _TIME_SLACK_MS:
                self._new_age(leg, ticker, market, f"clock {clock} is later than {market.place.clock}")
            return
        if not before.meets(market.place):
            self._contradicted(leg, ticker, market)
        self._apply(ticker, market, change, at_ms, place)
        market.aligned[leg] = True

    def doubt(self, leg: int, tickers: Iterable[str]) -> None:
        """This connection can be believed no longer about these books, until its next snapshots."""
        for ticker in tickers:
            market = self._markets.get(ticker)
            if market is None:
                continue
            market.legs[leg], market.aligned[leg] = None, False
            if market.place is None or any(market.aligned):
                continue
            self._distrust(ticker, market, "no connection is in step")
            for number, stands in enumerate(market.legs):
                if stands is not None:
                    self._ask(number, ticker)

    # --- trust

    def _is_excluded(self, market: _Market, leg: int) -> bool:
        """After a clock went back, the other connections are not believed for a while."""
        if market.alone is None:
            return False
        if self._clock_ms() >= market.alone_until:
            market.alone = None
            return False
        return leg != market.alone

    def _apply(
        self, ticker: str, market: _Market, change: tuple[BookSide, Ticks, Lots], at_ms: int, place: Place
    ) -> None:
        assert market.kept is not None
        try:
            market.kept.apply_delta(*change, at_ms or None, place.clock)
        except BookFault:
            self._distrust(ticker, market, "a change that describes no real book")
            raise
        market.place = place
        market.as_of_ms = at_ms or market.as_of_ms

    def _new_age(self, leg: int, ticker: str, market: _Market, reason: str) -> NoReturn:
        market.alone, market.alone_until = leg, self._clock_ms() + NEW_AGE_MS
        market.legs, market.aligned = [None] * self._legs, [False] * self._legs
        self._distrust(ticker, market, reason)
        raise BookFault(f"{ticker}: {reason}")

    def _contradicted(self, leg: int, ticker: str, market: _Market) -> NoReturn:
        reason = "the connections contradict each other"
        market.aligned = [False] * self._legs
        self._distrust(ticker, market, reason)
        for number, stands in enumerate(market.legs):
            if number != leg and stands is not None:
                self._ask(number, ticker)
        raise BookFault(f"{ticker}: {reason}")

    def _distrust(self, ticker: str, market: _Market, reason: str) -> None:
        if market.place is not None:
            self.lost[ticker] = reason
        market.place = None
        self._keeper.doubt([ticker])


class _Leg:
    """One connection's view of the merge."""

    def __init__(self, merge: Merge, number: int) -> None:
        self._merge = merge
        self._number = number

    def keep(self, snapshot: BookSnapshot) -> Kept | None:
        return self._merge.begin(self._number, snapshot)

    def doubt(self, tickers: Iterable[str]) -> None:
        self._merge.doubt(self._number, tickers)


class _Told:
    """Where one connection's changes of one market go."""

    __slots__ = ("_leg", "_market", "_merge", "_ticker")

    def __init__(self, merge: Merge, leg: int, ticker: str, market: _Market) -> None:
        self._merge = merge
        self._leg = leg
        self._ticker = ticker
        self._market = market

    def apply_delta(
        self, side: BookSide, tick: Ticks, change: Lots, at_ms: int | None = None, clock: int = 0
    ) -> Lots:
        self._merge.change(self._leg, self._ticker, self._market, (side, tick, change), at_ms or 0, clock)
        return change
