"""Subscriptions: what a connection hears of a channel, numbered in sequence; and who subscribes to what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Channel(StrEnum):
    ORDERBOOK_DELTA = "orderbook_delta"
    TICKER = "ticker"
    TRADE = "trade"
    FILL = "fill"
    USER_ORDERS = "user_orders"
    MARKET_POSITIONS = "market_positions"
    ORDER_GROUP_UPDATES = "order_group_updates"
    MARKET_LIFECYCLE = "market_lifecycle_v2"
    COMBO_LIFECYCLE = "multivariate_market_lifecycle"
    COMMUNICATIONS = "communications"
    CFBENCHMARKS = "cfbenchmarks_value"
    CFBENCHMARKS_5HZ = "cfbenchmarks_value_5hz"
    PYTH = "pyth_value"


# Messages of the others give no gap signal (API.md 14): they carry no `seq`.
_UNSEQUENCED = frozenset({Channel.TICKER, Channel.FILL, Channel.USER_ORDERS, Channel.MARKET_POSITIONS})
SEQUENCED = frozenset(Channel) - _UNSEQUENCED
# The channels that are filtered by market; the rest ignore or refuse markets.
BY_MARKET = _UNSEQUENCED | {Channel.ORDERBOOK_DELTA, Channel.TRADE}


@dataclass(frozen=True, slots=True)
class Feed:
    """The words of a channel that is filtered by names of its own rather than by markets."""

    names: str
    add: str
    remove: str
    show: str
    list_type: str
    missing: int  # the error when an action lacks its names


def _indices(channel: Channel) -> Feed:
    actions = ("subscribe_indices", "unsubscribe_indices", "indexlist")
    return Feed("index_ids", *actions, list_type=f"{channel}_indexlist", missing=24)


FEEDS: dict[Channel, Feed] = {
    Channel.CFBENCHMARKS: _indices(Channel.CFBENCHMARKS),
    Channel.CFBENCHMARKS_5HZ: _indices(Channel.CFBENCHMARKS_5HZ),
    Channel.PYTH: Feed(
        "underlying_tickers",
        *("subscribe_underlyings", "unsubscribe_underlyings", "underlying_list"),
        list_type="pyth_value_underlying_list",
        missing=28,
    ),
}
ALL = "all"


class Outlet(Protocol):
    """Where a subscription's frames go: one connection."""

    account_id: str
    subaccount: int | None  # the only one whose private messages it may hear

    def push(self, subscription: Subscription, kind: str, frame: bytes) -> None:
        """Queue a frame; may end the subscription when the reader is too slow."""

    def now_ms(self) -> int:
        """The time for `sending_ts_ms`."""


class Subscription:
    """One channel on one connection. `tickers` None means all markets; `names` are a feed's instead of markets."""

    def __init__(
        self,
        sid: int,
        channel: Channel,
        outlet: Outlet,
        tickers: Iterable[str] | None,
        *,
        use_yes_price: bool = False,
        skip_ack_tickers: bool = False,
        by_id: bool = False,
        names: Iterable[str] = (),
    ) -> None:
        self.sid = sid
        self.channel = channel
        self.tickers: set[str] | None = None if tickers is None else set(tickers)
        self.use_yes_price = use_yes_price
        self.skip_ack_tickers = skip_ack_tickers
        self.by_id = by_id  # acknowledged by market id, as it was asked
        self.names = set(names)
        self._outlet = outlet
        self._seq = 0

    @property
    def account_id(self) -> str:
        return self._outlet.account_id

    def owns(self, account_id: str, subaccount: int) -> bool:
        """Whether a private message of this subaccount is for this connection."""
        return self.account_id == account_id and self._outlet.subaccount in {None, subaccount}

    def hears(self, ticker: str) -> bool:
        return self.tickers is None or ticker in self.tickers

    def send(self, kind: str, body: bytes | None, *, command_id: int = 0) -> None:
        """Send one message of this subscription; it takes the next number where the channel is sequenced."""
        parts = [b'{"type":"%b","sid":%d' % (kind.encode(), self.sid)]
        if command_id:
            parts.append(b',"id":%d' % command_id)
        # The contract wants a number on every `unsubscribed`, also where no message has one.
        if self.channel in SEQUENCED or kind == "unsubscribed":
            self._seq += 1
            parts.append(b',"seq":%d' % self._seq)
        if body is not None:
            parts.append(b',"msg":%b' % body)
        parts.append(b',"sending_ts_ms":%d}' % self._outlet.now_ms())
        self._outlet.push(self, kind, b"".join(parts))

    def skip_number(self) -> None:
        """Leave a gap in the sequence (a planned fault)."""
        self._seq += 1


class Subscriptions:
    """All subscriptions by channel and market."""

    def __init__(self) -> None:
        self._all: dict[Channel, dict[Subscription, None]] = defaultdict(dict)
        self._by_ticker: dict[Channel, dict[str, dict[Subscription, None]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self._registered: dict[Subscription, set[str]] = {}  # under which markets each stands

    def add(self, subscription: Subscription) -> None:
        """Register a subscription, or register it anew after its markets have changed."""
        self.remove(subscription)
        if subscription.tickers is None:
            self._all[subscription.channel][subscription] = None
            return
        self._registered[subscription] = set(subscription.tickers)
        for ticker in subscription.tickers:
            self._by_ticker[subscription.channel][ticker][subscription] = None

    def remove(self, subscription: Subscription) -> None:
        self._all[subscription.channel].pop(subscription, None)
        by_ticker = self._by_ticker[subscription.channel]
        for ticker in self._registered.pop(subscription, ()):
            del by_ticker[ticker][subscription]
            if not by_ticker[ticker]:
                del by_ticker[ticker]

    def everywhere(self) -> Iterator[Subscription]:
        """Every subscription of every connection."""
        for channel in self._all.values():
            yield from list(channel)
        yield from list(self._registered)

    def of(self, channel: Channel, ticker: str) -> Iterator[Subscription]:
        """Who hears this market on this channel. The list is taken first: a slow reader may leave while it is told."""
        found = self._by_ticker[channel].get(ticker, ())
        if found or self._all[channel]:
            yield from [*self._all[channel], *found]
