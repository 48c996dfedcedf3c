"""The whole life of an order by chance: whatever is heard late, twice, out of turn or never, the truth comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test as run_machine

from tests.reliability.conftest import Figure
from tests.reliability.order_life import OrderLife
from tests.reliability.sizes import size
from trading.domain.orders import OrderState, state_from_counts
from trading.exchange.reports import FillReport, OrderReport
from trading.execution import lifecycle
from trading.models import Fill, Order

PART = 500  # lives that are drawn together: what was drawn is remembered

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of lives log a great deal that is as it should be."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def live(machine: type[OrderLife], lives: int, steps: int, *phases: Phase) -> None:
    while lives > 0:
        chosen = settings(
            max_examples=min(lives, PART),
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            phases=phases or (Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        run_machine(machine, settings=chosen)
        lives -= PART


def test_the_truth_comes_out_whatever_was_heard(figure: Figure) -> None:
    lives, steps = size("order_lives"), size("order_steps")
    live(OrderLife, lives, steps)
    figure(f"{lives} lives of up to {steps} steps: 0 differ from the reference")


def test_an_absent_order_that_came_and_went_between_two_looks_is_known_a_minute_later() -> None:
    life = OrderLife()
    life.claimed()
    life.hears_nothing_in_time()
    life.judges_it_absent()
    life.compares()
    life.arrives(heard=False)
    life.is_canceled(heard=False)
    life.teardown()


class Newest(OrderLife):
    """Believes whatever it heard last."""

    @staticmethod
    def record_report(order: Order, report: OrderReport) -> Any:
        told = {"state": report.state.value, "filled_quantity": report.filled_quantity}
        return Order.objects.filter(pk=order.pk).update(**told, venue_order_id=report.order_id)


class Credulous(OrderLife):
    """Adds up fills without looking whether one is booked already."""

    @staticmethod
    def record_fill(_: str, report: FillReport) -> Any:
        order = Order.objects.get(proposal__isnull=False)
        lifecycle.advance(
            order,
            report_state(order, report),
            evidence=f"fill {report.trade_id}",
            at_least_filled=order.filled_quantity + report.quantity,
        )


def report_state(order: Order, report: FillReport) -> OrderState:
    filled = order.filled_quantity + report.quantity
    return state_from_counts(filled, order.quantity - filled)


@pytest.mark.usefixtures("past_the_guards")
@pytest.mark.parametrize("naive", [Newest, Credulous])
def test_a_naive_desk_is_found_out(naive: type[OrderLife]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  # an assertion, or several that hypothesis gathers
        live(naive, 200, 30, Phase.generate)
    assert not Fill.objects.exists()
