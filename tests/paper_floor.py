"""The engine of the paper exchange with one market and two accounts, without sockets and with a clock of the test's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trading.domain.orders import BookSide, TimeInForce
from trading.paper import entry
from trading.paper.amends import Amendment, amend, decrease
from trading.paper.exchange import Exchange
from trading.paper.gates import Address, find_order
from trading.paper.journal import Journal
from trading.paper.queues import queue_position
from trading.paper.records import AccountOpened, OrderRecord
from trading.paper.refusals import Refused
from trading.paper.tickets import Ticket
from trading.paper.wire import rfc3339

BID, ASK = BookSide.BID, BookSide.ASK
TICKER = "TEST-1-A"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class Floor:
    """An exchange with one market, told by tests what happens. `reopen` is a restart after a kill -9."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    fee_type: str = "quadratic"
    deposit: str = "1000"
    numbers: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        self.journal = Journal(self.path)
        self.exchange = Exchange(self.journal, clock=self.clock, shards=self.shards)
        for account in ("alice", "bob"):
            self.exchange.open_account(AccountOpened(account, account, Decimal(self.deposit)))

    def list_market(self, *, fee_multiplier: int = 1, exchange_index: int = 0, **fields: Any) -> Floor:
        self.exchange.add_series(
            {"ticker": "TEST", "fee_type": self.fee_type, "fee_multiplier": fee_multiplier}
        )
        self.exchange.add_event(
            {"event_ticker": "TEST-1", "series_ticker": "TEST", "exchange_index": exchange_index}
        )
        times = {"open_time": rfc3339(START), "close_time": rfc3339(START + timedelta(minutes=15))}
        self.exchange.add_market({"ticker": TICKER, "event_ticker": "TEST-1", **times, **fields})
        return self

    def list_exclusive(self, *tickers: str) -> Floor:
        """Further markets of one mutually exclusive event, EX-1."""
        self.exchange.add_series({"ticker": "EX", "fee_type": self.fee_type, "fee_multiplier": 1})
        self.exchange.add_event(
            {"event_ticker": "EX-1", "series_ticker": "EX", "collateral_return_type": "MECNET"}
        )
        times = {"open_time": rfc3339(START), "close_time": rfc3339(START + timedelta(minutes=15))}
        for ticker in tickers:
            self.exchange.add_market({"ticker": ticker, "event_ticker": "EX-1", **times})
        return self

    def send(self, account: str, side: BookSide, price: str, count: str, **fields: Any) -> OrderRecord:
        self.numbers += 1
        ticket = Ticket(
            ticker=fields.pop("ticker", TICKER),
            side=side,
            price=price,
            count=count,
            time_in_force=fields.pop("tif", TimeInForce.GTC),
            self_trade_prevention_type=fields.pop("self_trade", "taker_at_cross"),
            client_order_id=fields.pop("client_order_id", f"{account}-{self.numbers}"),
            **fields,
        )
        return entry.create(self.exchange, account, ticket)

    def find(self, account: str, order_id: str) -> OrderRecord:
        """The order as its owner finds it. Raises Refused."""
        return find_order(self.exchange, account, order_id, Address(TICKER))

    def cancel(self, account: str, order_id: str) -> tuple[OrderRecord, int]:
        return entry.cancel(self.exchange, self.find(account, order_id))

    def decrease(self, account: str, order_id: str, **lots: int | None) -> OrderRecord:
        """`by` or `to` so many lots."""
        return decrease(self.exchange, self.find(account, order_id), **{"by": None, "to": None, **lots})

    def amend(self, account: str, order_id: str, **wanted: Any) -> OrderRecord:
        """Change what is given (`price_ticks`, `total_lots`, `side`, ids, `expires_ms`) and leave the rest."""
        order = self.find(account, order_id)
        kept = {
            "side": order.side,
            "price_ticks": order.price_ticks,
            "total_lots": order.filled_lots + order.remaining_lots,
            "keeps_expiry": "expires_ms" not in wanted,
        }
        return amend(self.exchange, order, Amendment(**{**kept, **wanted}))

    def order(self, account: str, order_id: str) -> OrderRecord:
        """The order as it stands now, open or not."""
        return self.exchange.ledger.accounts[account].orders[order_id]

    def position(self, order_id: str) -> int:
        """Its place in the queue: the lots ahead of it."""
        return queue_position(self.exchange.listing(TICKER), order_id)

    def balance(self, account: str) -> Decimal:
        return self.exchange.ledger.accounts[account].purse().balance

    def lots(self, account: str) -> int:
        return self.exchange.ledger.accounts[account].position_lots(TICKER)

    def reopen(self) -> Floor:
        self.path.write_bytes(self.path.read_bytes() if self.path.exists() else b"")
        with self.path.open("ab") as file:
            file.writelines(self.journal._queue)
        return Floor(self.path, self.clock, self.fee_type, self.deposit, self.numbers, self.shards)


def refusal(call: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        call()
    error = caught.value.body["error"]
    return caught.value.status, error["code"], error.get("details", "")
