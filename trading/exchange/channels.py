"""The channels of the websocket (API.md 14): by what each is narrowed, and what shall be followed of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal

Channel = Literal[
    "orderbook_delta",
    "ticker",
    "trade",
    "fill",
    "user_orders",
    "market_positions",
    "order_group_updates",
    "market_lifecycle_v2",
    "multivariate_market_lifecycle",
    "communications",
    "cfbenchmarks_value",
    "cfbenchmarks_value_5hz",
    "pyth_value",
]
BOOKS: Final = "orderbook_delta"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The parameter that names what a subscription follows, and the actions that add to it and take from it."""

    param: str
    add: str
    remove: str


_MARKETS: Final = Narrowing("market_tickers", "add_markets", "delete_markets")
_INDICES: Final = Narrowing("index_ids", "subscribe_indices", "unsubscribe_indices")
_UNDERLYINGS: Final = Narrowing("underlying_tickers", "subscribe_underlyings", "unsubscribe_underlyings")
NARROWINGS: Final[dict[str, Narrowing]] = {
    "cfbenchmarks_value": _INDICES,
    "cfbenchmarks_value_5hz": _INDICES,
    "pyth_value": _UNDERLYINGS,
}


def narrowing_of(channel: str) -> Narrowing:
    """How a channel is narrowed. Lifecycles, order groups and communications take none: follow them with None."""
    return NARROWINGS.get(channel, _MARKETS)


class Wanted:
    """What shall be followed, kept across connections: per channel its markets (or indices), or None for all."""

    def __init__(self, channels: dict[Channel, Collection[str] | None]) -> None:
        self.markets: dict[str, set[str] | None] = {
            channel: None if tickers is None else set(tickers) for channel, tickers in channels.items()
        }

    def add(self, channel: str, tickers: Iterable[str]) -> list[str]:
        """Note more markets; return those that are new."""
        have = self.markets.setdefault(channel, set())
        if have is None:
            return []
        fresh = sorted(set(tickers) - have)
        have.update(fresh)
        return fresh

    def remove(self, channel: str, tickers: Iterable[str]) -> list[str]:
        """Forget markets; return those that were there."""
        have = self.markets.get(channel) or set()
        gone = sorted(set(tickers) & have)
        have.difference_update(gone)
        return gone
