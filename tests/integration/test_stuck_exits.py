"""An exit that is stuck keeps nobody in: a second one goes out once the first is no longer young."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from portfolio.models import Position, Reservation
from tests import factories
from tests.fakes import FakeExchange, drop_after_accept, drop_before_accept, fill
from trading.domain.orders import OrderState
from trading.execution import exits, fills, lifecycle
from trading.execution.differences import FILL_LAG
from trading.execution.exits import ANSWER_LAG, ExitWorking
from trading.execution.router import Router
from trading.models import Market, Order, OrderEvent

D = Decimal
VENUE = factories.VENUE
MOMENT, HOUR = timedelta(seconds=1), timedelta(hours=1)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def market() -> Market:
    """Ten contracts are held in it."""
    factories.funded()
    market = factories.quoted_market()
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(10), cost=D(4)
    )
    return market


def leave(market: Market) -> Proposal:
    return exits.close_position(venue=VENUE, ticker=market.ticker, actor="operator")


def send(exchange: FakeExchange, held: locks.Held) -> int:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)


@pytest.fixture
def in_time(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """What the list sums up to is how much later this door believes it is."""
    later: list[timedelta] = []

    class Later:
        @staticmethod
        def now() -> object:
            return timezone.now() + sum(later, timedelta())

    monkeypatch.setattr(exits, "timezone", Later)
    return later


@pytest.mark.parametrize("answer", [drop_before_accept, drop_after_accept])
def test_an_exit_without_an_outcome_blocks_the_next_for_a_moment_only(
    exchange: FakeExchange, held: locks.Held, market: Market, in_time: list[timedelta], answer: object
) -> None:
    """Naive: until it is proven absent. That waits for cash and position to agree, so perhaps for a person."""
    exchange.behaviour = answer  # type: ignore[assignment]
    first = leave(market)
    send(exchange, held)
    assert Order.objects.get().state == OrderState.UNKNOWN
    in_time.append(ANSWER_LAG - 5 * MOMENT)
    with pytest.raises(ExitWorking):
        leave(market)
    in_time.append(5 * MOMENT)
    second = leave(market)
    exchange.behaviour = fill
    assert send(exchange, held) == 1, "neither the gateway nor the claim holds the first one against it"
    order = Order.objects.get(proposal=second)
    assert (order.state, order.quantity, order.reduce_only) == (OrderState.FILLED, D(10), True)
    fills.record_fill(VENUE, exchange.executions[-1])
    assert not Position.objects.held(VENUE).exists()
    assert Reservation.objects.standing(VENUE).get().key == first.public_id, "the doubt stays counted"


def test_one_that_a_dead_process_left_as_sending_blocks_no_longer(
    market: Market, in_time: list[timedelta]
) -> None:
    factories.OrderFactory(ticker=market.ticker, state="sending", reduce_only=True, venue_order_id=None)
    with pytest.raises(ExitWorking):
        leave(market)
    in_time.append(ANSWER_LAG)
    assert leave(market).state == "approved"


def test_a_fill_that_no_list_ever_shows_blocks_the_next_exit_only_so_long(
    exchange: FakeExchange, held: locks.Held, market: Market, in_time: list[timedelta]
) -> None:
    """Naive: until all that the answer counted is booked. A fill that was voided never is."""
    exchange.behaviour = fill
    leave(market)
    send(exchange, held)
    first = Order.objects.get()
    in_time.append(FILL_LAG - 5 * MOMENT)
    with pytest.raises(ExitWorking):
        leave(market)
    assert first.state == OrderState.FILLED and Reservation.objects.standing(VENUE).exists()
    in_time.append(5 * MOMENT)
    second = leave(market)
    assert send(exchange, held) == 1
    assert Order.objects.get(proposal=second).state == OrderState.FILLED


def test_what_is_heard_of_one_that_is_over_makes_it_no_younger(
    exchange: FakeExchange, held: locks.Held, market: Market, in_time: list[timedelta]
) -> None:
    exchange.behaviour = fill
    leave(market)
    send(exchange, held)
    order = Order.objects.get()
    in_time.append(FILL_LAG)
    lifecycle.advance(order, OrderState.FILLED, evidence="told again", code="a word about it")
    touched = Order.objects.get()
    assert touched.version > order.version and touched.updated_at > order.updated_at
    assert leave(market).state == "approved"


@pytest.mark.parametrize(("filled_ago", "blocks"), [(MOMENT, True), (FILL_LAG, False)])
def test_a_canceled_one_that_turns_out_filled_is_as_old_as_that_news(
    market: Market, filled_ago: timedelta, blocks: bool
) -> None:
    order = factories.OrderFactory(
        proposal=leave(market), ticker=market.ticker, state="filled", reduce_only=True
    )
    for before, after, ago in (("sending", "canceled", HOUR), ("canceled", "filled", filled_ago)):
        row = OrderEvent(order=order, version=1, from_state=before, to_state=after, actor="exchange")
        row.at = timezone.now() - ago
        row.save()
    assert exits.is_leaving(VENUE, market.ticker) is blocks


def test_a_working_exit_blocks_however_old_it_is(market: Market, in_time: list[timedelta]) -> None:
    """The exchange has confirmed it: there is no doubt, and it can be canceled."""
    factories.OrderFactory(ticker=market.ticker, state="resting", reduce_only=True)
    in_time.append(HOUR)
    with pytest.raises(ExitWorking):
        leave(market)


def test_one_that_was_claimed_by_a_clock_an_hour_ahead_blocks_no_hour(
    market: Market, in_time: list[timedelta]
) -> None:
    factories.OrderFactory(ticker=market.ticker, state="unknown", reduce_only=True, venue_order_id=None)
    in_time.append(-HOUR)
    assert leave(market).state == "approved"


def test_an_approved_exit_blocks_until_it_is_claimed_or_void(
    market: Market, in_time: list[timedelta]
) -> None:
    leave(market)
    in_time.append(HOUR)
    with pytest.raises(ExitWorking):
        leave(market)
