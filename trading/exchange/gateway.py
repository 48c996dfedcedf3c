"""What execution, feed and engine ask of an exchange. The client and the tests' fakes satisfy these protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from trading.exchange import account_reports, outcomes, reports
from trading.exchange.channels import Channel
from trading.exchange.stream import Sink
from trading.exchange.targets import CancelTarget


class ClockGateway(Protocol):
    """The exchange's time: what orders are signed with and expiries are counted from."""

    def now(self) -> datetime: ...

    def require_steady(self) -> None:
        """Raises `errors.ClockOff` while nothing that opens may be signed."""
        ...


class OrderGateway(Protocol):
    """Order writes: each one is sent at most once and returns what is proven."""

    def send_create(
        self,
        body: bytes,
        signed_ts_ms: int,
        *,
        send_before: float | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> outcomes.SubmitOutcome: ...

    def cancel(
        self,
        order_id: str,
        *,
        market_ticker: str,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> outcomes.CancelOutcome: ...

    def send_amend(
        self,
        order_id: str,
        body: bytes,
        signed_ts_ms: int,
        *,
        subaccount: int | None = None,
        send_before: float | None = None,
    ) -> outcomes.AmendOutcome: ...

    def decrease(
        self,
        order_id: str,
        *,
        market_ticker: str,
        reduce_to: Decimal | None = None,
        subaccount: int | None = None,
    ) -> outcomes.DecreaseOutcome: ...

    def cancel_batch(
        self, targets: Sequence[CancelTarget], *, signed_ts_ms: int | None = None
    ) -> tuple[outcomes.CancelOutcome, ...]: ...

    def cancel_all(self, *, signed_ts_ms: int | None = None) -> outcomes.CancelAllOutcome: ...

    def warm(self) -> bool: ...

    def close(self) -> None: ...


class GroupGateway(Protocol):
    """Writes of order groups: each is sent once; all but a create may be repeated."""

    def create(self, *, contracts_in_15s: Decimal, exchange_index: int = 0) -> outcomes.GroupOutcome: ...

    def limit(
        self, order_group_id: str, *, contracts_in_15s: Decimal, exchange_index: int = 0
    ) -> outcomes.DoneOutcome: ...

    def trigger(self, order_group_id: str, *, exchange_index: int = 0) -> outcomes.DoneOutcome: ...

    def reset(self, order_group_id: str, *, exchange_index: int = 0) -> outcomes.DoneOutcome: ...

    def close(self) -> None: ...


class AccountGateway(Protocol):
    """Reads of one account. They may lag writes; they raise `errors.ExchangeError`."""

    def balance(self) -> reports.BalanceReport: ...

    def positions(self, *, ticker: str | None = None) -> list[reports.PositionReport]: ...

    def orders(
        self,
        *,
        ticker: str | None = None,
        status: Literal["resting", "canceled", "executed"] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[reports.OrderReport]: ...

    def order(self, order_id: str) -> reports.OrderReport: ...

    def fills(
        self,
        *,
        ticker: str | None = None,
        order_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[reports.FillReport]: ...

    def settlements(
        self, *, ticker: str | None = None, since: datetime | None = None
    ) -> list[reports.SettlementReport]: ...

    def order_groups(self) -> list[account_reports.OrderGroupReport]: ...

    def limits(self) -> reports.AccountLimits: ...

    def close(self) -> None: ...


class HistoryGateway(Protocol):
    """Reads of the account's archived records; they raise `errors.ExchangeError`."""

    def cutoff(self) -> reports.HistoryCutoff: ...

    def orders(
        self, *, ticker: str | None = None, since: datetime | None = None
    ) -> list[reports.OrderReport]: ...

    def fills(
        self, *, ticker: str | None = None, since: datetime | None = None
    ) -> list[reports.FillReport]: ...


class MarketDataGateway(Protocol):
    """Reads of public data; they raise `errors.ExchangeError`."""

    def exchange_state(self) -> reports.ExchangeState: ...

    def trading_hours(self) -> reports.TradingHours: ...

    def user_data_as_of(self) -> datetime: ...

    def series(self, ticker: str) -> reports.SeriesDefinition: ...

    def series_list(self, *, category: str | None = None) -> list[reports.SeriesDefinition]: ...

    def series_fee_changes(
        self, *, series_ticker: str | None = None, with_past: bool = False
    ) -> list[reports.FeeChange]: ...

    def event_fee_changes(self, *, event_ticker: str | None = None) -> list[reports.FeeChange]: ...

    def event(self, ticker: str) -> reports.EventDefinition: ...

    def events(
        self,
        *,
        status: Literal["unopened", "open", "closed", "settled"] | None = None,
        series_ticker: str | None = None,
        with_markets: bool = False,
    ) -> list[reports.EventDefinition]: ...

    def market(self, ticker: str) -> reports.MarketDefinition: ...

    def markets(
        self,
        *,
        status: Literal["unopened", "open", "paused", "closed", "settled"] | None = None,
        event_ticker: str | None = None,
        series_ticker: str | None = None,
        closes_from: datetime | None = None,
        closes_until: datetime | None = None,
        combos: Literal["only", "exclude"] | None = None,
    ) -> list[reports.MarketDefinition]: ...

    def markets_named(self, tickers: Sequence[str]) -> list[reports.MarketDefinition]: ...

    def order_book(self, ticker: str, *, depth: int = 0) -> reports.BookReport: ...

    def order_books(self, tickers: Sequence[str]) -> list[reports.BookReport]: ...

    def trades(
        self,
        *,
        ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[reports.PublicTrade]: ...

    def candles_of(
        self, tickers: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[reports.Candle]]: ...

    def candles(
        self,
        series_ticker: str,
        ticker: str,
        *,
        since: datetime,
        until: datetime,
        minutes: Literal[1, 60, 1440] = 1,
    ) -> list[reports.Candle]: ...

    def close(self) -> None: ...


class StreamGateway(Protocol):
    """A live connection that comes back by itself."""

    async def run(self, sink: Sink) -> None: ...

    async def stop(self) -> None: ...

    async def add_markets(self, channel: Channel, tickers: Iterable[str]) -> None: ...

    async def remove_markets(self, channel: Channel, tickers: Iterable[str]) -> None: ...

    def distrust(self, ticker: str) -> None: ...

    @property
    def trusted(self) -> frozenset[str]: ...

    @property
    def proven_ms(self) -> int | None: ...
