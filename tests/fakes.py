"""Tiny stand-ins for the exchange at its gateway Protocols. Sockets and the real protocol are met elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from trading.domain.orders import BookSide, OrderState
from trading.exchange.account_reports import OrderGroupReport
from trading.exchange.errors import UnknownThere
from trading.exchange.outcomes import (
    Accepted,
    AllCanceled,
    Amended,
    AmendOutcome,
    Canceled,
    CancelOutcome,
    Decreased,
    DecreaseOutcome,
    Done,
    DoneOutcome,
    GroupCreated,
    GroupOutcome,
    NotOpen,
    SubmitOutcome,
    Unaccomplished,
    Unknown,
)
from trading.exchange.reports import (
    BalanceReport,
    ExchangeState,
    FillReport,
    OrderReport,
    PositionReport,
    SettlementReport,
)
from trading.exchange.targets import CancelTarget

D = Decimal
CENT = D("0.01")
TRADES = ExchangeState(is_active=True, is_trading=True, resumes_at=None)
Behaviour = Callable[["FakeExchange", dict[str, Any]], SubmitOutcome]
AmendBehaviour = Callable[["FakeExchange", str, dict[str, Any]], AmendOutcome]


def accept(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    report = exchange.rest(body)
    return Accepted(
        report.order_id, report.client_order_id, D(0), report.initial_quantity, None, None, timezone.now()
    )


def fill(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    report = exchange.rest(body)
    exchange.execute(report.order_id, report.initial_quantity)
    return Accepted(
        report.order_id,
        report.client_order_id,
        report.initial_quantity,
        D(0),
        report.price,
        D(0),
        timezone.now(),
    )


def drop_after_accept(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    exchange.rest(body)
    return Unknown("no complete answer in 5 s")


def drop_before_accept(exchange: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
    return Unknown("no complete answer in 5 s")


def amend(exchange: FakeExchange, order_id: str, body: dict[str, Any]) -> AmendOutcome:
    """An order's new expiry, where it rests."""
    report = exchange.book.get(order_id)
    if report is None or report.state not in (OrderState.RESTING, OrderState.PARTIALLY_FILLED):
        return NotOpen(order_id)
    exchange._change(order_id, expires_at=datetime.fromtimestamp(body["expiration_time"], UTC))
    return Amended(order_id, report.client_order_id, None, None, None, None, timezone.now())


@dataclass
class FakeExchange:
    """Order, account and status reads of one account over plain dictionaries. `behaviour` answers creates."""

    behaviour: Behaviour = accept
    sent: list[dict[str, Any]] = field(default_factory=list)
    book: dict[str, OrderReport] = field(default_factory=dict)
    executions: list[FillReport] = field(default_factory=list)
    cash: Decimal = Decimal(10_000)
    settled: list[SettlementReport] = field(default_factory=list)
    says: ExchangeState = TRADES
    reads_as_of: datetime = field(default_factory=lambda: timezone.now() + timedelta(days=1))
    amend_behaviour: AmendBehaviour = amend
    amends: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    decreases: list[tuple[str, Decimal]] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)  # client order ids that the lagging list does not show yet
    unshown: set[str] = field(default_factory=set)  # ids of orders that are read later than their fills

    # -- writes

    def send_create(
        self,
        body: bytes,
        signed_ts_ms: int,
        *,
        send_before: float | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> SubmitOutcome:
        decoded = json.loads(body)
        self.sent.append(decoded)
        if meanwhile is not None:
            meanwhile()
        return self.behaviour(self, decoded)

    def cancel(
        self,
        order_id: str,
        *,
        market_ticker: str,
        subaccount: int | None = None,
        signed_ts_ms: int | None = None,
    ) -> CancelOutcome:
        report = self.book.get(order_id)
        if report is None or (report.subaccount or 0) != (subaccount or 0):
            return NotOpen(order_id)
        if report.state not in (OrderState.RESTING, OrderState.PARTIALLY_FILLED):
            return NotOpen(order_id)
        self._change(order_id, state=OrderState.CANCELED, remaining_quantity=D(0))
        return Canceled(order_id, report.remaining_quantity, timezone.now())

    def send_amend(
        self,
        order_id: str,
        body: bytes,
        signed_ts_ms: int,
        *,
        subaccount: int | None = None,
        send_before: float | None = None,
    ) -> AmendOutcome:
        self.amends.append((order_id, json.loads(body)))
        return self.amend_behaviour(self, order_id, self.amends[-1][1])

    def decrease(
        self,
        order_id: str,
        *,
        market_ticker: str,
        reduce_to: Decimal | None = None,
        subaccount: int | None = None,
    ) -> DecreaseOutcome:
        assert reduce_to is not None
        self.decreases.append((order_id, reduce_to))
        report = self.book[order_id]
        if report.state not in (OrderState.RESTING, OrderState.PARTIALLY_FILLED):
            return NotOpen(order_id)
        if (report.subaccount or 0) != (subaccount or 0):
            return NotOpen(order_id)
        left = min(reduce_to, report.remaining_quantity)
        self._change(order_id, remaining_quantity=left)
        return Decreased(order_id, left, timezone.now())

    def cancel_batch(
        self, targets: Sequence[CancelTarget], *, signed_ts_ms: int | None = None
    ) -> tuple[CancelOutcome, ...]:
        self.batches.append([target.order_id for target in targets])
        return tuple(
            self.cancel(each.order_id, market_ticker=each.market_ticker, subaccount=each.subaccount)
            for each in targets
        )

    def cancel_all(self, *, signed_ts_ms: int | None = None) -> AllCanceled:
        for order_id, report in self.book.items():
            self.cancel(order_id, market_ticker=report.ticker)
        return AllCanceled()

    def warm(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""

    # -- what happens at the exchange

    def rest(self, body: dict[str, Any]) -> OrderReport:
        number = f"venue-{len(self.book) + 1}"
        report = OrderReport(
            order_id=number,
            client_order_id=body["client_order_id"],
            ticker=body["ticker"],
            book_side=BookSide(body["side"]),
            state=OrderState.RESTING,
            price=D(body["price"]),
            initial_quantity=D(body["count"]),
            filled_quantity=D(0),
            remaining_quantity=D(body["count"]),
            fill_cost=D(0),
            fees=D(0),
            created_at=timezone.now(),
            updated_at=timezone.now(),
            expires_at=datetime.fromtimestamp(body["expiration_time"], UTC)
            if body.get("expiration_time")
            else None,
            exchange_index=0,
        )
        self.book[number] = report
        return report

    def execute(self, order_id: str, quantity: Decimal, fee: Decimal = CENT) -> FillReport:
        report = self.book[order_id]
        filled = report.filled_quantity + quantity
        left = report.remaining_quantity - quantity
        state = OrderState.PARTIALLY_FILLED if left else OrderState.FILLED
        self._change(order_id, state=state, filled_quantity=filled, remaining_quantity=left)
        execution = FillReport(
            trade_id=f"trade-{len(self.executions) + 1}",
            order_id=order_id,
            ticker=report.ticker,
            book_side=report.book_side,
            price=report.price,
            quantity=quantity,
            fee=fee,
            is_taker=True,
            at=timezone.now(),
        )
        self.executions.append(execution)
        paid = report.price if report.book_side is BookSide.BID else 1 - report.price
        self.cash -= paid * quantity + fee
        return execution

    def _change(self, order_id: str, **changes: Any) -> None:
        from dataclasses import replace

        self.book[order_id] = replace(self.book[order_id], **changes)

    # -- reads

    def orders(self, *, ticker: str | None = None, status: str | None = None, **_: Any) -> list[OrderReport]:
        shown = [r for r in self.book.values() if r.client_order_id not in self.hidden]
        shown = [r for r in shown if r.order_id not in self.unshown]
        if status == "resting":
            shown = [r for r in shown if r.state in (OrderState.RESTING, OrderState.PARTIALLY_FILLED)]
        return [r for r in shown if ticker in (None, r.ticker)]

    def order(self, order_id: str) -> OrderReport:
        if order_id not in self.book or order_id in self.unshown:
            raise UnknownThere("no such order")
        return self.book[order_id]

    def fills(self, **_: Any) -> list[FillReport]:
        return list(self.executions)

    def positions(self, *, ticker: str | None = None) -> list[PositionReport]:
        held: dict[str, Decimal] = {}
        for execution in self.executions:
            sign = 1 if execution.book_side is BookSide.BID else -1
            held[execution.ticker] = held.get(execution.ticker, D(0)) + sign * execution.quantity
        return [
            PositionReport(name, quantity, D(0), D(0), D(0), D(0), datetime.now(UTC), 0)
            for name, quantity in held.items()
            if ticker in (None, name)
        ]

    def order_groups(self) -> list[OrderGroupReport]:
        return []

    def settlements(self, **_: Any) -> list[SettlementReport]:
        return list(self.settled)

    def balance(self) -> BalanceReport:
        return BalanceReport(self.cash, D(0), timezone.now())

    def limits(self) -> Any:
        raise UnknownThere("not offered")

    def exchange_state(self) -> ExchangeState:
        return self.says

    def user_data_as_of(self) -> datetime:
        return self.reads_as_of


@dataclass
class FakeGroups:
    """Order groups of one account. `failing` answers every write instead, while it is set."""

    limits: dict[str, Decimal] = field(default_factory=dict)
    tripped: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    failing: Unaccomplished | None = None

    def create(self, *, contracts_in_15s: Decimal, exchange_index: int = 0) -> GroupOutcome:
        self.calls.append("create")
        if self.failing is not None:
            return self.failing
        name = f"group-{len(self.limits) + 1}"
        self.limits[name] = contracts_in_15s
        return GroupCreated(name, 0, exchange_index)

    def limit(
        self, order_group_id: str, *, contracts_in_15s: Decimal, exchange_index: int = 0
    ) -> DoneOutcome:
        return self._write("limit", lambda: self.limits.update({order_group_id: contracts_in_15s}))

    def trigger(self, order_group_id: str, *, exchange_index: int = 0) -> DoneOutcome:
        return self._write("trigger", lambda: self.tripped.add(order_group_id))

    def reset(self, order_group_id: str, *, exchange_index: int = 0) -> DoneOutcome:
        return self._write("reset", lambda: self.tripped.discard(order_group_id))

    def close(self) -> None:
        """Nothing is open."""

    def order_groups(self) -> list[OrderGroupReport]:
        """As the account's read lists them."""
        return [
            OrderGroupReport(name, is_auto_cancel_enabled=name in self.tripped, limit=limit, exchange_index=0)
            for name, limit in self.limits.items()
        ]

    def _write(self, call: str, change: Callable[[], object]) -> DoneOutcome:
        self.calls.append(call)
        if self.failing is not None:
            return self.failing
        change()
        return Done()
