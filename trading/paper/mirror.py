"""The mirrored world: another exchange's markets as they are now, and our orders filled against its public feed.

Books and prints come over the other exchange's stream and are the other side for our orders, as recordings are
(`Venue.external_*`, with the same fill models). Its lifecycle messages only say which market to read again: what a
market is, and how it ended, is what REST tells, so that a message missed while the link was down is made up for by the
next sweep. A read-only key suffices: nothing is ever sent there.

When a book cannot be trusted (a gap, a lost link, changes that describe no real book) it is emptied here at once and
the market takes no new orders (`trading_is_paused`) until its next snapshot; our resting orders stay with their place
in the queue, and cancels work. What traded meanwhile fills nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from trading.domain.book import Book, BookFault
from trading.domain.markets import MarketStatus
from trading.domain.matching import to_lots, to_ticks
from trading.domain.orders import BookSide, Side
from trading.exchange import events
from trading.exchange.auth import open_signer
from trading.exchange.channels import BOOKS, Channel
from trading.exchange.errors import ExchangeError
from trading.exchange.reads import Reads
from trading.exchange.reports import PublicTrade
from trading.exchange.stream import Channels, Stream, open_stream
from trading.exchange.transport import Transport
from trading.paper.definitions import LIVE_FIELDS, Payload
from trading.paper.mirror_source import Source
from trading.paper.world import Venue

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
ACTIVITY_SECONDS: Final = 2.0
REFRESH_SECONDS: Final = 0.5
SWEEPS_AFTER_CONNECT: Final = 2  # the second one sees what the first came too early for
TRIES: Final = 4  # reads lag messages (API.md 8): a named market is read again a few times
TRADES: Final[Channel] = "trade"
LIFECYCLE: Final[Channel] = "market_lifecycle_v2"
_S = MarketStatus
_LIVE = frozenset({_S.INITIALIZED, _S.ACTIVE, _S.INACTIVE})
_DECIDED = frozenset({_S.DETERMINED, _S.FINALIZED})
_PLAIN_RESULTS = frozenset({"yes", "no"})
_BASE_FIGURES = ("volume_fp", "open_interest_fp", "last_price_dollars")

OpenStream = Callable[[Channels], Stream]


@dataclass(slots=True)
class Pace:
    """Seconds between two looks at what was named, at whether there is trading at all, and at everything."""

    refresh: float = REFRESH_SECONDS
    activity: float = ACTIVITY_SECONDS
    sweep: float = SWEEP_SECONDS


class MirrorWorld:
    """The world of another exchange (`trading.paper.world.World`). Raises ExchangeError when it cannot be read at the
    start; later failures are waited out."""

    def __init__(
        self, rest_url: str, source: Source, open_stream: OpenStream, pace: Pace | None = None
    ) -> None:
        self._host = urlsplit(rest_url).netloc
        self._source = source
        self._open_stream = open_stream
        self._pace = pace or Pace()
        self._shown: dict[str, Payload] = {}  # the definition as last read, by ticker
        self._books: dict[str, Book] = {}
        self._due: dict[str, int] = {}  # tickers to be read again, with tries left
        self._events_due: set[str] = set()
        self._sweeps_due = 0
        self._activity = (True, True)  # whether the exchange there runs, and whether it trades

    def describe(self) -> str:
        chosen = ", ".join([*self._source.series, *self._source.markets])
        return f"mirror of {self._host}: {chosen}"

    async def run(self, exchange: Venue) -> None:
        """Mirror until canceled. The first read blocks: the exchange opens with its markets listed."""
        for market in self._source.first(exchange.restored()):
            self._take(exchange, market)
        channels: Channels = {BOOKS: [*self._books], TRADES: [*self._books], LIFECYCLE: None}
        stream = self._open_stream(channels)
        async with asyncio.TaskGroup() as duties:
            duties.create_task(stream.run(lambda event: self._hear(exchange, stream, event)))
            duties.create_task(self._each(self._pace.refresh, lambda: self._refresh(exchange, stream)))
            duties.create_task(self._each(self._pace.activity, lambda: self._follow_activity(exchange)))
            duties.create_task(self._each(self._pace.sweep, lambda: self._sweep(exchange, stream)))

    # The stream

    def _hear(self, venue: Venue, stream: Stream, event: events.StreamEvent) -> None:
        match event:
            case events.BookDelta():
                self._change(venue, stream, event)
            case events.BookSnapshot() if event.ticker in self._books:
                self._begin(venue, stream, event)
            case events.TradePrint() if event.trade.ticker in self._books:
                self._print(venue, stream, event.trade)
            case events.Gap():
                self._lose(venue, event.tickers)
            case events.Disconnected():
                self._lose(venue, self._books)
            case events.Connected():
                self._sweeps_due = SWEEPS_AFTER_CONNECT
            case events.LifecycleChange() if event.ticker in self._shown or self._source.may_want(
                event.ticker
            ):
                self._due[event.ticker] = TRIES
            case events.FeesChanged():
                self._events_due.add(event.event_ticker)
            case events.Rejected():
                log.error("mirror.command.rejected: %s %s", event.channel, event.message)

    def _begin(self, venue: Venue, stream: Stream, event: events.BookSnapshot) -> None:
        try:
            self._books[event.ticker].apply_snapshot(event.bids, event.asks)
        except BookFault:
            self._doubt(venue, stream, event.ticker)
            return
        venue.replace_external_book(event.ticker, event.bids, event.asks)

    def _change(self, venue: Venue, stream: Stream, event: events.BookDelta) -> None:
        book = self._books.get(event.ticker)
        if book is None or not book.is_current:
            return
        try:
            book.apply_delta(event.side, event.tick, event.change)
        except BookFault:
            self._doubt(venue, stream, event.ticker)
            return
        venue.external_delta(event.ticker, event.side, event.tick, event.change)

    def _print(self, venue: Venue, stream: Stream, trade: PublicTrade) -> None:
        if trade.is_block_trade:
            return  # agreed elsewhere: it passed no queue
        try:
            tick, lots = to_ticks(trade.price), to_lots(trade.quantity)
        except ValueError:  # finer than any book holds: what it took from the queue is not known
            self._doubt(venue, stream, trade.ticker)
            return
        taker = BookSide.BID if trade.taker_side is Side.YES else BookSide.ASK
        venue.external_trade(
            trade.ticker,
            tick,
            lots,
            taker,
            trade_id=trade.trade_id,
            at=min(trade.at, venue.now()),
        )

    def _doubt(self, venue: Venue, stream: Stream, ticker: str) -> None:
        stream.distrust(ticker)
        self._lose(venue, [ticker])

    def _lose(self, venue: Venue, tickers: Iterable[str]) -> None:
        for ticker in tickers:
            if ticker in self._books:
                self._books[ticker].invalidate()
                venue.lose_external_book(ticker)

    # What REST tells

    async def _refresh(self, venue: Venue, stream: Stream) -> None:
        """Read again what was named; after a connection everything, for nobody named what happened before it."""
        if self._sweeps_due:
            self._sweeps_due -= 1
            await self._sweep(venue, stream)
        due, self._due = self._due, {}
        named = set(due)
        for event_ticker in self._events_due:
            self._source.forget_event(event_ticker)
            named |= {
                ticker for ticker, shown in self._shown.items() if shown["event_ticker"] == event_ticker
            }
        self._events_due.clear()
        if named:
            self._due = {ticker: tries - 1 for ticker, tries in due.items() if tries > 1}
            await self._read(venue, stream, lambda: self._source.named(named))

    async def _sweep(self, venue: Venue, stream: Stream) -> None:
        """Read everything again: whatever a lost message said, this says too."""
        unfinished = [ticker for ticker, shown in self._shown.items() if shown["status"] != _S.FINALIZED]
        await self._read(venue, stream, lambda: self._source.first(unfinished))

    async def _follow_activity(self, venue: Venue) -> None:
        """Pause when the exchange there pauses, or only its trading, and go on when it does."""
        shards = {int(shown.get("exchange_index") or 0) for shown in self._shown.values()}
        try:
            activity = await asyncio.to_thread(self._source.activity, shards)
        except ExchangeError as error:
            log.warning("mirror.read.failed: %r", error)
            return
        if activity != self._activity:
            self._activity = activity
            venue.set_active(exchange=activity[0], trading=activity[1])

    async def _read(self, venue: Venue, stream: Stream, ask: Callable[[], list[Payload]]) -> None:
        def asked() -> list[Payload]:
            """With their parents, so that nothing is asked in the loop."""
            markets = ask()
            wanted = [m for m in markets if m["ticker"] in self._shown or self._source.wants(m)]
            for market in wanted:
                self._source.parents(market)
            return wanted

        try:
            markets = await asyncio.to_thread(asked)
        except ExchangeError as error:
            log.warning("mirror.read.failed: %r", error)
            return
        fresh = [market["ticker"] for market in markets if self._take(venue, market)]
        gone = [ticker for ticker in self._books if self._shown[ticker]["status"] not in _LIVE]
        for ticker in gone:
            del self._books[ticker]
        for channel in (BOOKS, TRADES):
            if fresh:
                await stream.add_markets(channel, fresh)
            if gone:
                await stream.remove_markets(channel, gone)

    def _take(self, venue: Venue, market: Payload) -> bool:
        """Let the market be here what it is there. True when it is new and its book is to be followed. What cannot be
        listed is left out: another exchange's mistakes end no world."""
        ticker = str(market["ticker"])
        before = self._shown.get(ticker)
        try:
            if before is None:
                self._list(venue, market)
            else:
                self._redefine(venue, before, market)
            follow_state(venue, market)
        except ValueError as error:
            log.error("mirror.market.impossible: %s: %s", ticker, error)
            return False
        self._shown[ticker] = market
        if ticker in self._books or market["status"] not in _LIVE:
            return False
        self._books[ticker] = Book(ticker)
        venue.lose_external_book(ticker)
        return True

    def _list(self, venue: Venue, market: Payload) -> None:
        series, event = self._source.parents(market)
        venue.add_series(series)
        venue.add_event(event)
        venue.add_market(market)
        venue.update_market(market["ticker"], {key: market[key] for key in _BASE_FIGURES if market.get(key)})

    def _redefine(self, venue: Venue, before: Payload, market: Payload) -> None:
        series, event = self._source.parents(market)
        venue.add_series(series)
        venue.add_event(event)
        changed = {
            key: value for key, value in market.items() if key not in LIVE_FIELDS and before.get(key) != value
        }
        if changed:
            venue.update_market(market["ticker"], changed)

    # Time

    @staticmethod
    async def _each(seconds: float, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await duty()


def follow_state(venue: Venue, market: Payload) -> None:
    """Open, pause, close, determine, settle: whatever the market has done there and not yet here."""
    ticker, there, here = market["ticker"], market["status"], venue.status(market["ticker"])
    if there == _S.ACTIVE and here in {_S.INITIALIZED, _S.INACTIVE}:
        venue.open_market(ticker)
    elif there == _S.INACTIVE:
        venue.pause_market(ticker)
    elif there not in _LIVE and here in _LIVE:
        venue.close_market(ticker)
    if there == _S.AMENDED or (there in {_S.DETERMINED, _S.FINALIZED} and here not in _DECIDED):
        _determine(venue, market)
    if there == _S.FINALIZED and venue.status(ticker) == _S.DETERMINED:
        venue.settle(ticker)


def _determine(venue: Venue, market: Payload) -> None:
    """Take over the outcome. A result word that is not ours is paid at its value, as a scalar one is."""
    result, value = str(market.get("result", "")), market.get("settlement_value_dollars")
    if value is None and result not in _PLAIN_RESULTS:
        raise ValueError(f"determined as {result!r} without a value")
    venue.determine(
        market["ticker"],
        result if result in _PLAIN_RESULTS else "scalar",
        None if value is None else to_ticks(value),
        str(market.get("expiration_value", "")),
    )


def open_mirror(
    rest_url: str,
    ws_url: str,
    key_id: str,
    key_file: Path | None,
    *,
    series: Sequence[str] = (),
    markets: Sequence[str] = (),
) -> MirrorWorld:
    """A mirror with a key of the other exchange. Raises ValueError for filters that choose nothing or a missing key,
    UnusableKey for one that cannot be read."""
    if not key_id or key_file is None:
        raise ValueError("a mirror needs --mirror-key-id and --mirror-key-file: the stream is signed")
    signer = open_signer(key_id, key_file)
    source = Source(Reads(Transport(rest_url, signer)), tuple(series), tuple(markets))
    return MirrorWorld(rest_url, source, lambda channels: open_stream(ws_url, signer, channels))
