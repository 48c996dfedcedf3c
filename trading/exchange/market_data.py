"""Public market data by REST (API.md 8 to 10). No key is needed; with one, requests are signed all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from trading.exchange import messages, parsing, reports, values
from trading.exchange.auth import Signer
from trading.exchange.errors import IncompleteList, UnreadableAnswer
from trading.exchange.link import Link
from trading.exchange.reads import MOST_IN_A_FILTER, Reads, given, joined, seconds
from trading.exchange.transport import Transport

MarketFilter = Literal["unopened", "open", "paused", "closed", "settled"]
EventFilter = Literal["unopened", "open", "closed", "settled"]
Minutes = Literal[1, 60, 1440]
_CANDLES_AN_ANSWER: Final = 10_000
_MOST_PARTS: Final = 1_000


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

    def series_list(
        self, *, category: str | None = None, tags: Sequence[str] = (), updated_since: datetime | None = None
    ) -> list[reports.SeriesDefinition]:
        """Series by filter; `category` fits any of a series' categories exactly."""
        filters = given(category=category, tags=joined(tags), min_updated_ts=seconds(updated_since))
        told = self._reads.get("/series", messages.SeriesListAnswer, filters)
        return [parsing.series(each) for each in told.series]

    def series_fee_changes(
        self, *, series_ticker: str | None = None, with_past: bool = False
    ) -> list[reports.FeeChange]:
        """Changes of series' fees that are to come, or also those that were."""
        told = self._reads.get(
            "/series/fee_changes",
            messages.SeriesFeeChangesAnswer,
            given(series_ticker=series_ticker, show_historical=with_past or None),
        )
        return [parsing.series_fee_change(each) for each in told.series_fee_change_arr]

    def event_fee_changes(self, *, event_ticker: str | None = None) -> list[reports.FeeChange]:
        """Changes of single events' fees."""
        told = self._reads.all(
            "/events/fee_changes",
            messages.EventFeeChangesAnswer,
            lambda page: page.event_fee_changes,
            given(limit=1000, event_ticker=event_ticker),
        )
        return [parsing.event_fee_change(each) for each in told]

    def event(self, ticker: str) -> reports.EventDefinition:
        """One event with its markets. Raises UnknownThere."""
        told = self._reads.get(f"/events/{_part(ticker)}", messages.EventAnswer)
        return parsing.event(told.event, told.event.markets or told.markets)

    def event_as_told(self, ticker: str) -> bytes:
        """The answer of `event`, byte for byte, for whoever keeps it. Raises UnknownThere."""
        return bytes(self._reads.get(f"/events/{_part(ticker)}", msgspec.Raw))

    def events(
        self,
        *,
        status: EventFilter | None = None,
        series_ticker: str | None = None,
        tickers: Sequence[str] = (),
        with_markets: bool = False,
        closes_from: datetime | None = None,
        updated_since: datetime | None = None,
    ) -> list[reports.EventDefinition]:
        """Events by filter, without combos: those are `combo_events`."""
        filters = given(
            limit=200,
            status=status,
            series_ticker=series_ticker,
            tickers=joined(tickers),
            with_nested_markets=with_markets or None,
            min_close_ts=seconds(closes_from),
            min_updated_ts=seconds(updated_since),
        )
        told = self._reads.all("/events", messages.EventsAnswer, lambda page: page.events, filters)
        return [parsing.event(each) for each in told]

    def combo_events(
        self,
        *,
        series_ticker: str | None = None,
        collection_ticker: str | None = None,
        tickers: Sequence[str] = (),
        with_markets: bool = False,
    ) -> list[reports.EventDefinition]:
        """Multivariate events, of a series or of a collection (not both: ValueError)."""
        if series_ticker and collection_ticker:
            raise ValueError("combo events are asked for by series or by collection, not by both")
        filters = given(
            limit=200,
            series_ticker=series_ticker,
            collection_ticker=collection_ticker,
            tickers=joined(tickers),
            with_nested_markets=with_markets or None,
        )
        told = self._reads.all(
            "/events/multivariate", messages.EventsAnswer, lambda page: page.events, filters
        )
        return [parsing.event(each) for each in told]

    def event_metadata(self, ticker: str) -> reports.EventMetadata:
        """Pictures and sources of an event. Raises UnknownThere."""
        told = self._reads.get(f"/events/{_part(ticker)}/metadata", messages.EventMetadata)
        return parsing.event_metadata(told)

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
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        settled_from: datetime | None = None,
        settled_until: datetime | None = None,
        updated_from: datetime | None = None,
        updated_until: datetime | None = None,
        combos: Literal["only", "exclude"] | None = None,
    ) -> list[reports.MarketDefinition]:
        """Markets by filter. The exchange takes times of one kind at once, and each kind only with some statuses:
        created with `unopened`, `open` or none, closes with `closed` or none, settled with `settled` or none, updated
        without any and with combos="exclude" (API.md 9)."""
        filters = given(
            limit=1000,
            status=status,
            event_ticker=event_ticker,
            series_ticker=series_ticker,
            min_close_ts=seconds(closes_from),
            max_close_ts=seconds(closes_until),
            min_created_ts=seconds(created_from),
            max_created_ts=seconds(created_until),
            min_settled_ts=seconds(settled_from),
            max_settled_ts=seconds(settled_until),
            min_updated_ts=seconds(updated_from),
            max_updated_ts=seconds(updated_until),
            mve_filter=combos,
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
        is_block_trade: bool | None = None,
    ) -> list[reports.PublicTrade]:
        """Public trades, newest first: all of the span, or the newest `limit` of them."""
        filters = given(
            limit=min(limit or 1000, 1000),
            ticker=ticker,
            min_ts=seconds(since),
            max_ts=seconds(until),
            is_block_trade=is_block_trade,
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
        minutes: Minutes = 1,
        with_latest_before: bool = False,
    ) -> list[reports.Candle]:
        """One market's candles. `with_latest_before` puts one in front that carries the last price before the span."""
        told = self._reads.get(
            f"/series/{_part(series_ticker)}/markets/{_part(ticker)}/candlesticks",
            messages.CandlesticksAnswer,
            _span(since, until, minutes) | given(include_latest_before_start=with_latest_before or None),
        )
        return [parsing.candle(each) for each in told.candlesticks]

    def candles_of(
        self,
        tickers: Sequence[str],
        *,
        since: datetime,
        until: datetime,
        minutes: Minutes = 1,
        with_latest_before: bool = False,
    ) -> dict[str, list[reports.Candle]]:
        """Candles of many markets; one that the exchange does not know is left out.

        An answer holds 10,000 candles at most, so as many markets go into a request as fit with all of theirs. Raises
        ValueError when not even one market's fit.
        """
        periods = int((until - since).total_seconds()) // (minutes * 60) + 2
        if periods > _CANDLES_AN_ANSWER:
            raise ValueError(f"a span of {periods} candles; the exchange gives {_CANDLES_AN_ANSWER}")
        found: dict[str, list[reports.Candle]] = {}
        for group in _groups(tickers, min(MOST_IN_A_FILTER, _CANDLES_AN_ANSWER // periods)):
            told = self._reads.get(
                "/markets/candlesticks",
                messages.BatchCandlesticksAnswer,
                given(market_tickers=",".join(group), include_latest_before_start=with_latest_before or None)
                | _span(since, until, minutes),
            )
            found |= {
                each.market_ticker: [parsing.candle(candle) for candle in each.candlesticks]
                for each in told.markets
            }
        return found

    def event_candles(
        self, series_ticker: str, ticker: str, *, since: datetime, until: datetime, minutes: Minutes = 1
    ) -> dict[str, list[reports.Candle]]:
        """Candles of all markets of an event, asked for in parts where the exchange shortens the span.

        Raises IncompleteList when it shortens it without end.
        """
        found: dict[str, list[reports.Candle]] = {}
        start, end = int(since.timestamp()), int(until.timestamp())
        resource = f"/series/{_part(series_ticker)}/events/{_part(ticker)}/candlesticks"
        for _ in range(_MOST_PARTS):
            told = self._reads.get(
                resource,
                messages.EventCandlesticksAnswer,
                given(start_ts=start, end_ts=end, period_interval=minutes),
            )
            if len(told.market_tickers) != len(told.market_candlesticks):
                raise UnreadableAnswer(f"{resource}: as many lists of candles as markets are agreed")
            for name, candles in zip(told.market_tickers, told.market_candlesticks, strict=True):
                known = {candle.end_at for candle in found.setdefault(name, [])}
                fresh = [parsing.candle(candle) for candle in candles]
                found[name] += [candle for candle in fresh if candle.end_at not in known]
            if told.adjusted_end_ts >= end:
                return found
            if told.adjusted_end_ts <= start:
                break
            start = told.adjusted_end_ts
        raise IncompleteList(f"{resource}: the span from {start} to {end} does not come")

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()

    def _markets(self, filters: dict[str, str | int | list[str]]) -> list[reports.MarketDefinition]:
        told = self._reads.all("/markets", messages.MarketsAnswer, lambda page: page.markets, filters)
        return [parsing.market(each) for each in told]


def open_market_data(rest_url: str, signer: Signer | None = None, *, link: Link | None = None) -> MarketData:
    """A client for the public data at a base URL such as `https://host/trade-api/v2`."""
    return MarketData(Reads(Transport(rest_url, signer, link=link)))


def _part(ticker: str) -> str:
    # A ticker comes from outside: it must stay one path segment.
    return quote(ticker, safe="")


def _groups(tickers: Sequence[str], size: int = MOST_IN_A_FILTER) -> Iterator[list[str]]:
    for start in range(0, len(tickers), size):
        yield list(tickers[start : start + size])


def _span(since: datetime, until: datetime, minutes: Minutes) -> dict[str, str | int | list[str]]:
    return given(start_ts=seconds(since), end_ts=seconds(until), period_interval=minutes)
