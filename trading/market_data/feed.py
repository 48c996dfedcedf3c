"""The feed process: follow the exchange, keep the books, write the quotes.

One event loop owns the books. Asking the exchange by REST, writing to the database and publishing each have a thread of
their own, so that a slow one of them never keeps a frame waiting.

1. Load the catalogue, write the market rows, distrust every quote that an earlier feed left.
2. Follow the books and the activity of all live markets; a change of the catalogue follows or drops markets.
3. Once a second write the changed quotes and prove the trusted ones current.
4. Up to four times a second publish the changed prices. Redis may be away: the rows are the truth.

One feed writes at a time (`LEASE`): the proof of age is given to all trusted quotes at once, so one that a second feed
left would be proven by the first. A feed that was frozen and outrun writes and publishes nothing more and ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from django.utils import timezone

from kalshi_site import fenced, live
from kalshi_site.locks import Held, Outrun
from trading.exchange.bookkeeping import Bookkeeper
from trading.exchange.channels import BOOKS, Channel
from trading.exchange.errors import ExchangeError
from trading.exchange.events import (
    Connected,
    EventOpened,
    FeesChanged,
    Gap,
    LifecycleChange,
    Rejected,
    StreamEvent,
)
from trading.exchange.gateway import MarketDataGateway, StreamGateway
from trading.market_data import snapshots
from trading.market_data.catalogue import Catalogue, Listing, unfinished_rows, write_markets
from trading.market_data.charts import Charts, write_minutes
from trading.market_data.hub import Hub, at

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class OpenStream(Protocol):
    """A stream of these channels whose books go to the keeper, if it can do that; otherwise to the sink as events."""

    def __call__(
        self, channels: dict[Channel, Collection[str] | None], *, keeper: Bookkeeper
    ) -> StreamGateway: ...


LEASE: Final = "feed"
LEASE_TTL: Final = timedelta(seconds=5)
TICKER: Final[Channel] = "ticker"
TRADES: Final[Channel] = "trade"
LIFECYCLE: Final[Channel] = "market_lifecycle_v2"
MOST_MARKETS: Final = 1_000
TRIES: Final = 5  # a market may be unknown for a moment after its `created` message (API.md 9)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two rounds of each duty."""

    write: float = 1.0
    publish: float = 0.25
    catalogue: float = 1.0
    sweep: float = 30.0
    publish_pause: float = 30.0  # after a publication failed: Redis is away
    patience: float = (
        20.0  # after the first proof, until the desk may start without the books that do not come
    )


@dataclass(frozen=True, slots=True)
class Chore:
    """Work beside the books: asks or writes every so many seconds, in a thread of its own. Handles its own errors."""

    every: float
    work: Callable[[], object]


@dataclass(slots=True)
class Feed:
    """`run` works until `stop`. `on_ready` is called once: all books are written, or those left do not come."""

    exchange: MarketDataGateway
    open_stream: OpenStream
    on_ready: Callable[[], None]
    pace: Pace = field(default_factory=Pace)
    publish: Callable[[str, dict[str, Any]], bool] = live.publish
    most_markets: int = MOST_MARKETS
    chores: tuple[Chore, ...] = ()
    held: Held | None = None
    _hub: Hub = field(init=False)
    _charts: Charts = field(init=False)
    _catalogue: Catalogue = field(init=False)
    _stream: StreamGateway = field(init=False)
    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _changed_markets: dict[str, int] = field(init=False, default_factory=dict)
    _pushed: list[LifecycleChange] = field(init=False, default_factory=list)
    _changed_events: set[str] = field(init=False, default_factory=set)
    _unwritten: set[str] = field(init=False, default_factory=set)
    _is_ready: bool = field(init=False, default=False)
    _proven_since: float | None = field(init=False, default=None)
    _has_missed: bool = field(init=False, default=False)
    _asking: Executor = field(init=False)
    _writing: Executor = field(init=False)
    _publishing: Executor = field(init=False)
    _chores: Executor = field(init=False)

    def __post_init__(self) -> None:
        self._catalogue = Catalogue(self.exchange)
        self._hub = Hub(on_fault=self._on_fault)
        self._charts = Charts()
        self._asking = ThreadPoolExecutor(1, "feed-ask")
        self._writing = ThreadPoolExecutor(1, "feed-write")
        self._publishing = ThreadPoolExecutor(1, "feed-publish")
        self._chores = ThreadPoolExecutor(1, "feed-chores")

    def stop(self) -> None:
        """Let `run` return. Call from the event loop."""
        self._stop.set()

    async def run(self) -> None:
        """Feed until `stop`. What a duty raises and does not expect ends the run: the supervisor starts it anew."""
        self._stream = self.open_stream(
            {BOOKS: [], TICKER: [], TRADES: [], LIFECYCLE: None}, keeper=self._hub.shelf
        )
        try:
            await self._begin()
            async with asyncio.TaskGroup() as duties:
                running = duties.create_task(self._stream.run(self._on_event))
                beats = [
                    duties.create_task(self._each(self.pace.write, self._write)),
                    duties.create_task(self._each(self.pace.publish, self._publish)),
                    duties.create_task(self._each(self.pace.catalogue, self._follow_changes)),
                    duties.create_task(self._each(self.pace.sweep, self._sweep)),
                    *(duties.create_task(self._each(chore.every, self._do(chore))) for chore in self.chores),
                ]
                await self._stop.wait()
                for beat in beats:
                    beat.cancel()
                await self._stream.stop()
                await running
        finally:
            await self._end()

    # --- beginning and end

    async def _begin(self) -> None:
        await self._in(self._writing, snapshots.distrust_all)
        for chore in self.chores:
            await self._do(chore)()
        while not self._stop.is_set() and not await self._sweep():
            await self._rest(self.pace.catalogue)

    async def _end(self) -> None:
        with suppress(DatabaseError, Outrun):  # outrun: the quotes are another feed's now
            await self._in(self._writing, snapshots.distrust_all)
            await self._in(self._writing, write_minutes, self._charts.take_all())
        await self._in(self._writing, connections.close_all)
        await self._in(self._chores, connections.close_all)
        await self._in(self._publishing, connections.close_all)
        self._chores.shutdown(wait=False, cancel_futures=True)
        self._publishing.shutdown(wait=False, cancel_futures=True)
        self._asking.shutdown(wait=False, cancel_futures=True)
        self._writing.shutdown()

    # --- events

    def _on_fault(self, ticker: str) -> None:
        self._stream.distrust(ticker)

    def _on_event(self, event: StreamEvent) -> None:
        self._hub.apply(event)
        self._charts.apply(event)
        if isinstance(event, LifecycleChange):
            self._changed_markets[event.ticker] = TRIES
            self._pushed.append(event)
        elif isinstance(event, FeesChanged | EventOpened):
            self._changed_events.add(event.event_ticker)
        elif isinstance(event, Connected) or (isinstance(event, Gap) and event.channel == LIFECYCLE):
            self._has_missed = True
        elif isinstance(event, Rejected):
            markets = len(event.keys)
            log.error(
                "feed.command.rejected",
                extra={"channel": event.channel, "reason": event.message, "markets": markets},
            )

    # --- duties

    async def _sweep(self) -> bool:
        """Read the whole catalogue. False when the exchange or the database is out of reach."""
        try:
            known = await self._in(self._writing, unfinished_rows)
            changed = await self._in(self._asking, self._catalogue.sweep, known)
            await self._take_over(changed)
        except (ExchangeError, DatabaseError) as error:
            log.warning("feed.sweep.failed", extra={"error": repr(error)})
            return False
        return True

    async def _follow_changes(self) -> None:
        """Read again what lifecycle messages named, and what has come to its time; everything, if some were missed."""
        if self._has_missed:
            self._has_missed = not await self._sweep()
        pushed, self._pushed = self._pushed, []
        events, self._changed_events = self._changed_events, set()
        named, self._changed_markets = self._changed_markets, {}
        tickers = named.keys() | set(self._catalogue.due(timezone.now()))
        try:
            changed = await self._in(self._asking, self._catalogue.refresh, tickers) if tickers else []
            for event in events:
                changed += await self._in(self._asking, self._catalogue.refresh_event, event)
            for change in pushed:  # after the answers, which may be older than the messages
                changed += await self._in(self._asking, self._catalogue.take_pushed, change)
            await self._take_over(changed)
        except (ExchangeError, DatabaseError) as error:
            log.warning("feed.refresh.failed", extra={"error": repr(error)})
            self._changed_markets = named | self._changed_markets
            self._changed_events |= events
            self._pushed = pushed + self._pushed
            return
        unknown = {
            ticker: left - 1 for ticker, left in named.items() if ticker not in self._catalogue.listings
        }
        self._changed_markets = {t: left for t, left in unknown.items() if left} | self._changed_markets

    async def _take_over(self, changed: list[Listing]) -> None:
        await self._write_rows({each.market.ticker for each in changed})
        wanted = self._catalogue.live(timezone.now(), self.most_markets)
        fresh, gone = wanted - set(self._hub.books), set(self._hub.books) - wanted
        self._hub.drop(gone)
        gone.update(self._hub.follow(fresh))
        self._charts.drop(gone)
        for channel in (BOOKS, TICKER, TRADES):
            if gone:
                await self._stream.remove_markets(channel, gone)
            if fresh:
                await self._stream.add_markets(channel, fresh)

    async def _write_rows(self, tickers: set[str]) -> None:
        """Write these markets as they are known now, each once, with those that could not be written before: the
        catalogue knows them already and would name them changed no second time."""
        waiting, self._unwritten = self._unwritten | tickers, set()
        known = self._catalogue.listings
        listings = [known[ticker] for ticker in sorted(waiting) if ticker in known]
        if not listings:
            return
        try:
            await self._in(self._writing, write_markets, listings)
        except DatabaseError:
            self._unwritten |= waiting
            raise

    async def _write(self) -> None:
        touches, activity = self._hub.take_unwritten(), self._hub.take_activity()
        proven_at, is_complete = at(self._stream.proven_ms), not self._hub.waiting
        minutes = self._charts.take(int(timezone.now().timestamp() * 1000))
        try:
            await self._in(self._writing, snapshots.write_quotes, touches, proven_at)
            if activity:
                await self._in(self._writing, snapshots.write_activity, activity)
            if minutes:
                await self._in(self._writing, write_minutes, minutes)
        except DatabaseError as error:
            log.warning("feed.write.failed", extra={"error": repr(error)})
            self._hub.put_back(touches)
            self._charts.put_back(minutes)
            return
        if proven_at is not None and not self._is_ready and (is_complete or self._is_late()):
            self._is_ready = True
            self.on_ready()

    def _is_late(self) -> bool:
        """Whether the books that are missing have been waited for long enough: they stay untrusted and are seen so."""
        now = time.monotonic()
        self._proven_since = now if self._proven_since is None else self._proven_since
        if now - self._proven_since < self.pace.patience:
            return False
        log.warning("feed.ready.incomplete", extra={"waiting": self._hub.waiting[:20]})
        return True

    async def _publish(self) -> None:
        touches = self._hub.take_unpublished()
        if not touches:
            return
        batch = snapshots.tick_batch(touches, int(timezone.now().timestamp() * 1000))
        try:
            is_told = await self._in(self._publishing, self._tell, batch)
        except DatabaseError as error:
            log.warning("feed.publish.unproven", extra={"error": repr(error)})
            self._hub.publish_again(touches)
            return
        if not is_told:
            await self._rest(self.pace.publish_pause)

    def _tell(self, batch: dict[str, Any]) -> bool:
        """No statement to the database is between the books and the pages: the fence is asked here, and by name.

        `batch` was dated before. A feed that is frozen after the question says old prices under their own old time.
        """
        if self.held is not None:
            self.held.require_so_far()
        return self.publish("quotes", batch)

    def _do(self, chore: Chore) -> Callable[[], Any]:
        async def done() -> None:
            try:
                await self._in(self._chores, chore.work)
            except DatabaseError as error:
                log.warning("feed.chore.failed", extra={"error": repr(error)})
            except Outrun:
                raise
            except Exception:  # work beside the books must not end them
                log.exception("feed.chore.broke")

        return done

    # --- time and threads

    async def _each(self, seconds: float, duty: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            await self._rest(seconds)
            await duty()

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _in(self, thread: Executor, work: Callable[..., Result], *given: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(thread, _fresh, self.held, work, *given)


def _fresh(held: Held | None, work: Callable[..., Result], *given: Any) -> Result:
    # Long-lived threads must give up connections that the database has closed.
    close_old_connections()
    with fenced.writes(held) if held else nullcontext():
        return work(*given)
