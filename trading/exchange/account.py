"""The account's own records by REST (API.md 11 and 12): reads only, signed with a key of scope `read`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote

from trading.exchange import account_messages as messages
from trading.exchange import account_parsing as parsing
from trading.exchange import reports
from trading.exchange.auth import Signer
from trading.exchange.reads import Reads, given
from trading.exchange.transport import Transport

OrderFilter = Literal["resting", "canceled", "executed"]


class Account:
    """Reads of one account. They lag writes: see `MarketData.user_data_as_of`. Lists come complete or raise."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def balance(self) -> reports.BalanceReport:
        """Cash over all shards. It has its own bucket of one call a second (API.md 7)."""
        return parsing.balance(self._reads.get("/portfolio/balance", messages.Balance))

    def positions(self, *, ticker: str | None = None) -> list[reports.PositionReport]:
        """Net positions of unsettled markets."""
        told = self._reads.all(
            "/portfolio/positions",
            messages.PositionsAnswer,
            lambda page: page.market_positions,
            given(limit=1000, ticker=ticker),
        )
        return [parsing.position(each) for each in told]

    def orders(
        self,
        *,
        ticker: str | None = None,
        status: OrderFilter | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[reports.OrderReport]:
        """Orders by filter. There is none for the client order id: match it in the list (API.md 11)."""
        told = self._reads.all(
            "/portfolio/orders",
            messages.OrdersAnswer,
            lambda page: page.orders,
            given(limit=1000, ticker=ticker, status=status, min_ts=_seconds(since), max_ts=_seconds(until)),
        )
        return [parsing.order(each) for each in told]

    def order(self, order_id: str) -> reports.OrderReport:
        """One order by the exchange's id. Raises UnknownThere."""
        told = self._reads.get(f"/portfolio/orders/{quote(order_id, safe='')}", messages.OrderAnswer)
        return parsing.order(told.order)

    def fills(
        self,
        *,
        ticker: str | None = None,
        order_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[reports.FillReport]:
        told = self._reads.all(
            "/portfolio/fills",
            messages.FillsAnswer,
            lambda page: page.fills,
            given(
                limit=1000, ticker=ticker, order_id=order_id, min_ts=_seconds(since), max_ts=_seconds(until)
            ),
        )
        return [parsing.fill(each) for each in told]

    def settlements(
        self, *, ticker: str | None = None, since: datetime | None = None
    ) -> list[reports.SettlementReport]:
        told = self._reads.all(
            "/portfolio/settlements",
            messages.SettlementsAnswer,
            lambda page: page.settlements,
            given(limit=1000, ticker=ticker, min_ts=_seconds(since)),
        )
        return [parsing.settlement(each) for each in told]

    def limits(self) -> reports.AccountLimits:
        """The account's tier and token buckets."""
        return parsing.limits(self._reads.get("/account/limits", messages.AccountLimits))

    def close(self) -> None:
        """Close the idle connections."""
        self._reads.close()


def open_account(rest_url: str, signer: Signer) -> Account:
    """A client for the account of the signer's key."""
    return Account(Reads(Transport(rest_url, signer)))


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
