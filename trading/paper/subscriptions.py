"""Subscriptions: what a connection hears of a channel, numbered in sequence; and who subscribes to what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Protocol


class Channel(StrEnum):
    ORDERBOOK_DELTA = "orderbook_delta"
    TICKER = "ticker"
    TRADE = "trade"
    FILL = "fill"
    USER_ORDERS = "user_orders"
    MARKET_POSITIONS = "market_positions"
    MARKET_LIFECYCLE = "market_lifecycle_v2"


# Messages and control replies of these carry `seq` (API.md 14); the others give no gap signal.
SEQUENCED = frozenset({Channel.ORDERBOOK_DELTA, Channel.TRADE, Channel.MARKET_LIFECYCLE})


class Outlet(Protocol):
    """Where a subscription's frames go: one connection."""

    account_id: str

    def push(self, subscription: Subscription, frame: bytes) -> None:
        """Queue a frame; may end the subscription when the reader is too slow."""

    def now_ms(self) -> int:
        """The time for `sending_ts_ms`."""


class Subscription:
    """One channel on one connection. `tickers` None means all markets."""

    def __init__(
        self,
        sid: int,
        channel: Channel,
        outlet: Outlet,
        tickers: Iterable[str] | None,
        *,
        use_yes_price: bool = False,
        skip_ack_tickers: bool = False,
    ) -> None:
        self.sid = sid
        self.channel = channel
        self.tickers: set[str] | None = None if tickers is None else set(tickers)
        self.use_yes_price = use_yes_price
        self.skip_ack_tickers = skip_ack_tickers
        self._outlet = outlet
        self._seq = 0

    @property
    def account_id(self) -> str:
        return self._outlet.account_id

    def hears(self, ticker: str) -> bool:
        return self.tickers is None or ticker in self.tickers

    def send(self, kind: str, body: bytes | None, *, command_id: int = 0) -> None:
        """Send one message of this subscription; it takes the next number where the channel is sequenced."""
        parts = [b'{"type":"%b","sid":%d' % (kind.encode(), self.sid)]
        if command_id:
            parts.append(b',"id":%d' % command_id)
        if self.channel in SEQUENCED:
            self._seq += 1
            parts.append(b',"seq":%d' % self._seq)
        if body is not None:
            parts.append(b',"msg":%b' % body)
        parts.append(b',"sending_ts_ms":%d}' % self._outlet.now_ms())
        self._outlet.push(self, b"".join(parts))


class Subscriptions:
    """All subscriptions by channel and market."""

    def __init__(self) -> None:
        self._all: dict[Channel, dict[Subscription, None]] = defaultdict(dict)
        self._by_ticker: dict[Channel, dict[str, dict[Subscription, None]]] = defaultdict(
            lambda: defaultdict(dict)
        )

    def add(self, subscription: Subscription) -> None:
        """Register a subscription, or register it anew after its markets have changed."""
        self.remove(subscription)
        if subscription.tickers is None:
            self._all[subscription.channel][subscription] = None
            return
        for ticker in subscription.tickers:
            self._by_ticker[subscription.channel][ticker][subscription] = None

    def remove(self, subscription: Subscription) -> None:
        self._all[subscription.channel].pop(subscription, None)
        by_ticker = self._by_ticker[subscription.channel]
        for ticker in [ticker for ticker, found in by_ticker.items() if subscription in found]:
            del by_ticker[ticker][subscription]
            if not by_ticker[ticker]:
                del by_ticker[ticker]

    def of(self, channel: Channel, ticker: str) -> Iterator[Subscription]:
        """Who hears this market on this channel. The list is taken first: a slow reader may leave while it is told."""
        found = self._by_ticker[channel].get(ticker, ())
        yield from [*self._all[channel], *found]
