"""Public market data by REST (API.md 8 to 10). No key is needed; with one, requests are signed all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

from trading.exchange import messages, parsing, reports, values
from trading.exchange.auth import Signer
from trading.exchange.reads import Reads, given
from trading.exchange.transport import Transport

MarketFilter = Literal["unopened", "open", "paused", "closed", "settled"]
EventFilter = Literal["unopened", "open", "closed", "settled"]
_TICKERS_A_REQUEST: Final = 100


class MarketData:
    """Reads of the exchange's public data. Lists come complete or raise IncompleteList."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def exchange_state(self) -> reports.ExchangeState:
        """Whether the exchange is up and trading. It answers with its normal body when it is not well."""
        return parsing.exchange_state(self._reads.status("/exchange/status", messages.ExchangeStatus))

    def trading_hours(self) -> reports.TradingHours:
        return parsing.trading_hours(self._reads.get("/exchange/schedule", messages.ScheduleAnswer).schedule)

    def user_data_as_of(self) -> datetime:
        """How fresh reads of balance, orders, fills and positions are: reads lag writes (API.md 8)."""
        told = self._reads.get("/exchange/user_data_timestamp", messages.UserDataTimestamp)
        return values.moment(told.as_of_time)

    def series(self, ticker: str) -> reports.SeriesDefinition:
        """One series. Raises UnknownThere."""
        told = self._reads.get(f"/series/{_part(ticker)}", messages.SeriesAnswer)
        return parsing.series(told.series)

    def series_list(self, *, category: str | None = None) -> list[reports.SeriesDefinition]:
        told = self._reads.get("/series", messages.SeriesListAnswer, given(category=category))
        return [parsing.series(each) for each in told.series]

    def event(self, ticker: str) -> reports.EventDefinition:
        """One event with its markets. Raises UnknownThere."""
        told = self._reads.get(f"/events/{_part(ticker)}", messages.EventAnswer)
        return parsing.event(told.event, told.event.markets or told.markets)

    def events(
        self,
        *,
        status: EventFilter | None = None,
        series_ticker: str | None = None,
        with_markets: bool = False,
    ) -> list[reports.EventDefinition]:
        filters = given(
            limit=200, status=status, series_ticker=series_ticker, with_nested_markets=with_markets or None
        )
        told = self._reads.all("/events", messages.EventsAnswer, lambda page: page.events, filters)
        return [parsing.event(each) for each in told]

    def market(self, ticker: str) -> reports.MarketDefinition:
        """One market. Raises UnknownThere, also for a moment after its creation."""
        return parsing.market(self._reads.get(f"/markets/{_part(ticker)}", messages.MarketAnswer).market)

    def markets(
        self,
        *,
        status: MarketFilter | None = None,
        event_ticker: str | None = None,
        series_ticker: str | None = None,
        closes_from: datetime | None = None,
        closes_until: datetime | None = None,
    ) -> list[reports.MarketDefinition]:
        """Markets by filter. The close times go only with `closed` or no status (API.md 9)."""
        filters = given(
            limit=1000,
            status=status,
            event_ticker=event_ticker,
            series_ticker=series_ticker,
            min_close_ts=_seconds(closes_from),
            max_close_ts=_seconds(closes_until),
        )
        return self._markets(filters)

    def markets_named(self, tickers: Sequence[str]) -> list[reports.MarketDefinition]:
        """The markets with these tickers, in groups of 100; one that the exchange does not know is left out."""
        return [
            market
            for group in _groups(tickers)
            for market in self._markets(given(limit=1000, tickers=",".join(group)))
        ]

    def order_book(self, ticker: str, *, depth: int = 0) -> reports.BookReport:
        """One book; `depth` 0 means every level."""
        told = self._reads.get(
            f"/markets/{_part(ticker)}/orderbook", messages.OrderBookAnswer, given(depth=depth)
        )
        return parsing.book(ticker, told.orderbook_fp)

    def order_books(self, tickers: Sequence[str]) -> list[reports.BookReport]:
        """Several books, 100 to a request."""
        return [
            parsing.book(each.ticker, each.orderbook_fp)
            for group in _groups(tickers)
            for each in self._reads.get(
                "/markets/orderbooks", messages.OrderBooksAnswer, given(tickers=group)
            ).orderbooks
        ]

    def trades(
        self,
        *,
        ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[reports.PublicTrade]:
        """Public trades, newest first: all of the span, or the newest `limit` of them."""
        filters = given(
            limit=min(limit or 1000, 1000), ticker=ticker, min_ts=_seconds(since), max_ts=_seconds(until)
        )
        found: list[reports.PublicTrade] = []
        for page in self._reads.pages("/markets/trades", messages.TradesAnswer, filters):
            found += [parsing.public_trade(each) for each in page.trades]
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def candles(
        self,
        series_ticker: str,
        ticker: str,
        *,
        since: datetime,
        until: datetime,
        minutes: Literal[1, 60, 1440] = 1,
    ) -> list[reports.Candle]:
        told = self._reads.get(
            f"/series/{_part(series_ticker)}/markets/{_part(ticker)}/candlesticks",
            messages.CandlesticksAnswer,
            given(start_ts=_seconds(since), end_ts=_seconds(until), period_interval=minutes),
        )
        return [parsing.candle(each) for each in told.candlesticks]

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()

    def _markets(self, filters: dict[str, str | int | list[str]]) -> list[reports.MarketDefinition]:
        told = self._reads.all("/markets", messages.MarketsAnswer, lambda page: page.markets, filters)
        return [parsing.market(each) for each in told]


def open_market_data(rest_url: str, signer: Signer | None = None) -> MarketData:
    """A client for the public data at a base URL such as `https://host/trade-api/v2`."""
    return MarketData(Reads(Transport(rest_url, signer)))


def _part(ticker: str) -> str:
    # A ticker comes from outside: it must stay one path segment.
    return quote(ticker, safe="")


def _groups(tickers: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(tickers), _TICKERS_A_REQUEST):
        yield list(tickers[start : start + _TICKERS_A_REQUEST])


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
