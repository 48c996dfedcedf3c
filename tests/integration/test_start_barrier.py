"""Before the first claim the desk compares itself with the exchange; what differs pauses it, and exits still pass."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from kalshi_site import guards, locks
from kalshi_site.models import Lease
from portfolio import risk
from portfolio.models import Position, TradingState
from tests import factories
from tests.fakes import FakeExchange, fill
from trading.domain.orders import BookSide, OrderState
from trading.exchange.reports import BalanceReport, FillReport
from trading.execution import adoption, process
from trading.execution.exits import close_position
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.execution.work_items import acknowledge
from trading.models import Fill, Order, WorkItem

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class NoNews:
    def start(self) -> None:
        """Nothing is streamed here."""


@pytest.fixture
def execution(exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch) -> Execution:
    monkeypatch.setattr(process, "BARRIER_PAUSE", 0.0)
    factories.funded()
    return Execution(
        router=Router(VENUE, exchange, uuid.UUID(int=1)),
        reconciler=Reconciler(VENUE, exchange, exchange),  # type: ignore[arg-type]
        news=NoNews(),  # type: ignore[arg-type]
        stop=threading.Event(),
        on_ready=lambda: None,
    )


def mode() -> str:
    return TradingState.objects.get(venue=VENUE, scope="").mode


def held_position(quantity: str = "5") -> Position:
    market = factories.quoted_market()
    return Position.objects.create(
        venue=VENUE,
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        title="held",
        quantity=D(quantity),
        cost=D(2),
    )


def test_a_desk_that_agrees_starts_as_it_was(execution: Execution) -> None:
    execution.barrier()
    assert mode() == "ACTIVE"


def test_positions_that_differ_pause_trading_and_exits_still_pass(
    execution: Execution, exchange: FakeExchange, held: locks.Held
) -> None:
    position = held_position()
    execution.barrier()
    state = TradingState.objects.get(venue=VENUE, scope="")
    assert (state.mode, state.changed_by) == ("REDUCING", "execution")
    assert position.ticker in state.reason
    exchange.behaviour = fill
    close_position(venue=VENUE, ticker=position.ticker, actor="operator")
    assert execution.router.round(held) == 1
    assert Order.objects.get().reduce_only


def test_a_difference_that_is_lag_alone_pauses_nothing(
    execution: Execution, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The naive barrier, which looks once, pauses for it."""
    held_position()
    proper, looks = exchange.positions, []

    def lagging(**_: object) -> list[object]:
        looks.append(1)
        if len(looks) > 1:
            Position.objects.all().delete()
        return list(proper())

    monkeypatch.setattr(exchange, "positions", lagging)
    execution.barrier()
    assert (mode(), len(looks)) == ("ACTIVE", 2)


def test_the_naive_barrier_that_looks_once_pauses_for_lag(
    execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "BARRIER_LOOKS", 1)
    held_position()
    execution.barrier()
    assert mode() == "REDUCING"


def test_cash_that_differs_pauses_trading(execution: Execution, exchange: FakeExchange) -> None:
    """Naive: positions alone are compared, and a desk whose money is not what it believes goes on to spend it."""
    exchange.cash -= D(5)
    execution.barrier()
    assert (mode(), "cash" in TradingState.objects.get(venue=VENUE, scope="").reason) == ("REDUCING", True)


def test_cash_that_moves_from_look_to_look_is_that_of_fills_between_two_reads(
    execution: Execution, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: whatever the last look sees is believed. A fill after the list of fills was read is in the cash only."""
    proper = exchange.balance

    def trading() -> BalanceReport:
        exchange.cash -= D("0.5")
        return proper()

    monkeypatch.setattr(exchange, "balance", trading)
    execution.barrier()
    assert mode() == "ACTIVE"


def test_cash_that_an_order_without_an_outcome_may_explain_pauses_nothing(
    execution: Execution, exchange: FakeExchange
) -> None:
    factories.OrderFactory(state="unknown", venue_order_id=None)
    exchange.cash -= D(5)
    execution.barrier()
    assert mode() == "ACTIVE"


def listed(exchange: FakeExchange, **changes: str) -> Order:
    """An order that the exchange lists as resting."""
    order = factories.OrderFactory(state="resting", venue_order_id="venue-1")
    body = {"client_order_id": order.client_order_id, "ticker": order.ticker, "side": "bid"}
    exchange.rest({**body, "price": "0.5000", "count": "10.00", **changes})
    return order


def test_an_order_that_rests_at_other_terms_than_were_approved_pauses_trading(
    execution: Execution, exchange: FakeExchange
) -> None:
    order = listed(exchange, price="0.9000")
    execution.barrier()
    assert (mode(), order.public_id in TradingState.objects.get(venue=VENUE, scope="").reason) == (
        "REDUCING",
        True,
    )


def test_an_order_that_is_over_here_and_rests_there_pauses_trading(
    execution: Execution, exchange: FakeExchange
) -> None:
    listed(exchange)
    Order.objects.update(state="canceled")
    execution.barrier()
    assert mode() == "REDUCING"


def test_a_record_that_cannot_be_taken_in_pauses_a_start(
    execution: Execution, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A desk that runs goes on beside it, and people are told. At the start nobody knows yet what the books lack."""

    def odd(*_: object) -> None:
        raise ValueError("a column that nobody foresaw")

    listed(exchange)
    monkeypatch.setattr(adoption, "followed", odd)
    execution.barrier()
    assert (mode(), "nobody foresaw" in TradingState.objects.get(venue=VENUE, scope="").reason) == (
        "REDUCING",
        True,
    )


@pytest.mark.parametrize(("more", "wanted"), [("0", "ACTIVE"), ("1", "REDUCING")])
def test_what_a_person_has_answered_for_pauses_no_start_and_more_than_that_does(
    execution: Execution, exchange: FakeExchange, more: str, wanted: str
) -> None:
    exchange.cash -= D(5)
    for _ in range(2):
        execution.reconciler.run()
    acknowledge(item=WorkItem.objects.get(kind="cash_drift"), actor="operator", reason="interest")
    risk.resume(venue=VENUE, actor="operator", reason="it is known")
    exchange.cash -= D(more)
    execution.barrier()
    assert mode() == wanted


def test_what_filled_while_we_were_away_is_booked_before_the_first_claim(
    execution: Execution, exchange: FakeExchange
) -> None:
    order = factories.OrderFactory(state="resting", venue_order_id="venue-1")
    exchange.rest(
        {
            "client_order_id": order.client_order_id,
            "ticker": order.ticker,
            "side": "bid",
            "price": "0.5000",
            "count": "10.00",
        }
    )
    told = exchange.execute("venue-1", D(10))
    assert isinstance(told, FillReport) and told.book_side is BookSide.BID
    execution.barrier()
    assert (Order.objects.get().state, Fill.objects.count()) == (OrderState.FILLED, 1)
    assert (Position.objects.get().quantity, mode()) == (D(10), "ACTIVE")


def test_an_order_with_our_mark_and_no_row_pauses_and_a_strangers_does_not(
    execution: Execution, exchange: FakeExchange
) -> None:
    body = {"ticker": factories.quoted_market().ticker, "side": "bid", "price": "0.10", "count": "1.00"}
    exchange.rest({**body, "client_order_id": "by-hand"})
    execution.barrier()
    assert (Order.objects.get().origin, mode()) == ("external", "ACTIVE")
    exchange.rest({**body, "client_order_id": f"kp-{uuid.uuid4()}"})
    execution.barrier()
    assert set(Order.objects.values_list("origin", flat=True)) == {"external", "orphan"}
    assert mode() == "REDUCING"


LEASE_TTL = timedelta(minutes=1)
READ_TAKES = timedelta(seconds=25)


class Slow(FakeExchange):
    """Each read takes 25 of the lease's 60 seconds. Before each, another tries to take the lease over."""

    def __init__(self) -> None:
        super().__init__()
        self.seized: list[str] = []
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def _read(self, name: str) -> None:
        with suppress(locks.Busy), locks.take_over("execution", ttl=LEASE_TTL, unheard_for=LEASE_TTL):
            self.seized.append(name)
        self.now += READ_TAKES.total_seconds()
        Lease.objects.update(expires_at=F("expires_at") - READ_TAKES)

    def orders(self, **asked: Any) -> Any:
        self._read("orders")
        return super().orders(**asked)

    def fills(self, **asked: Any) -> Any:
        self._read("fills")
        return super().fills(**asked)

    def settlements(self, **asked: Any) -> Any:
        self._read("settlements")
        return super().settlements(**asked)

    def positions(self, **asked: Any) -> Any:
        self._read("positions")
        return super().positions(**asked)

    def balance(self) -> Any:
        self._read("balance")
        return super().balance()


@pytest.mark.parametrize("renews", [True, False])
def test_a_comparison_longer_than_the_lease_keeps_the_lease(
    execution: Execution, monkeypatch: pytest.MonkeyPatch, renews: bool
) -> None:
    """Naive: only cancels go on between the reads. Then another takes the lease over while we compare."""
    exchange = Slow()
    monkeypatch.setattr(process, "time", exchange)
    execution.reconciler = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    execution.lease_ttl = LEASE_TTL
    held_position()
    execution.on_ready = execution.stop.set
    if not renews:
        barrier = Execution.barrier
        monkeypatch.setattr(Execution, "barrier", lambda self, _: barrier(self))
    with locks.lease("execution", ttl=LEASE_TTL) as held:
        execution._work(held)
    assert execution.stop.is_set()
    assert bool(exchange.seized) is not renews


def test_nothing_starts_without_the_databases_guards(execution: Execution) -> None:
    guards.remove(connection)
    with pytest.raises(guards.GuardsMissing):
        execution.barrier()
    guards.install(connection)
