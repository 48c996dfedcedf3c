"""What a mirror reads of the other exchange by REST: definitions as they came, for the markets that it shall show.

Calls block: they are made in a thread. They raise `trading.exchange.errors.ExchangeError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from trading.exchange.messages import ExchangeStatus
from trading.exchange.reads import MOST_IN_A_FILTER, Reads, given
from trading.paper.definitions import Payload

MOST_MARKETS: Final = 2_000
_SHOWN: Final = ("unopened", "open", "paused")  # what began to end before we came is of no use to anybody


class _Markets(msgspec.Struct):
    markets: list[dict[str, Any]]
    cursor: str = ""


class _Event(msgspec.Struct):
    event: dict[str, Any]


class _Series(msgspec.Struct):
    series: dict[str, Any]


class TooManyMarkets(ValueError):
    """The filters choose more markets than one mirror follows."""


@dataclass(slots=True)
class Source:
    """The other exchange, narrowed to some series and some single markets."""

    reads: Reads
    series: Sequence[str] = ()
    markets: Sequence[str] = ()
    _events: dict[str, Payload] = field(default_factory=dict)
    _series: dict[str, Payload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.series and not self.markets:
            raise ValueError("a mirror needs --series or --market: nobody follows a whole exchange")

    def first(self, known: Iterable[str] = ()) -> list[Payload]:
        """Every market to be shown, and those of an earlier run that are `known`. Raises TooManyMarkets."""
        found = {
            market["ticker"]: market
            for series in self.series
            for status in _SHOWN
            for market in self._pages(given(limit=1000, series_ticker=series, status=status))
        }
        found |= {market["ticker"]: market for market in self.named({*self.markets, *known} - found.keys())}
        if len(found) > MOST_MARKETS:
            raise TooManyMarkets(f"{len(found)} markets; a mirror follows {MOST_MARKETS} at most")
        return list(found.values())

    def named(self, tickers: Iterable[str]) -> list[Payload]:
        """These markets as they are now; one that the exchange does not know is left out."""
        names = sorted(tickers)
        groups = [names[at : at + MOST_IN_A_FILTER] for at in range(0, len(names), MOST_IN_A_FILTER)]
        return [
            market for group in groups for market in self._pages(given(limit=1000, tickers=",".join(group)))
        ]

    def parents(self, market: Payload) -> tuple[Payload, Payload]:
        """The market's series and its event, read once."""
        name = market["event_ticker"]
        if name not in self._events:
            self._events[name] = self.reads.get(f"/events/{name}", _Event).event
        event = self._events[name]
        series = event["series_ticker"]
        if series not in self._series:
            self._series[series] = self.reads.get(f"/series/{series}", _Series).series
        return self._series[series], event

    def may_want(self, ticker: str) -> bool:
        """Whether a market of which only the name is known may be one of ours: names begin with their series'."""
        return ticker in self.markets or any(ticker.startswith(f"{series}-") for series in self.series)

    def wants(self, market: Payload) -> bool:
        """Whether a market that is new there shall be shown here."""
        return market["ticker"] in self.markets or self.parents(market)[1]["series_ticker"] in self.series

    def activity(self, shards: set[int]) -> tuple[bool, bool]:
        """Whether the exchange there runs, and whether it trades: on all of these shards, where it tells of them."""
        told = self.reads.status("/exchange/status", ExchangeStatus)
        ours = [each for each in told.exchange_index_statuses if each.exchange_index in shards]
        runs = told.exchange_active if not ours else all(each.exchange_active for each in ours)
        return runs, told.trading_active if not ours else all(each.trading_active for each in ours)

    def forget_event(self, event_ticker: str) -> None:
        """Its fees have changed: read it again."""
        self._events.pop(event_ticker, None)

    def _pages(self, filters: dict[str, str | int | list[str]]) -> list[Payload]:
        return self.reads.all("/markets", _Markets, lambda page: page.markets, filters)
