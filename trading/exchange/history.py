"""The historical tier by REST (API.md 10): what the live endpoints have dropped, behind `cutoff`.

Markets, trades and positions leave the live tier after about three months, orders after two weeks. Public records need
no key; fills, orders and positions are the account's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

from trading.exchange import account_messages, account_parsing, history_messages, messages, parsing, reports
from trading.exchange.auth import Signer
from trading.exchange.link import Link
from trading.exchange.reads import Reads, given, joined, seconds
from trading.exchange.transport import Transport
from trading.exchange.values import moment, optional_moment

_PAGE: Final = 1000


class History:
    """Reads of archived records. Lists come complete or raise IncompleteList."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def cutoff(self) -> reports.HistoryCutoff:
        """From when on the live endpoints still have everything."""
        told = self._reads.get("/historical/cutoff", history_messages.Cutoff)
        return reports.HistoryCutoff(
            markets_settled_at=moment(told.market_settled_ts),
            trades_at=moment(told.trades_created_ts),
            orders_updated_at=moment(told.orders_updated_ts),
            positions_updated_at=optional_moment(told.market_positions_last_updated_ts),
        )

    def market(self, ticker: str) -> reports.MarketDefinition:
        """One archived market. Raises UnknownThere."""
        told = self._reads.get(f"/historical/markets/{quote(ticker, safe='')}", messages.MarketAnswer)
        return parsing.market(told.market)

    def markets(
        self,
        *,
        tickers: Sequence[str] = (),
        event_ticker: str | None = None,
        series_ticker: str | None = None,
        without_combos: bool = False,
    ) -> list[reports.MarketDefinition]:
        filters = given(
            limit=_PAGE,
            tickers=joined(tickers),
            event_ticker=event_ticker,
            series_ticker=series_ticker,
            mve_filter="exclude" if without_combos else None,
        )
        told = self._reads.all(
            "/historical/markets", messages.MarketsAnswer, lambda page: page.markets, filters
        )
        return [parsing.market(each) for each in told]

    def candles(
        self, ticker: str, *, since: datetime, until: datetime, minutes: Literal[1, 60, 1440] = 1
    ) -> list[reports.Candle]:
        told = self._reads.get(
            f"/historical/markets/{quote(ticker, safe='')}/candlesticks",
            history_messages.CandlesticksAnswer,
            given(start_ts=seconds(since), end_ts=seconds(until), period_interval=minutes),
        )
        return [parsing.candle(_live_form(each)) for each in told.candlesticks]

    def trades(
        self,
        *,
        ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        is_block_trade: bool | None = None,
    ) -> list[reports.PublicTrade]:
        filters = given(
            limit=_PAGE,
            ticker=ticker,
            min_ts=seconds(since),
            max_ts=seconds(until),
            is_block_trade=is_block_trade,
        )
        told = self._reads.all("/historical/trades", messages.TradesAnswer, lambda page: page.trades, filters)
        return [parsing.public_trade(each) for each in told]

    def fills(
        self,
        *,
        ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        subaccount: int | None = None,
    ) -> list[reports.FillReport]:
        told = self._reads.all(
            "/historical/fills",
            account_messages.FillsAnswer,
            lambda page: page.fills,
            _own(ticker, since, until, subaccount),
        )
        return [account_parsing.fill(each) for each in told]

    def orders(
        self,
        *,
        ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        subaccount: int | None = None,
    ) -> list[reports.OrderReport]:
        told = self._reads.all(
            "/historical/orders",
            account_messages.OrdersAnswer,
            lambda page: page.orders,
            _own(ticker, since, until, subaccount),
        )
        return [account_parsing.order(each) for each in told]

    def positions(
        self,
        *,
        ticker: str | None = None,
        event_ticker: str | None = None,
        subaccount: int | None = None,
    ) -> list[reports.PositionReport]:
        told = self._reads.all(
            "/historical/positions",
            account_messages.PositionsAnswer,
            lambda page: page.market_positions,
            given(limit=_PAGE, ticker=ticker, event_ticker=event_ticker, subaccount=subaccount),
        )
        return [account_parsing.position(each) for each in told]

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()


def open_history(rest_url: str, signer: Signer | None = None, *, link: Link | None = None) -> History:
    """A client for the historical tier; without a signer only its public part."""
    return History(Reads(Transport(rest_url, signer, link=link)))


def _own(
    ticker: str | None, since: datetime | None, until: datetime | None, subaccount: int | None
) -> dict[str, str | int | list[str]]:
    return given(
        limit=_PAGE, ticker=ticker, min_ts=seconds(since), max_ts=seconds(until), subaccount=subaccount
    )


def _live_form(told: history_messages.Candlestick) -> messages.Candlestick:
    """An archived candle in the words of the live tier: the same values under other names."""
    price = told.price
    return messages.Candlestick(
        end_period_ts=told.end_period_ts,
        yes_bid=_quote(told.yes_bid),
        yes_ask=_quote(told.yes_ask),
        price=messages.PriceCandle(
            price.open, price.low, price.high, price.close, price.mean, price.previous
        ),
        volume_fp=told.volume,
        open_interest_fp=told.open_interest,
    )


def _quote(told: history_messages.QuoteCandle) -> messages.QuoteCandle:
    return messages.QuoteCandle(told.open, told.low, told.high, told.close)
