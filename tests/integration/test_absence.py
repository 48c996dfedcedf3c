"""An order that is not found: what its verdict names, what keeps it from one, and the watch that follows."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from kalshi_site.views.health import TRADING
from kalshi_site.views.metrics import _unproven
from portfolio.models import Position, Reservation
from tests import factories
from tests.fakes import TRADES, FakeExchange, drop_before_accept
from trading.domain.hours import ShardState
from trading.domain.orders import OrderState
from trading.exchange.reports import ExchangeState
from trading.execution import fills
from trading.execution.absence import Evidence
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.models import Order, WorkItem

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def exchange() -> FakeExchange:
    return FakeExchange(behaviour=drop_before_accept)


@pytest.fixture
def books(exchange: FakeExchange) -> Reconciler:
    quick = Evidence(timedelta(0), timedelta(0), 2)
    return Reconciler(VENUE, exchange, exchange, quick)  # type: ignore[arg-type]


@pytest.fixture
def unanswered(exchange: FakeExchange) -> Order:
    """An order whose send was not answered, and which never arrived."""
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )
    with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
        Router(VENUE, exchange, uuid.UUID(int=1)).round(held)
    return Order.objects.get()


def look(books: Reconciler, times: int = 2) -> Order:
    for _ in range(times):
        books.orders(Reconciled())
    return Order.objects.get()


def test_the_verdict_names_searches_time_position_and_cash(unanswered: Order, books: Reconciler) -> None:
    order = look(books)
    assert order.state == OrderState.ABSENT
    for named in ("2 complete searches", "reads as of", "position 0", "cash $10000"):
        assert named in order.evidence
    assert AuditEntry.objects.get(verb="order.absent").reason == order.evidence


def test_two_searches_count_as_two_only_with_ten_seconds_between_them(
    unanswered: Order, exchange: FakeExchange
) -> None:
    """By the evidence that is asked for in earnest."""
    Order.objects.update(signed_at=timezone.now() - timedelta(minutes=2))
    books = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    assert (look(books, 3).state, Order.objects.get().scans) == (OrderState.UNKNOWN, 1)
    Order.objects.update(last_scan_at=timezone.now() - timedelta(seconds=9))
    assert look(books, 1).state == OrderState.UNKNOWN
    Order.objects.update(last_scan_at=timezone.now() - timedelta(seconds=10))
    assert look(books, 1).state == OrderState.ABSENT


def test_without_that_gap_two_searches_in_one_moment_are_believed(
    unanswered: Order, exchange: FakeExchange
) -> None:
    """The naive variant: both may lie within one lag of the exchange's reads."""
    Order.objects.update(signed_at=timezone.now() - timedelta(minutes=2))
    books = Reconciler(VENUE, exchange, exchange, Evidence(scan_gap=timedelta(0)))  # type: ignore[arg-type]
    assert look(books).state == OrderState.ABSENT


@pytest.mark.parametrize(
    "says",
    [
        replace(TRADES, is_active=False),
        replace(TRADES, is_trading=False),
        replace(TRADES, shards=(ShardState(0, True, False),)),
        replace(TRADES, shards=(ShardState(0, False, True), ShardState(1, True, True))),
    ],
    ids=["closed", "paused", "its shard paused", "its shard closed"],
)
def test_nothing_is_called_absent_while_the_exchange_does_not_trade(
    unanswered: Order, books: Reconciler, exchange: FakeExchange, says: ExchangeState
) -> None:
    """Naive: believe the lists of an exchange that is not as usual. They may be those from before its pause."""
    exchange.says = says
    assert (look(books, 4).state, Order.objects.get().scans) == (OrderState.UNKNOWN, 0)
    exchange.says = replace(TRADES, shards=(ShardState(0, True, True), ShardState(1, False, False)))
    assert look(books).state == OrderState.ABSENT, "another shard's pause is none of its affair"


def test_cash_that_differs_keeps_it_unknown_and_reserved(
    unanswered: Order, books: Reconciler, exchange: FakeExchange
) -> None:
    """The order may have filled and be told of late: its price is gone from the account."""
    exchange.cash -= D("5.01")
    assert look(books, 5).state == OrderState.UNKNOWN
    assert Reservation.objects.get().released_at is None
    exchange.cash += D("5.01")
    assert look(books, 1).state == OrderState.ABSENT


def test_a_position_that_differs_keeps_it_unknown(
    unanswered: Order, books: Reconciler, exchange: FakeExchange
) -> None:
    Position.objects.create(
        venue=VENUE, ticker=unanswered.ticker, event_ticker=unanswered.event_ticker, quantity=D(3), cost=D(1)
    )
    assert look(books, 5).state == OrderState.UNKNOWN


def test_after_five_minutes_without_an_outcome_health_asks_for_a_person(
    unanswered: Order, exchange: FakeExchange
) -> None:
    assert TRADING["outcomes"]() == ""
    Order.objects.update(signed_at=timezone.now() - timedelta(minutes=6))
    assert TRADING["outcomes"]() == "E610 1 order has had no known outcome for more than 5 minutes"
    ages = [m.samples[0].value for m in _unproven(VENUE, timezone.now())]
    assert ages[0] >= 360


def appear(exchange: FakeExchange, order: Order, state: OrderState) -> None:
    report = exchange.rest(json.loads(order.body))
    if state is OrderState.FILLED:
        exchange.execute(report.order_id, report.initial_quantity)
    elif state is OrderState.CANCELED:
        exchange.cancel(report.order_id, market_ticker=report.ticker)


@pytest.mark.parametrize("state", [OrderState.RESTING, OrderState.FILLED, OrderState.CANCELED])
def test_one_that_appears_within_a_day_is_taken_back_however_it_ended_with_the_highest_alarm(
    unanswered: Order, books: Reconciler, exchange: FakeExchange, state: OrderState
) -> None:
    appear(exchange, look(books), state)
    Order.objects.update(last_scan_at=timezone.now() - timedelta(minutes=2))
    order = look(books, 1)
    assert order.state == state
    item = WorkItem.objects.get(kind="absent_appeared")
    assert item.severity == "critical"
    if state is OrderState.RESTING:
        assert order.cancel_requested_at is not None
        with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
            Router(VENUE, exchange, uuid.UUID(int=1)).round(held)
        assert [report.state for report in exchange.book.values()] == [OrderState.CANCELED]


def test_after_a_day_the_watch_ends_and_within_a_minute_it_is_not_repeated(
    unanswered: Order, books: Reconciler, exchange: FakeExchange
) -> None:
    """A watch that looked at every comparison would use up the account's reads for a day."""
    appear(exchange, look(books), OrderState.CANCELED)
    assert look(books).state == OrderState.ABSENT, "looked at a moment ago"
    Order.objects.update(
        last_scan_at=timezone.now() - timedelta(minutes=2), updated_at=timezone.now() - timedelta(hours=25)
    )
    assert look(books).state == OrderState.ABSENT, "a day has passed"


def test_the_day_begins_with_the_verdict_however_long_that_took(
    unanswered: Order, books: Reconciler, exchange: FakeExchange
) -> None:
    """Naive: it begins with the send. What was unknown for a day is then not watched for a minute."""
    Order.objects.update(signed_at=timezone.now() - timedelta(hours=25))
    appear(exchange, look(books), OrderState.FILLED)
    assert fills.record_fill(VENUE, exchange.executions[0]) is None, "it may be of that order"
    Order.objects.update(last_scan_at=timezone.now() - timedelta(minutes=2))
    assert look(books, 1).state == OrderState.FILLED


def test_a_fill_of_an_order_that_was_judged_absent_waits_until_it_is_known_whose_it_is() -> None:
    """Naive: nobody's fill. Then the order appears, and its own contracts are never counted as its."""
    factories.funded()
    order = factories.OrderFactory(state="absent", venue_order_id=None, client_order_id="k-late")
    exchange = FakeExchange()
    body = {
        "client_order_id": "k-late",
        "ticker": order.ticker,
        "side": "bid",
        "price": "0.50",
        "count": "10",
    }
    exchange.rest(body)
    news = exchange.execute("venue-1", Decimal(1))
    assert not news.client_order_id
    assert fills.record_fill("paper", news) is None
    Reconciler("paper", exchange, exchange).run()  # type: ignore[arg-type]
    order.refresh_from_db()
    assert (order.filled_quantity, order.fills.get().quantity) == (Decimal(1), Decimal(1))
