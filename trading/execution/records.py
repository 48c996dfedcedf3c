"""The account's own orders and fills as one list: what the live endpoints still have, and what they have archived.

Orders leave the live endpoints about two weeks after they ended, fills after about three months (API.md 10). A list
that begins before the cutoff is asked of both; a record in both counts once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from trading.exchange.errors import UnknownThere
from trading.exchange.gateway import AccountGateway, HistoryGateway
from trading.exchange.reports import FillReport, OrderReport

SURELY_LIVE: Final = timedelta(days=7)  # well within every horizon that the exchange has announced
FEW: Final = 5  # orders that are asked for one by one


@dataclass(frozen=True, slots=True)
class Records:
    """Reads come complete or raise ExchangeError. Without `history` only the live records are known."""

    account: AccountGateway
    history: HistoryGateway | None = None
    surely_live: timedelta = SURELY_LIVE

    def orders(self, *, since: datetime, ticker: str | None = None) -> list[OrderReport]:
        """All orders made since then, whatever became of them."""
        live = self.account.orders(ticker=ticker, since=since)
        if not self._reaches_back(since, of_orders=True):
            return live
        assert self.history is not None
        known = {report.order_id for report in live}
        archived = self.history.orders(ticker=ticker, since=since)
        return live + [report for report in archived if report.order_id not in known]

    def named(
        self, order_ids: Collection[str], *, since: datetime, between: Callable[[], object] = lambda: None
    ) -> dict[str, OrderReport]:
        """What has become of these orders; the ones that the exchange does not show yet are missing. Many come as a
        list of what was made since then, the rest by a question each.

        `between` is called after each question.
        """
        wanted, found = set(order_ids), dict[str, OrderReport]()
        if len(wanted) > FEW:
            found = {each.order_id: each for each in self.orders(since=since) if each.order_id in wanted}
        for order_id in wanted - found.keys():
            with contextlib.suppress(UnknownThere):  # read lag, or archived
                found[order_id] = self.account.order(order_id)
            between()
        missing = wanted - found.keys()
        if missing and len(wanted) <= FEW and self._reaches_back(since, of_orders=True):
            found |= {each.order_id: each for each in self.orders(since=since) if each.order_id in missing}
        return found

    def fills(self, *, since: datetime) -> list[FillReport]:
        """All our executions since then, each once."""
        live = self.account.fills(since=since)
        if not self._reaches_back(since, of_orders=False):
            return live
        assert self.history is not None
        known = {(fill.trade_id, fill.order_id) for fill in live}
        archived = self.history.fills(since=since)
        return live + [fill for fill in archived if (fill.trade_id, fill.order_id) not in known]

    def _reaches_back(self, since: datetime, *, of_orders: bool) -> bool:
        """Whether the live endpoints may have dropped what is that old. Asked only where it is possible."""
        if self.history is None or since > timezone.now() - self.surely_live:
            return False
        cutoff = self.history.cutoff()
        return since < (cutoff.orders_updated_at if of_orders else cutoff.trades_at)
