"""The whole life of an order by chance: whatever is heard late, twice, out of turn or never, the truth comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test as run_machine

from portfolio.models import Reservation
from tests.reliability.conftest import Figure
from tests.reliability.order_life import ARRIVES, VENUE, OrderLife
from tests.reliability.sizes import size
from trading.domain.orders import OrderState, state_from_counts
from trading.exchange.outcomes import Amended, AmendOutcome, Refused, SubmitOutcome, Unknown
from trading.exchange.reports import FillReport, OrderReport
from trading.execution import lifecycle
from trading.execution.renewal import Renewal
from trading.models import Fill, Order

PART = 200  # lives that are drawn together: what was drawn is remembered, and drawn again with changes
ENOUGH = 1_000  # lives, for every end to be among them
ENDS = {"resting", "filled", "canceled", "expired", "rejected", "not_sent", "never came"}

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
    OrderLife.seen.clear()
    live(OrderLife, lives, steps)
    figure(f"{lives} lives of up to {steps} steps: 0 differ from the reference; {dict(OrderLife.seen)}")
    assert lives < ENOUGH or OrderLife.seen.keys() >= ENDS, "a kind of end that no life had"


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


class Guessing(OrderLife):
    """No answer, so it was not placed."""

    @staticmethod
    def record_outcome(order: Order, outcome: SubmitOutcome) -> Any:
        guessed = Refused(400, "timeout", "no answer") if isinstance(outcome, Unknown) else outcome
        return lifecycle.record_outcome(order, guessed)


class TrustingRenewal(Renewal):
    def _record(self, order: Order, outcome: AmendOutcome) -> None:
        done = Amended("venue-1", order.client_order_id, None, None, None, None, timezone.now())
        Renewal._record(self, order, done if isinstance(outcome, Unknown) else outcome)


class Trusting(OrderLife):
    """Takes a renewal without an answer for done."""

    renewal = TrustingRenewal


@pytest.mark.usefixtures("past_the_guards")
@pytest.mark.parametrize("naive", [Newest, Credulous, Guessing, Trusting])
def test_a_naive_desk_is_found_out(naive: type[OrderLife]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  # an assertion, or several that hypothesis gathers
        live(naive, 1_000, 30, Phase.generate)
    assert not Fill.objects.exists()


# -- what lives have found


def given_back(*, is_heard: bool = True) -> OrderLife:
    """Eight of ten are taken off elsewhere, and given back by a renewal of ours that was under way."""
    life = OrderLife()
    life.claimed(ARRIVES, heard=True)
    life.fills(1, heard=True)
    life.is_renewed("lost", is_due=True, heard=False)
    life.is_decreased_elsewhere(1, heard=False)
    life.compares()
    life.a_lost_renewal_arrives(heard=False)
    if is_heard:
        life.compares()
    return life


def test_what_is_given_back_elsewhere_is_reserved_again() -> None:
    life = given_back()
    reserved = Reservation.objects.standing(VENUE).get().signed_quantity
    life.teardown()
    assert reserved == life.truth.remaining == 9


def test_a_fill_of_more_than_was_known_to_stand_takes_nothing_from_what_still_rests() -> None:
    """Naive: take the whole fill off what is reserved. Five filled where one was known, and four rest unreserved."""
    life = given_back(is_heard=False)
    life.fills(5, heard=True)
    life.it_never_says_more_than_the_truth()
    life.compares()
    reserved = Reservation.objects.standing(VENUE).get().signed_quantity
    life.teardown()
    assert reserved == life.truth.remaining == 4


@pytest.mark.parametrize("fills_first", [True, False])
def test_a_decrease_asked_for_after_that_leaves_what_was_asked_for(*, fills_first: bool) -> None:
    life = given_back()
    life.asks_for_a_decrease(1)
    if fills_first:
        life.fills(1, heard=True)
        life.it_never_says_more_than_the_truth()
    # The exchange's report proves the renewal that was lost: until then no decrease is sent.
    life.is_renewed("answered", is_due=False, heard=True)
    for _ in range(2):
        life.is_decreased("answered", heard=True)
        life.time_passes(11)
    row = Order.objects.get()
    left = (row.decrease_to, row.standing_quantity, row.remaining_quantity, life.truth.remaining)
    life.teardown()
    assert left == (None, life.truth.filled + 1, 1, 1)


def test_the_last_fill_of_a_decreased_order_ends_it_by_the_word_of_the_exchange() -> None:
    life = OrderLife()
    life.claimed(ARRIVES, heard=True)
    life.is_decreased_elsewhere(2, heard=True)
    life.fills(2, heard=False)
    life._tell(next(word for word in life.words if isinstance(word, FillReport)))
    before = Order.objects.get()
    life.compares()
    after = Order.objects.get()
    life.teardown()
    assert [(row.state, row.remaining_quantity) for row in (before, after)] == [
        ("partially_filled", 0),
        ("filled", 0),
    ]


def test_what_expired_before_its_decrease_was_not_taken_off() -> None:
    life = OrderLife()
    life.claimed(ARRIVES, heard=True)
    life.asks_for_a_decrease(1)
    life.fills(1, heard=False)
    life.expires(heard=False)
    life.is_decreased("answered", heard=False)
    life.is_decreased("answered", heard=False)
    life.teardown()
