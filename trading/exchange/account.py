"""The account's own records by REST (API.md 11 and 12): reads only, signed with a key of scope `read`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from urllib.parse import quote

from trading.exchange import account_messages as messages
from trading.exchange import account_parsing as parsing
from trading.exchange import account_reports, order_messages, reports
from trading.exchange.auth import Signer
from trading.exchange.link import Link
from trading.exchange.reads import Reads, given, joined, seconds
from trading.exchange.transport import Transport

OrderFilter = Literal["resting", "canceled", "executed"]
SettlementFilter = Literal["unsettled", "settled", "all"]
_PAGE: Final = 1000
_PAYMENTS_PAGE: Final = 500


class Account:
    """Reads of one account. They lag writes: see `MarketData.user_data_as_of`. Lists come complete or raise.

    Without `subaccount`, orders, fills and settlements come of all of them, but balance, positions and queue positions
    of the primary one alone (API.md 12). Without `exchange_index` everything comes of all shards.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def balance(
        self, *, subaccount: int | None = None, exchange_index: int | None = None
    ) -> reports.BalanceReport:
        """Cash, in all and by shard. It has its own bucket of one call a second (API.md 7)."""
        told = self._reads.get(
            "/portfolio/balance",
            messages.Balance,
            given(subaccount=subaccount, exchange_index=exchange_index),
        )
        return parsing.balance(told)

    def positions(
        self,
        *,
        ticker: str | None = None,
        event_ticker: str | None = None,
        settlement: SettlementFilter | None = None,
        counted: Sequence[Literal["position", "total_traded"]] = (),
        subaccount: int | None = None,
        exchange_index: int | None = None,
    ) -> list[reports.PositionReport]:
        """Net positions, of unsettled markets unless `settlement` says otherwise. `counted` asks for those alone in
        which one of these is not zero."""
        filters = given(
            limit=_PAGE,
            ticker=ticker,
            event_ticker=event_ticker,
            settlement_status=settlement,
            count_filter=joined(counted),
            subaccount=subaccount,
            exchange_index=exchange_index,
        )
        told = self._reads.all(
            "/portfolio/positions", messages.PositionsAnswer, lambda page: page.market_positions, filters
        )
        return [parsing.position(each) for each in told]

    def event_positions(
        self, *, event_ticker: str | None = None, subaccount: int | None = None
    ) -> list[account_reports.EventPositionReport]:
        """What is held per event, over its unsettled markets."""
        told = self._reads.all(
            "/portfolio/positions",
            messages.PositionsAnswer,
            lambda page: page.event_positions,
            given(limit=_PAGE, event_ticker=event_ticker, subaccount=subaccount),
        )
        return [parsing.event_position(each) for each in told]

    def orders(
        self,
        *,
        ticker: str | None = None,
        event_tickers: Sequence[str] = (),
        status: OrderFilter | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        subaccount: int | None = None,
        exchange_index: int | None = None,
    ) -> list[reports.OrderReport]:
        """Orders by filter. There is none for the client order id: match it in the list (API.md 11)."""
        filters = given(
            limit=_PAGE,
            ticker=ticker,
            event_ticker=joined(event_tickers),
            status=status,
            min_ts=seconds(since),
            max_ts=seconds(until),
            subaccount=subaccount,
            exchange_index=exchange_index,
        )
        told = self._reads.all("/portfolio/orders", messages.OrdersAnswer, lambda page: page.orders, filters)
        return [parsing.order(each) for each in told]

    def order(self, order_id: str) -> reports.OrderReport:
        """One order by the exchange's id. Raises UnknownThere."""
        told = self._reads.get(f"/portfolio/orders/{quote(order_id, safe='')}", messages.OrderAnswer)
        return parsing.order(told.order)

    def queue_positions(
        self,
        *,
        tickers: Sequence[str] = (),
        event_ticker: str | None = None,
        subaccount: int | None = None,
    ) -> list[account_reports.QueuePosition]:
        """How many contracts stand before each of our resting orders."""
        told = self._reads.get(
            "/portfolio/orders/queue_positions",
            messages.QueuePositionsAnswer,
            given(market_tickers=joined(tickers), event_ticker=event_ticker, subaccount=subaccount),
        )
        return [parsing.queue_position(each) for each in told.queue_positions]

    def queue_position(self, order_id: str, *, ticker: str = "") -> account_reports.QueuePosition:
        """How many contracts stand before one resting order. Raises UnknownThere."""
        told = self._reads.get(
            f"/portfolio/orders/{quote(order_id, safe='')}/queue_position", messages.QueuePositionAnswer
        )
        return parsing.queue_position(messages.QueuePosition(order_id, ticker, told.queue_position_fp))

    def fills(
        self,
        *,
        ticker: str | None = None,
        tickers: Sequence[str] = (),
        order_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        subaccount: int | None = None,
        exchange_index: int | None = None,
    ) -> list[reports.FillReport]:
        """Our executions, of one market or of up to 100 (`tickers`)."""
        filters = given(
            limit=_PAGE,
            ticker=ticker or joined(tickers),
            order_id=order_id,
            min_ts=seconds(since),
            max_ts=seconds(until),
            subaccount=subaccount,
            exchange_index=exchange_index,
        )
        told = self._reads.all("/portfolio/fills", messages.FillsAnswer, lambda page: page.fills, filters)
        return [parsing.fill(each) for each in told]

    def settlements(
        self,
        *,
        ticker: str | None = None,
        event_ticker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        subaccount: int | None = None,
    ) -> list[reports.SettlementReport]:
        filters = given(
            limit=_PAGE,
            ticker=ticker,
            event_ticker=event_ticker,
            min_ts=seconds(since),
            max_ts=seconds(until),
            subaccount=subaccount,
        )
        told = self._reads.all(
            "/portfolio/settlements", messages.SettlementsAnswer, lambda page: page.settlements, filters
        )
        return [parsing.settlement(each) for each in told]

    def order_groups(self, *, subaccount: int | None = None) -> list[account_reports.OrderGroupReport]:
        told = self._reads.get(
            "/portfolio/order_groups", order_messages.GroupsAnswer, given(subaccount=subaccount)
        )
        return [parsing.order_group(each) for each in told.order_groups]

    def order_group(
        self, order_group_id: str, *, subaccount: int | None = None
    ) -> account_reports.OrderGroupReport:
        """One group with the ids of its orders. Raises UnknownThere."""
        told = self._reads.get(
            f"/portfolio/order_groups/{quote(order_group_id, safe='')}",
            order_messages.GroupAnswer,
            given(subaccount=subaccount),
        )
        return parsing.single_order_group(order_group_id, told)

    def deposits(self) -> list[account_reports.PaymentReport]:
        told = self._reads.all(
            "/portfolio/deposits",
            messages.DepositsAnswer,
            lambda page: page.deposits,
            given(limit=_PAYMENTS_PAGE),
        )
        return [parsing.payment(each) for each in told]

    def withdrawals(self) -> list[account_reports.PaymentReport]:
        told = self._reads.all(
            "/portfolio/withdrawals",
            messages.WithdrawalsAnswer,
            lambda page: page.withdrawals,
            given(limit=_PAYMENTS_PAGE),
        )
        return [parsing.payment(each) for each in told]

    def limits(self) -> reports.AccountLimits:
        """The account's tier and token buckets."""
        return parsing.limits(self._reads.get("/account/limits", messages.AccountLimits))

    def endpoint_costs(self) -> account_reports.EndpointCosts:
        """What calls cost in tokens where it is not the default."""
        return parsing.endpoint_costs(self._reads.get("/account/endpoint_costs", messages.EndpointCosts))

    def api_keys(self) -> list[account_reports.ApiKeyReport]:
        told = self._reads.get("/api_keys", messages.ApiKeysAnswer)
        return [parsing.api_key(each) for each in told.api_keys]

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()


def open_account(rest_url: str, signer: Signer, *, link: Link | None = None) -> Account:
    """A client for the account of the signer's key."""
    return Account(Reads(Transport(rest_url, signer, link=link)))
