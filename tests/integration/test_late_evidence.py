"""Evidence that comes late, twice, or against what we believed; and an account that already holds something."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from kalshi_site.versioning import StaleVersion
from portfolio import ledger
from portfolio.models import Position
from tests import factories
from tests.fakes import FakeExchange
from trading.domain.orders import IllegalMove, OrderState
from trading.exchange.outcomes import Accepted
from trading.exchange.reports import OrderReport, PositionReport
from trading.execution import cancels, changes, fills, lifecycle
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def placed(exchange: FakeExchange, **fields: Any) -> tuple[Order, OrderReport]:
    """A resting order of ours and its twin on the exchange."""
    order = factories.OrderFactory(**({"venue_order_id": "venue-1"} | fields))
    report = exchange.rest(
        {"client_order_id": order.client_order_id, "ticker": order.ticker, "side": "bid"}
        | {"price": "0.50", "count": "10"}
    )
    return order, report


def reconciler(exchange: FakeExchange) -> Reconciler:
    return Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]


def test_an_order_canceled_by_its_own_expiry_is_expired() -> None:
    order, report = placed(FakeExchange(), expires_at=timezone.now() - timedelta(seconds=1))
    told = lifecycle.record_report(order, replace(report, state=OrderState.CANCELED, remaining_quantity=D(0)))
    assert (told.state, told.remaining_quantity) == ("expired", D(0))


def test_a_report_from_before_a_fill_changes_nothing() -> None:
    exchange = FakeExchange()
    order, early = placed(exchange)
    fills.record_fill(VENUE, exchange.execute("venue-1", D(4)))
    order.refresh_from_db()
    assert lifecycle.record_report(order, early).version == order.version
    assert Order.objects.get().state == "partially_filled"


def test_what_an_immediate_order_did_not_fill_is_canceled_at_once() -> None:
    order = factories.OrderFactory(state="sending", venue_order_id=None)
    answer = Accepted("venue-1", order.client_order_id, D(4), D(0), D("0.50"), D(0), timezone.now())
    told = lifecycle.record_outcome(order, answer)
    assert (told.state, told.filled_quantity) == ("canceled", D(4))


def test_a_fill_of_an_order_that_we_believed_refused_is_booked_all_the_same() -> None:
    exchange = FakeExchange()
    placed(exchange, state="rejected")
    assert fills.record_fill(VENUE, exchange.execute("venue-1", D(10))) is not None
    assert Position.objects.get().quantity == D(10)
    assert Order.objects.get().state == "rejected"


def test_a_move_that_the_table_forbids_is_refused_by_name() -> None:
    order = factories.OrderFactory(state="rejected")
    with pytest.raises(IllegalMove):
        lifecycle.advance(order, OrderState.RESTING, evidence="a ghost")


def test_a_change_is_tried_on_the_fresh_row_and_given_up_when_it_never_holds() -> None:
    order = factories.OrderFactory()
    Order.objects.update(version=5)
    assert cancels.request_cancel(order=order, actor="approver1").cancel_requested_by == "approver1"

    def never(current: Order) -> Order:
        raise StaleVersion(current, 1, current)

    with pytest.raises(StaleVersion):
        changes.retried(order, never)


def test_asking_to_cancel_twice_is_one_request() -> None:
    order = factories.OrderFactory()
    first = cancels.request_cancel(order=order, actor="approver1")
    again = cancels.request_cancel(order=order, actor="somebody else")
    assert (again.version, again.cancel_requested_by) == (first.version, "approver1")


def test_an_account_that_already_holds_something_is_taken_over_with_its_cost() -> None:
    exchange = FakeExchange(cash=D("9000.25"))
    market = factories.quoted_market()
    exchange.positions = lambda **_: [  # type: ignore[method-assign]
        PositionReport(market.ticker, D(-20), D("8.40"), D(0), D(0), D("8.40"), timezone.now(), 0)
    ]
    found = reconciler(exchange).run()
    assert found.is_clean
    held = Position.objects.get()
    assert (held.quantity, held.cost, held.title) == (D(-20), D("8.40"), market.title)
    assert ledger.cash(VENUE) == D("9000.25")


def test_a_position_that_differs_is_named_with_both_numbers() -> None:
    exchange = FakeExchange()
    reconciler(exchange).run()
    Position.objects.create(venue=VENUE, ticker="SIMGHOST", event_ticker="SIMGHOST", quantity=D(3), cost=D(1))
    found = reconciler(exchange).run()
    assert found.position_drift == {"SIMGHOST": "exchange 0, ours 3.00"}
    assert not found.is_clean


def test_an_order_that_the_exchange_does_not_show_yet_is_left_as_it_is() -> None:
    exchange = FakeExchange()
    factories.OrderFactory(venue_order_id="venue-not-there-yet")
    reconciler(exchange).run()
    assert Order.objects.get().state == "resting"


def test_an_order_without_an_exchange_id_cannot_be_canceled_by_it() -> None:
    exchange = FakeExchange()
    order = factories.OrderFactory(venue_order_id=None)
    Router(VENUE, exchange, uuid.UUID(int=1)).cancel(order)
    assert Order.objects.get().state == "resting"
