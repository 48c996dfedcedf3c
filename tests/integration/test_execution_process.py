"""The execution process around the router: nudges, the own-orders stream, start-up, and parts that fail."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from approvals.models import Proposal
from approvals.tasks import expire_due
from kalshi_site import locks
from kalshi_site.models import Lease
from portfolio import risk
from portfolio.models import CashEntry, Position
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange
from trading import tasks
from trading.agent.forecaster import OfflineAnalyst
from trading.exchange.errors import NoAnswer
from trading.exchange.events import Connected, Heartbeat, OwnFill, OwnOrder
from trading.exchange.outcomes import Unknown
from trading.execution import cancels
from trading.execution import process as process_room
from trading.execution.exits import ExitWorking, close_position
from trading.execution.own_stream import OwnStream
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.execution.wake import nudges, wake
from trading.models import Cycle, Fill, Order

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Silent:
    """A stream that says nothing until it is stopped."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.stopped = asyncio.Event()

    async def run(self, sink: Callable[[Any], None]) -> None:
        for event in self.events:
            sink(event)
        await self.stopped.wait()

    async def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name.startswith("own-stream") or thread.name == "execution-test":
            thread.join(10)


def news(stop: threading.Event, *events: Any) -> OwnStream:
    return OwnStream(venue=VENUE, open_stream=lambda: Silent(*events), stop=stop)  # type: ignore[arg-type, return-value]


def execution(exchange: FakeExchange, stop: threading.Event, ready: Callable[[], None]) -> Execution:
    return Execution(
        router=Router(VENUE, exchange, uuid.UUID(int=3)),
        reconciler=Reconciler(VENUE, exchange, exchange),  # type: ignore[arg-type]
        news=news(stop),
        stop=stop,
        on_ready=ready,
    )


def no_pause() -> Any:
    """Nothing more urgent happens between two questions."""


def run_in_background(subject: Execution) -> None:
    from django.db import connections

    def work() -> None:
        try:
            subject.run()
        finally:
            connections.close_all()

    threading.Thread(target=work, name="execution-test", daemon=True).start()


def until(look: Callable[[], Any], within: float = 15.0) -> Any:
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def test_a_nudge_arrives_at_once_and_silence_is_a_look_too(stop: threading.Event) -> None:
    looks = nudges(0.05, stop)
    assert next(looks) is False
    assert wake() is True
    assert until(lambda: next(looks)) is True


def test_without_redis_the_look_goes_on_and_a_nudge_is_only_lost(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")
    looks = nudges(0.01, stop)
    assert [next(looks), next(looks)] == [False, False]
    assert wake() is False


def test_an_approval_reaches_the_exchange_and_a_stop_ends_the_process(stop: threading.Event) -> None:
    exchange, ready = FakeExchange(), threading.Event()
    run_in_background(execution(exchange, stop, ready.set))
    assert ready.wait(15)
    approved()
    assert until(lambda: Order.objects.filter(state="resting").exists())
    assert len(exchange.sent) == 1


def test_with_redis_dead_an_approval_is_found_by_looking(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/redis.sock")
    monkeypatch.setattr(process_room, "SCAN_EVERY", 0.05)
    exchange = FakeExchange()
    run_in_background(execution(exchange, stop, lambda: None))
    approved()
    assert until(lambda: Order.objects.filter(state="resting").exists())


def test_nothing_is_claimed_before_the_first_look_at_the_exchange_has_succeeded(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_room, "SCAN_EVERY", 0.05)
    exchange, ready = FakeExchange(), threading.Event()
    reads = exchange.orders
    monkeypatch.setattr(exchange, "orders", _out_of_reach)
    approved()
    run_in_background(execution(exchange, stop, ready.set))
    time.sleep(0.5)
    assert not ready.is_set()
    assert exchange.sent == []
    monkeypatch.setattr(exchange, "orders", reads)
    assert ready.wait(15)
    assert until(lambda: exchange.sent)


def _out_of_reach(**_: Any) -> Any:
    raise NoAnswer("no complete answer in 10 s")


def test_open_orders_are_asked_about_and_a_failed_question_stops_nothing(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_room, "ASK_EVERY", 0.0)
    exchange = FakeExchange()
    subject = execution(exchange, stop, lambda: None)
    order = factories.OrderFactory(venue_order_id="venue-1")
    body = {"client_order_id": order.client_order_id, "ticker": order.ticker, "side": "bid"}
    exchange.rest(body | {"price": "0.50", "count": "10"})
    exchange.cancel("venue-1", market_ticker=order.ticker)
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "orders", _out_of_reach)
        subject._ask_about_open_orders(no_pause)
    assert Order.objects.get().state == "resting"
    subject._ask_about_open_orders(no_pause)
    assert Order.objects.get().state == "canceled"


@pytest.mark.parametrize(("between_reads", "answered_reads"), [(True, 1), (False, 5)])
def test_many_slow_questions_keep_neither_a_cancel_nor_the_lease_waiting(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch, between_reads: bool, answered_reads: int
) -> None:
    """Naive: look at nothing else until all is asked. Then the cancel waits for five reads, and the lease runs out."""
    monkeypatch.setattr(process_room, "PULSE_EVERY", 0.0)
    exchange, reads, reads_before_cancel = FakeExchange(), list[str](), list[int]()
    subject = execution(exchange, stop, lambda: None)
    for number in range(1, 6):
        order = factories.OrderFactory(venue_order_id=f"venue-{number}")
        body = {"client_order_id": order.client_order_id, "ticker": order.ticker, "side": "bid"}
        exchange.rest(body | {"price": "0.50", "count": "10"})
        exchange.hidden.add(order.client_order_id)  # the list lags, so each is asked about

    def ask(order_id: str) -> Any:
        reads.append(order_id)
        if len(reads) == 1:
            cancels.request_cancel(order=order, actor="operator")
        return exchange.book[order_id]

    def canceled(targets: Any, **_: Any) -> Any:
        reads_before_cancel.append(len(reads))
        return ()

    monkeypatch.setattr(exchange, "order", ask)
    monkeypatch.setattr(exchange, "cancel", canceled)
    with locks.lease("execution", ttl=timedelta(seconds=10)) as held:
        before = Lease.objects.get(name="execution").expires_at
        pulse = process_room.Pulse(subject.router, held, timedelta(minutes=1))
        subject._ask_about_open_orders(pulse.beat if between_reads else no_pause)
        subject.router.call_off()
        assert (Lease.objects.get(name="execution").expires_at > before) is between_reads
    assert reads_before_cancel[0] == answered_reads


def test_a_second_execution_waits_for_the_lease(stop: threading.Event) -> None:
    ready = threading.Event()
    with locks.lease("execution", ttl=timedelta(seconds=10)):
        run_in_background(execution(FakeExchange(), stop, ready.set))
        assert not ready.wait(0.5)
    assert ready.wait(15)


def test_news_of_an_order_and_a_fill_are_written_down(stop: threading.Event) -> None:
    exchange = FakeExchange()
    order = factories.OrderFactory(state="sending", venue_order_id=None)
    report = exchange.rest(
        {"client_order_id": order.client_order_id, "ticker": order.ticker, "side": "bid"}
        | {"price": "0.50", "count": "10"}
    )
    fill = exchange.execute("venue-1", D(10))
    stream = news(stop, Connected(1), Heartbeat(2), OwnOrder(report, 3), OwnFill(fill, 4))
    stream.start()
    until(Fill.objects.exists)
    order.refresh_from_db()
    assert (order.state, order.venue_order_id) == ("filled", "venue-1")
    assert Position.objects.get().quantity == D(10)


def test_news_of_an_order_that_is_not_ours_is_left_to_reconciliation(stop: threading.Event) -> None:
    exchange = FakeExchange()
    report = exchange.rest(
        {"client_order_id": "by-hand", "ticker": "SIMX", "side": "bid", "price": "0.50", "count": "1"}
    )
    news(stop).apply(OwnOrder(report, 1))
    assert not Order.objects.exists()


def test_odd_news_does_not_stop_the_next(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    from trading.execution import fills

    seen = []

    def broken_once(_venue: str, fill: Any) -> None:
        seen.append(fill)
        if len(seen) == 1:
            raise ValueError("odd")

    monkeypatch.setattr(fills, "record_fill", broken_once)
    exchange, order = FakeExchange(), factories.OrderFactory(venue_order_id="venue-1")
    exchange.rest(
        {"client_order_id": "x", "ticker": order.ticker, "side": "bid", "price": "0.50", "count": "2"}
    )
    told = [OwnFill(exchange.execute("venue-1", D(1)), n) for n in (1, 2)]
    news(stop, *told).start()
    until(lambda: len(seen) == 2)


def test_the_sweep_expires_what_is_due() -> None:
    due = factories.ProposalFactory(deadline_at=timezone.now() - timedelta(seconds=1))
    waiting = factories.ProposalFactory()
    expire_due()
    states = dict(Proposal.objects.values_list("pk", "state"))
    assert states == {due.pk: "expired", waiting.pk: "pending"}


def test_the_tasks_run_the_loops_with_the_parts_they_were_given() -> None:
    class NoTrades:
        def trades(self, **_: Any) -> list[Any]:
            return []

    exchange = FakeExchange()
    reconciler = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    tasks.use(tasks.Parts(OfflineAnalyst(), NoTrades(), reconciler))
    tasks.compare_with_exchange()
    tasks.look_for_trades()
    tasks.housekeeping()
    assert CashEntry.objects.get().kind == "opening"
    assert set(Cycle.objects.values_list("loop", flat=True)) == {"update", "decision"}
    tasks.use(tasks.Parts(OfflineAnalyst(), NoTrades(), None))
    with pytest.raises(RuntimeError, match="no read key"):
        tasks.compare_with_exchange()


def test_a_second_exit_is_refused_while_the_first_is_under_way() -> None:
    factories.funded()
    market = factories.quoted_market()
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(5), cost=D(2)
    )
    close_position(venue=VENUE, ticker=market.ticker, actor="approver1")
    with pytest.raises(ExitWorking):
        close_position(venue=VENUE, ticker=market.ticker, actor="approver1")


def test_a_cancel_without_proof_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = FakeExchange()
    router = Router(VENUE, exchange, uuid.UUID(int=3))
    order = factories.OrderFactory(venue_order_id="venue-9")
    monkeypatch.setattr(exchange, "cancel", lambda *_, **__: Unknown("no complete answer in 5 s"))
    router.cancel(order)
    assert Order.objects.get(pk=order.pk).state == "resting", "only proof ends an order"


def test_a_cancel_does_not_wait_until_a_stop_is_at_rest(stop: threading.Event) -> None:
    """Naive: the looks of a stop that the exchange is slow to show come first, each as long as a read may take."""
    factories.OrderFactory.create(
        ticker="STOPPED-1", venue_order_id="venue-8", state="unknown"
    )  # never at rest
    other: Order = factories.OrderFactory.create(ticker="OTHER-1", venue_order_id="venue-9")
    exchange = FakeExchange()
    seen: list[list[str]] = []
    canceled: list[str] = []

    class Slow(FakeExchange):
        def orders(self, **_: Any) -> Any:
            if not seen:
                cancels.request_cancel(order=other, actor="user:op")
            seen.append(list(canceled))
            return []

    def cancel(order_id: str, **_: Any) -> Any:
        canceled.append(order_id)
        return Unknown("no answer")

    exchange.cancel = cancel  # type: ignore[method-assign]
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope="market:STOPPED-1")
    subject = execution(exchange, stop, lambda: None)
    subject.reconciler = Reconciler(VENUE, Slow(), exchange)  # type: ignore[arg-type]
    subject._bring_stops_to_rest(subject.router.call_off)
    assert seen[0] == []
    assert "venue-9" in seen[1]
