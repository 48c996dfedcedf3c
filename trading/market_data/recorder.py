"""The recorder: what the socket says of the wanted markets goes to the disk, with the markets' definitions.

1. Read which markets are live; give each its files, subscribe its book and its trades, keep its event's definition.
2. What the exchange says of markets that begin or end, and a slow sweep, bring new ones in.
3. A market that has been settled is unsubscribed, its file is ended, and its event's definition is kept again, now
   with the outcome.

Order books are asked for with NO prices on the NO scale, as the recordings' format has them; everything else that a
recording must tell and the frames do not is left as a note (`trading.recordings.notes`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from trading.domain.markets import MarketStatus
from trading.exchange import events
from trading.exchange.channels import BOOKS, Channel
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import StreamGateway
from trading.exchange.reports import MarketDefinition
from trading.exchange.stream import Channels, Tap
from trading.recordings.definitions import write_event
from trading.recordings.writer import RecordingFailed, RecordingWriter, now_ms

log = logging.getLogger(__name__)

TRADES: Final[Channel] = "trade"
LIFECYCLE: Final[Channel] = "market_lifecycle_v2"
MOST_MARKETS: Final = 1_000
TRIES: Final = 4  # reads lag what the stream says (API.md 9)


class TooManyMarkets(Exception):
    """More live markets than one recorder follows: name series or markets."""

    code = "E875"


class Definitions(Protocol):
    """What the recorder asks by REST."""

    def markets(
        self, *, status: Literal["open"], series_ticker: str | None = None
    ) -> list[MarketDefinition]: ...

    def markets_named(self, tickers: Sequence[str]) -> list[MarketDefinition]: ...

    def event_as_told(self, ticker: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at what is due, two sweeps of the catalogue, and two lines of progress."""

    turn: float = 0.5
    sweep: float = 15.0
    progress: float = 10.0


@dataclass(slots=True)
class Recorder:
    """`run` records until `stop`. Without `series` and `markets` it records whatever is live. `say` gets progress."""

    exchange: Definitions
    writer: RecordingWriter
    open_stream: Callable[[Channels, Tap], StreamGateway]
    say: Callable[[str], None]
    rest_url: str = ""
    series: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)
    gaps: int = 0
    reconnects: int = -1
    followed: dict[str, str] = field(default_factory=dict)  # the event of each market
    settled: set[str] = field(default_factory=set)
    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _stream: StreamGateway = field(init=False)
    _hurry: int = field(init=False, default=0)  # sweeps that are due at once

    def stop(self) -> None:
        """Let `run` return. Call from the event loop."""
        self._stop.set()

    async def run(self) -> None:
        """Record until `stop`. Raises RecordingFailed when nothing more can be written, TooManyMarkets, and whatever
        the stream raises."""
        self._stream = self.open_stream({BOOKS: [], TRADES: [], LIFECYCLE: None}, self.writer.tap)
        streaming = asyncio.create_task(self._stream.run(self._on_event))
        duties = asyncio.create_task(self._duties())
        try:
            await asyncio.wait({streaming, duties}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            await self._stream.stop()
            await asyncio.wait({streaming, duties})
        for task in (streaming, duties):
            task.result()

    # --- events

    def _on_event(self, event: events.StreamEvent) -> None:
        if isinstance(event, events.Connected):
            self.reconnects += 1
            self.writer.note("connected")
        elif isinstance(event, events.Disconnected):
            self.writer.note("disconnected", event.reason)
        elif isinstance(event, events.Gap):
            self._on_gap(event)
        elif isinstance(event, events.LifecycleChange):
            if event.ticker in self.followed or self._is_wanted(event.ticker):
                self._hurry = TRIES
        elif isinstance(event, events.Rejected):
            self.say(f"the exchange refuses {event.channel}: {event.message} ({event.number})")

    def _on_gap(self, event: events.Gap) -> None:
        if event.channel == BOOKS:
            self.gaps += 1
            self.writer.note("gap", event.reason, event.tickers)

    def _is_wanted(self, ticker: str) -> bool:
        """Whether it may be one of ours: tickers begin with their series; where one does not, the sweep finds it."""
        if ticker in self.settled:
            return False
        if not self.series and not self.markets:
            return True
        return ticker in self.markets or ticker.partition("-")[0] in self.series

    # --- duties

    async def _duties(self) -> None:
        sweep_in = progress_in = 0.0
        while not self._stop.is_set():
            if sweep_in <= 0 or self._hurry:
                self._hurry = max(self._hurry - 1, 0)
                sweep_in = self.pace.sweep if await self._sweep() else self.pace.turn
            if progress_in <= 0:
                progress_in = self.pace.progress
                self.say(self.progress())
            await self._rest(self.pace.turn)
            sweep_in, progress_in = sweep_in - self.pace.turn, progress_in - self.pace.turn
            if self.writer.failure is not None:
                raise RecordingFailed(self.writer.failure)
        await self._sweep()  # what has been settled since the last one

    def progress(self) -> str:
        """One line: how far it is."""
        live = len(self.followed)
        return (
            f"{live} market{'' if live == 1 else 's'} live, {len(self.settled)} settled: {self.writer.frames} frames,"
            f" {self.writer.written / 1e6:.1f} MB, {self.gaps} gaps, {max(self.reconnects, 0)} reconnects"
        )

    async def _sweep(self) -> bool:
        """Follow what is live and let go of what is settled. False when the exchange is out of reach."""
        try:
            await self._take_up(await asyncio.to_thread(self._live))
            await self._let_go()
        except ExchangeError as error:
            log.warning("recorder.sweep.failed", extra={"error": repr(error)})
            return False
        return True

    def _live(self) -> list[MarketDefinition]:
        """The wanted markets that trade now, and the named ones as long as they are not settled."""
        found: list[MarketDefinition] = []
        for series in self.series or ((None,) if not self.markets else ()):
            found += self.exchange.markets(status="open", series_ticker=series)
        if self.markets:
            found += self.exchange.markets_named(self.markets)
        return [market for market in found if market.status is not MarketStatus.FINALIZED]

    async def _take_up(self, live: list[MarketDefinition]) -> None:
        done = self.followed.keys() | self.settled
        fresh = {market.ticker: market.event_ticker for market in live if market.ticker not in done}
        if len(fresh) + len(self.followed) > MOST_MARKETS:
            raise TooManyMarkets(
                f"{len(fresh) + len(self.followed)} live markets: choose with --series or --market"
            )
        if not fresh:
            return
        for event in sorted(set(fresh.values())):
            await self._keep_definition(event)
        self.writer.follow(fresh)
        self.followed |= fresh
        for channel in (BOOKS, TRADES):
            await self._stream.add_markets(channel, sorted(fresh))
        self.say(f"recording {', '.join(sorted(fresh))}")

    async def _let_go(self) -> None:
        known = sorted(self.followed)
        if not known:
            return
        told = await asyncio.to_thread(self.exchange.markets_named, known)
        gone = {market.ticker for market in told if market.status is MarketStatus.FINALIZED}
        if not gone:
            return
        for event in sorted({self.followed[ticker] for ticker in gone}):
            await self._keep_definition(event)
        for channel in (BOOKS, TRADES):
            await self._stream.remove_markets(channel, sorted(gone))
        self.writer.finish(gone)
        for ticker in gone:
            del self.followed[ticker]
        self.settled |= gone
        self.say(f"settled: {', '.join(sorted(gone))}")

    async def _keep_definition(self, event: str) -> None:
        answer = await asyncio.to_thread(self.exchange.event_as_told, event)
        url = f"{self.rest_url}/events/{event}"
        try:
            write_event(self.writer.root, event, answer, url=url, fetched_at_ms=now_ms())
        except (OSError, ValueError) as error:
            raise RecordingFailed(f"cannot keep the definition of {event}: {error}") from error

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
