"""Two connections to the same exchange that carry one set of books: what one loses, the other has.

It stands in for a `Stream`. Books are merged by clock (`merging`). Of everything else the first saying is passed on;
a loss of one connection is told only if it costs trust: `Connected` comes when the first connection stands,
`Disconnected` when the last is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from trading.exchange import events
from trading.exchange.auth import Signer
from trading.exchange.bookkeeping import Bookkeeper, Teller
from trading.exchange.channels import BOOKS, Channel
from trading.exchange.merging import Merge
from trading.exchange.stream import Channels, Sink, Stream, Tap
from trading.exchange.venue_clock import wall_clock_ms

CONNECTIONS: Final = 2
_REMEMBERED: Final = 10_000  # sayings that may still come over the other connection
_PASSED_ON: Final = (
    events.Heartbeat,
    events.Rejected,
    events.Subscribed,
    events.BookSnapshot,
    events.BookDelta,
)


class RedundantStream:
    """Delivers events like a `Stream`, over two connections. `options` go to both."""

    def __init__(
        self,
        ws_url: str,
        signer: Signer,
        channels: Channels,
        *,
        keeper: Bookkeeper | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
        tap: Tap | None = None,
        **options: Any,
    ) -> None:
        self._sink: Sink = _nobody
        self._merge = Merge(keeper or Teller(self._tell), CONNECTIONS, ask=self._ask, clock_ms=clock_ms)
        self._streams = [
            Stream(
                ws_url,
                signer,
                {name: None if keys is None else list(keys) for name, keys in channels.items()},
                keeper=self._merge.leg(number),
                clock_ms=clock_ms,
                tap=tap,
                **options,
            )
            for number in range(CONNECTIONS)
        ]
        self._standing: set[int] = set()
        self._heard: dict[events.StreamEvent, None] = {}

    async def run(self, sink: Sink) -> None:
        """Deliver events until `stop`. The sink is called in order and must not block; what it raises ends the run."""
        self._sink = sink
        running = [
            asyncio.create_task(stream.run(partial(self._hear, number)))
            for number, stream in enumerate(self._streams)
        ]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def stop(self) -> None:
        """Close both connections and let `run` return."""
        await asyncio.gather(*(stream.stop() for stream in self._streams))

    async def add_markets(self, channel: Channel, tickers: Iterable[str]) -> None:
        """Follow more markets, now and after every reconnect."""
        named = list(tickers)
        await asyncio.gather(*(stream.add_markets(channel, named) for stream in self._streams))

    async def remove_markets(self, channel: Channel, tickers: Iterable[str]) -> None:
        """Follow these markets no longer."""
        named = list(tickers)
        await asyncio.gather(*(stream.remove_markets(channel, named) for stream in self._streams))
        if channel == BOOKS:
            self._merge.forget(named)

    def distrust(self, ticker: str) -> None:
        """A book turned out impossible: fetch it anew on both connections."""
        for stream in self._streams:
            stream.distrust(ticker)

    @property
    def trusted(self) -> frozenset[str]:
        """The markets whose merged books can be believed at this moment."""
        return self._merge.trusted

    @property
    def proven_ms(self) -> int | None:
        """Up to when all trusted books are proven current: the latest proof of a connection that carries them all,
        otherwise the earliest proof of all connections; None without one."""
        told = {number: stream.proven_ms for number, stream in enumerate(self._streams)}
        proofs = {number: proof for number, proof in told.items() if proof is not None}
        carrying = [proof for number, proof in proofs.items() if self._merge.carries_all(number)]
        return max(carrying) if carrying else min(proofs.values(), default=None)

    @property
    def carrying(self) -> int:
        """How many connections are in step with every trusted book; with fewer than two, one loss costs trust."""
        return sum(self._merge.carries_all(number) for number in self._standing)

    @property
    def clocks(self) -> tuple[int, int] | None:
        """See `Stream.clocks`; of the connection that spoke last."""
        return max((s.clocks for s in self._streams if s.clocks), key=lambda pair: pair[1], default=None)

    def _ask(self, number: int, ticker: str) -> None:
        self._streams[number].distrust(ticker)

    def _tell(self, event: events.StreamEvent) -> None:
        self._sink(event)

    def _hear(self, number: int, event: events.StreamEvent) -> None:
        if isinstance(event, events.Connected):
            self._standing.add(number)
            if len(self._standing) == 1:
                self._sink(event)
        elif isinstance(event, events.Disconnected):
            self._standing.discard(number)
            if not self._standing:
                self._merge.lost.clear()
                self._sink(event)
        elif isinstance(event, events.Gap):
            if event.channel != BOOKS and len(self._standing) < CONNECTIONS:
                self._sink(event)
        elif isinstance(event, _PASSED_ON) or self._is_news(event):
            self._sink(event)
        self._tell_lost()

    def _tell_lost(self) -> None:
        if self._merge.lost:
            lost, reason = tuple(sorted(self._merge.lost)), next(iter(self._merge.lost.values()))
            self._merge.lost.clear()
            self._sink(events.Gap(BOOKS, reason, lost))

    def _is_news(self, event: events.StreamEvent) -> bool:
        try:
            if event in self._heard:
                return False
        except TypeError:  # it holds what cannot be compared by hash; saying it twice is harmless
            return True
        self._heard[event] = None
        if len(self._heard) > _REMEMBERED:
            del self._heard[next(iter(self._heard))]
        return True


def _nobody(event: events.StreamEvent) -> None:
    """Nobody listens before `run`."""


def open_redundant_stream(
    ws_url: str,
    signer: Signer,
    channels: Channels,
    *,
    keeper: Bookkeeper | None = None,
    tap: Tap | None = None,
    sign_ms: Callable[[], int] | None = None,
) -> RedundantStream:
    """Like `open_stream`, over two connections."""
    return RedundantStream(ws_url, signer, channels, keeper=keeper, tap=tap, sign_ms=sign_ms)
