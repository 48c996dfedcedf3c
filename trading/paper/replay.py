"""The recorded world: real markets play again, with their definitions and settlements, on the wall clock.

Recorded markets lie days apart, so each gets its own place on the wall clock. Without a choice they play one after
another in the order of recording: the next one's first message comes as the last one closes. Chosen markets play
side by side from the start. `speed` N makes recorded time pass N times faster. Within a market nothing but the clock
changes: every message, the close, the determination and the settlement come at t' = wall + (t - recorded) / N.

The recorded book is the other side for our orders (`Venue.external_*`); the recorded result and value are paid. When
the machine cannot keep up, the rest of the replay moves back rather than being cut off at the close.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import count
from math import inf
from pathlib import Path

from trading.domain.book import Book, BookFault, lots, ticks
from trading.domain.markets import MarketStatus
from trading.domain.matching import to_ticks
from trading.domain.orders import BookSide
from trading.paper.redating import Redating, redated_event, redated_market, redating_of, series_of
from trading.paper.world import Venue
from trading.recordings.definitions import RecordedMarket, read_definitions
from trading.recordings.messages import Delta, Received, Snapshot, Trade, apply, delta_change, snapshot_levels
from trading.recordings.reader import NoRecordingError, read_market, recorded_tickers

SLICE = 0.02  # seconds of work after which the server gets its turn
PATIENCE = 0.5  # seconds of delay on the wall clock that are caught up rather than moved
SHORTEST_NAP, LONGEST_NAP = 0.002, 0.05
_IN_TRADE = (MarketStatus.ACTIVE, MarketStatus.INACTIVE)


class Phase(Enum):
    WAITING = auto()
    PLAYING = auto()
    CLOSED = auto()
    DETERMINED = auto()
    DONE = auto()


class Play:
    """One market's replay. `redating` is its place on the wall clock; `faults` counts impossible messages."""

    def __init__(self, market: RecordedMarket, messages: Iterator[Received]) -> None:
        self.market = market
        self.phase = Phase.WAITING
        self.faults = 0
        self._messages = messages
        self._ahead = next(messages, None)
        self._book = Book(market.ticker)
        self.first_at = self._ahead.recv_ms / 1000 if self._ahead else market.open_at.timestamp()
        self.redating = Redating(self.first_at, 0.0, 1.0)

    @property
    def ticker(self) -> str:
        return self.market.ticker

    @property
    def begins_at(self) -> float:
        return self.redating.to_wall(self.first_at)

    @property
    def closes_at(self) -> float:
        return self.redating.to_wall(self.market.close_at.timestamp())

    @property
    def settles_at(self) -> float:
        return self.redating.to_wall(self.market.settled_at.timestamp())

    @property
    def determined_at(self) -> float:
        """The recording tells when it was paid, and for how long the outcome stood open to dispute before."""
        timer = float(self.market.market.get("settlement_timer_seconds", 0)) / self.redating.speed
        return max(self.closes_at, self.settles_at - timer)

    @property
    def next_at(self) -> float:
        """When something is due, on the wall clock."""
        match self.phase:
            case Phase.WAITING:
                return self.begins_at
            case Phase.PLAYING:
                return min(self._due_at(), self.closes_at)
            case Phase.CLOSED:
                return self.determined_at
            case Phase.DETERMINED:
                return self.settles_at
        return inf

    def place(self, recorded: float, wall: float, speed: float) -> None:
        """Give the market its place on the wall clock."""
        self.redating = Redating(recorded, wall, speed)

    def list_on(self, venue: Venue) -> None:
        """List the market, its event and its series."""
        venue.add_series(series_of(self.market))
        venue.add_event(redated_event(self.market, self.redating))
        venue.add_market(redated_market(self.market, self.redating))

    def postpone(self, venue: Venue, seconds: float) -> None:
        """Move what is still to come to a later time."""
        self.redating = self.redating.later(seconds)
        times = redated_market(self.market, self.redating)
        venue.update_market(self.ticker, {key: times[key] for key in ("open_time", "close_time")})

    def advance(self, venue: Venue, now: float, until: float) -> None:
        """Do what is due, but stop playing messages when `time.monotonic()` passes `until`."""
        if self.phase is Phase.WAITING and now >= self.begins_at:
            self._begin(venue, now)
        if self.phase is Phase.PLAYING:
            self._play(venue, now, until)
        if self.phase is Phase.CLOSED and now >= self.determined_at:
            value = to_ticks(self.market.settlement_value)
            venue.determine(self.ticker, self.market.result, value, self.market.expiration_value)
            self.phase = Phase.DETERMINED
        if self.phase is Phase.DETERMINED and now >= self.settles_at:
            venue.settle(self.ticker)
            self.phase = Phase.DONE

    def _begin(self, venue: Venue, now: float) -> None:
        """Open the market with the book as it stands now: at the first snapshot, or later after a restart."""
        self.phase = Phase.PLAYING
        if now >= self.closes_at:
            return
        if venue.status(self.ticker) == MarketStatus.INITIALIZED:
            venue.open_market(self.ticker)
        while self._ahead is not None and self._due_at() <= now:
            self._note(self._ahead)
            self._ahead = next(self._messages, None)
        venue.replace_external_book(
            self.ticker, self._book.raw_levels(BookSide.BID), self._book.raw_levels(BookSide.ASK)
        )

    def _play(self, venue: Venue, now: float, until: float) -> None:
        closes_at = self.closes_at
        for number in count(1):
            due_at = self._due_at()
            if due_at > min(now, closes_at) or venue.status(self.ticker) not in _IN_TRADE:
                break
            assert self._ahead is not None  # an exhausted recording is never due
            self._forward(venue, self._ahead, now)
            self._ahead = next(self._messages, None)
            if number % 64 == 0 and time.monotonic() > until:
                return
        if now >= closes_at:
            venue.close_market(self.ticker)
            self.phase = Phase.CLOSED

    def _due_at(self) -> float:
        return inf if self._ahead is None else self.redating.to_wall(self._ahead.recv_ms / 1000)

    def _note(self, received: Received) -> bool:
        """Keep our own book, which tells an impossible message before the exchange believes it."""
        try:
            apply(self._book, received)
        except BookFault:
            self.faults += 1
        return self._book.is_current

    def _forward(self, venue: Venue, received: Received, now: float) -> None:
        believed = self._note(received)
        event = received.event
        if isinstance(event, Trade):
            if event.msg.is_block_trade:
                return  # agreed elsewhere: it passed no queue
            at = min(self.redating.to_wall(event.msg.ts_ms / 1000), now)
            venue.external_trade(
                self.ticker,
                ticks(event.msg.yes_price_dollars),
                lots(event.msg.count_fp),
                BookSide(event.msg.taker_book_side),
                trade_id=event.msg.trade_id,
                at=datetime.fromtimestamp(at, UTC),
            )
        elif not believed:
            venue.lose_external_book(self.ticker)
        elif isinstance(event, Snapshot):
            venue.replace_external_book(self.ticker, *snapshot_levels(event.msg))
        elif isinstance(event, Delta):
            venue.external_delta(self.ticker, *delta_change(event.msg))


class ReplayWorld:
    """The world of a folder of recordings (`trading.paper.world.World`).

    `markets` chooses some and lets them play side by side; without, all play one after another. Raises
    NoRecordingError when there is nothing to play, ValueError for a speed that is not positive.
    """

    def __init__(self, root: Path, speed: float = 1.0, markets: Sequence[str] = ()) -> None:
        if speed <= 0:
            raise ValueError(f"a replay needs a speed above zero, not {speed:g}")
        definitions = read_definitions(root)
        known = [ticker for ticker in recorded_tickers(root) if ticker in definitions]
        unknown = [ticker for ticker in markets if ticker not in known]
        if unknown or not known:
            raise NoRecordingError(
                f"no recording with a definition under {root}: {', '.join(unknown) or 'any market'}"
            )
        self._speed = speed
        self._side_by_side = bool(markets)
        self.plays = [Play(definitions[t], read_market(root, t)) for t in (markets or known)]

    def describe(self) -> str:
        order = "side by side" if self._side_by_side else "one after another"
        return f"replay of {len(self.plays)} recorded markets {order}, speed {self._speed:g}"

    @property
    def is_over(self) -> bool:
        return all(play.phase is Phase.DONE for play in self.plays)

    async def run(self, exchange: Venue) -> None:
        """Drive the exchange until the last market has settled."""
        self.begin(exchange)
        while not self.is_over:
            self.advance(exchange, budget=SLICE)
            wait = min(play.next_at for play in self.plays) - exchange.now().timestamp()
            await asyncio.sleep(min(max(wait, SHORTEST_NAP), LONGEST_NAP))

    def begin(self, venue: Venue) -> None:
        """Place and list every market; go on with those that an earlier run left unfinished."""
        now = venue.now().timestamp()
        self._place(venue, now)
        for play in self.plays:
            play.list_on(venue)
        self.advance(venue)

    def advance(self, venue: Venue, budget: float = inf) -> None:
        """Do everything that is due now, for at most about `budget` seconds of work."""
        until = time.monotonic() + budget
        now = venue.now().timestamp()
        for play in self.plays:
            play.advance(venue, now, until)
        late = now - min(play.next_at for play in self.plays)
        if PATIENCE < late < inf:
            self._postpone(venue, late)

    def _postpone(self, venue: Venue, seconds: float) -> None:
        for play in self.plays:
            if play.phase in (Phase.WAITING, Phase.PLAYING):
                play.postpone(venue, seconds)

    def _place(self, venue: Venue, now: float) -> None:
        """Unfinished markets of an earlier run keep their times; those before them in a chain have been played."""
        earlier = venue.restored()
        unfinished = [number for number, play in enumerate(self.plays) if play.ticker in earlier]
        if unfinished and not self._side_by_side:
            self.plays = self.plays[unfinished[0] :]
        free_from = now
        for play in self.plays:
            if play.ticker in earlier:
                play.redating = redating_of(play.market, earlier[play.ticker])
            else:
                play.place(play.first_at, free_from, self._speed)
            if not self._side_by_side:
                free_from = max(free_from, play.closes_at)
