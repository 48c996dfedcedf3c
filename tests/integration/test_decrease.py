"""Taking contracts off a resting order: asked for once, sent by execution, proven by the exchange's own report."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from portfolio import risk
from portfolio.models import Reservation
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import FakeExchange
from trading.exchange.outcomes import DecreaseOutcome, Unknown
from trading.exchange.reports import OrderReport
from trading.execution import cancels, fills, lifecycle
from trading.execution.decreases import AGAIN, Decreases, NotDecreasable, request_decrease
from trading.execution.reconcile import Reconciled, Reconciler
from trading.execution.renewal import renewal_body
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE
AHEAD = timedelta(seconds=120)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Lossy(FakeExchange):
    """An exchange from which no answer to a decrease comes back; `arrives` says whether it did anything."""

    arrives = True

    def decrease(
        self,
        order_id: str,
        *,
        market_ticker: str,
        reduce_to: Decimal | None = None,
        subaccount: int | None = None,
    ) -> DecreaseOutcome:
        if self.arrives:
            super().decrease(order_id, market_ticker=market_ticker, reduce_to=reduce_to)
        else:
            self.decreases.append((order_id, reduce_to or D(0)))
        return Unknown("no complete answer in 5 s")


def resting(exchange: FakeExchange, held: locks.Held) -> Order:
    factories.funded()
    proposal = factories.ProposalFactory()
    terms = {"version": 1, "terms_hash": proposal.terms_hash}
    decisions.approve(proposal=proposal, actor=factories.approver(), method="page", **terms)
    desk = Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))
    assert desk.round(held) == 1
    return Order.objects.get()


def asked(order: Order, remaining: str = "4") -> Order:
    return request_decrease(order=order, actor="operator", remaining=D(remaining))


def look(exchange: FakeExchange) -> Order:
    class Clock:
        def now(self) -> datetime:
            return timezone.now()

        def require_steady(self) -> None:
            """It is."""

    Decreases(VENUE, exchange, exchange, Clock(), AHEAD).look(lambda: None)  # type: ignore[arg-type]
    return Order.objects.get()


def test_an_order_is_left_with_what_was_asked_for_and_its_reservation_shrinks(
    exchange: FakeExchange, held: locks.Held
) -> None:
    asked(resting(exchange, held))
    look(exchange)
    fresh = look(exchange)
    assert exchange.decreases == [("venue-1", D(4))]
    assert (fresh.remaining_quantity, fresh.reduced_quantity, fresh.decrease_to) == (D(4), D(6), None)
    assert Reservation.objects.get().signed_quantity == D(4)
    assert "6.00 contracts taken off" in fresh.events.last().reason  # type: ignore[union-attr]
    assert AuditEntry.objects.get(verb="order.decrease_requested").detail["remaining"] == "4"


def test_what_filled_meanwhile_is_not_taken_for_taken_off(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: believe that everything between the old and the new remainder was taken off."""
    asked(resting(exchange, held))
    fill = exchange.execute("venue-1", D(3))
    look(exchange)
    fresh = look(exchange)
    assert (fresh.reduced_quantity, fresh.standing_quantity) == (D(3), D(7))
    fills.record_fill(VENUE, fill)
    last = exchange.execute("venue-1", D(4))
    fills.record_fill(VENUE, last)
    assert Order.objects.get().remaining_quantity == D(0)
    assert told(exchange, Order.objects.get()).state == "filled", "all of what was left"
    assert Reservation.objects.get().released_at is not None


def test_without_an_answer_the_report_proves_it_and_nothing_is_repeated(held: locks.Held) -> None:
    exchange = Lossy()
    asked(resting(exchange, held))
    look(exchange)
    assert look(exchange).reduced_quantity == D(6)
    look(exchange)
    assert len(exchange.decreases) == 1


def test_one_that_did_not_arrive_is_repeated_only_after_a_while(held: locks.Held) -> None:
    exchange = Lossy()
    exchange.arrives = False
    asked(resting(exchange, held))
    for _ in range(3):
        look(exchange)
    assert len(exchange.decreases) == 1
    exchange.arrives = True
    Order.objects.update(decrease_sent_at=timezone.now() - AGAIN)
    look(exchange)
    assert look(exchange).reduced_quantity == D(6)


def test_after_it_a_renewal_names_the_smaller_total(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: the amend repeats the approved quantity, and gives the order back what was taken off."""
    asked(resting(exchange, held))
    look(exchange)
    order = look(exchange)
    order.renewal_until = timezone.now()
    assert b'"count":"4.00"' in renewal_body(order)


def test_a_comparison_does_not_take_our_own_decrease_for_a_strangers_change(
    exchange: FakeExchange, held: locks.Held
) -> None:
    asked(resting(exchange, held))
    look(exchange)
    look(exchange)
    for first_count in (D(10), D(4)):  # before and after a renewal that names the smaller total
        exchange._change("venue-1", initial_quantity=first_count)
        found = Reconciled()
        Reconciler(VENUE, exchange, exchange).orders(found)  # type: ignore[arg-type]
        assert found.differences == []
    exchange._change("venue-1", initial_quantity=D(7), remaining_quantity=D(7))
    found = Reconciled()
    Reconciler(VENUE, exchange, exchange).orders(found)  # type: ignore[arg-type]
    assert [each.kind for each in found.differences] == ["changed_elsewhere"]


def test_it_waits_while_a_renewal_may_still_arrive_and_no_renewal_goes_out_meanwhile(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = resting(exchange, held)
    assert order.expires_at is not None
    doubtful = order.expires_at - AHEAD / 2  # sent when it was due, and its expiry has not come of it
    Order.objects.update(renewal_signed_at=doubtful)
    asked(Order.objects.get())
    assert not Order.objects.renewable().exists()
    look(exchange)
    assert exchange.decreases == []
    Order.objects.update(expires_at=doubtful + AHEAD)
    look(exchange)
    assert len(exchange.decreases) == 1


def test_it_works_under_a_stop_until_the_cancel_is_asked_for(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = resting(exchange, held)
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    asked(order)
    cancels.request_cancel(order=Order.objects.get(), actor="operator")
    look(exchange)
    assert exchange.decreases == []


@pytest.mark.parametrize("remaining", ["0", "10", "11", "-1"])
def test_only_fewer_contracts_and_at_least_some_can_be_left(
    exchange: FakeExchange, held: locks.Held, remaining: str
) -> None:
    with pytest.raises(NotDecreasable):
        asked(resting(exchange, held), remaining)


def test_an_order_that_is_over_or_to_be_canceled_cannot_be_decreased() -> None:
    for order in (
        factories.OrderFactory(state="filled"),
        factories.OrderFactory(cancel_requested_at=timezone.now()),
    ):
        with pytest.raises(NotDecreasable):
            asked(order)


def test_the_api_asks_and_refuses() -> None:
    caller, order = Caller.of("approver"), factories.OrderFactory()
    answer = caller.post(f"/orders/{order.public_id}/decrease", {"remaining": "4"})
    assert (answer.status_code, answer.json()["decrease_to"]) == (200, "4.00")
    refused = caller.post(f"/orders/{order.public_id}/decrease", {"remaining": "40"})
    assert (refused.status_code, code_of(refused)) == (409, "E212")


def test_the_page_of_an_order_asks_and_refuses(client: Client) -> None:
    client.force_login(factories.approver())
    order = factories.OrderFactory()
    assert "Decrease" in client.get(f"/orders/{order.public_id}").content.decode()
    for given, wanted in (("many", None), ("40", None), ("4", D(4))):
        client.post(f"/orders/{order.public_id}/decrease", {"remaining": given})
        assert Order.objects.get().decrease_to == wanted
    assert "on its way" in client.get(f"/orders/{order.public_id}").content.decode()


# --- by somebody else, elsewhere


def told(exchange: FakeExchange, order: Order) -> Order:
    return lifecycle.record_report(order, exchange.book["venue-1"])


def test_what_somebody_takes_off_elsewhere_is_taken_off_here_once_and_the_rest_fills_the_order(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = resting(exchange, held)
    fills.record_fill(VENUE, exchange.execute("venue-1", D(2)))
    exchange.decrease("venue-1", market_ticker=order.ticker, reduce_to=D(2))
    told(exchange, order)
    fresh = told(exchange, order)
    assert (fresh.standing_quantity, fresh.remaining_quantity, fresh.decrease_requested_by) == (
        D(4),
        D(2),
        lifecycle.ELSEWHERE,
    )
    assert Reservation.objects.get().signed_quantity == D(2)
    fills.record_fill(VENUE, exchange.execute("venue-1", D(2)))
    assert Order.objects.get().state == "partially_filled", "they may have put back what they took off"
    told(exchange, Order.objects.get())
    assert Order.objects.get().state == "filled", "the exchange says so"
    assert Reservation.objects.get().released_at is not None


def test_an_order_that_somebody_made_smaller_and_larger_again_is_not_over_before_the_exchange_says_so(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: it is over with what was left when it was made smaller, and what still rests cannot be canceled."""
    order = resting(exchange, held)
    report = exchange.book["venue-1"]
    exchange.decrease("venue-1", market_ticker=order.ticker, reduce_to=D(4))
    told(exchange, order)
    exchange.book["venue-1"] = report
    fills.record_fill(VENUE, exchange.execute("venue-1", D(6)))
    fresh = told(exchange, Order.objects.get())
    assert (fresh.state, fresh.filled_quantity, fresh.remaining_quantity) == ("partially_filled", D(6), D(4))
    assert Reservation.objects.get().signed_quantity == D(4), "of four known six filled, and four more rest"
    assert fresh in Order.objects.cancelable()


def test_a_report_in_the_middle_of_our_own_decrease_is_no_decrease_of_others(
    exchange: FakeExchange, held: locks.Held
) -> None:
    asked(resting(exchange, held))
    look(exchange)
    assert told(exchange, Order.objects.get()).reduced_quantity == D(0), "nobody has proven it yet"
    fresh = look(exchange)
    assert (fresh.reduced_quantity, fresh.decrease_requested_by) == (D(6), "operator")


def test_neither_an_end_nor_an_old_report_is_taken_for_a_decrease(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = resting(exchange, held)
    early = exchange.book["venue-1"]
    fills.record_fill(VENUE, exchange.execute("venue-1", D(3)))
    assert lifecycle.record_report(Order.objects.get(), early).reduced_quantity == D(0)
    exchange.cancel("venue-1", market_ticker=order.ticker)
    ended = told(exchange, Order.objects.get())
    assert (ended.state, ended.filled_quantity, ended.reduced_quantity) == ("canceled", D(3), D(0))


def test_a_decrease_of_what_others_enlarged_leaves_nothing_above_the_approval_to_be_renewed(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: believe the exchange's total. The next renewal would ask for fifteen where ten were approved."""
    order = resting(exchange, held)
    exchange._change("venue-1", initial_quantity=D(20), remaining_quantity=D(20))
    asked(told(exchange, order), "15")
    look(exchange)
    fresh = look(exchange)
    assert (fresh.decrease_to, fresh.remaining_quantity, fresh.standing_quantity) == (None, D(15), D(10))


def test_a_still_smaller_wish_is_not_taken_for_done_by_the_proof_of_the_one_before(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: whatever is wanted when the proof is written down was proven. Five rest where three were asked for."""
    asked(resting(exchange, held), "5")
    look(exchange)
    told(exchange, Order.objects.get())
    read = exchange.order

    def meanwhile(order_id: str) -> OrderReport:
        report = read(order_id)
        asked(Order.objects.get(), "3")
        monkeypatch.undo()
        return report

    monkeypatch.setattr(exchange, "order", meanwhile)
    assert look(exchange).decrease_to == D(3)
    for _ in range(2):
        fresh = look(exchange)
    assert (fresh.decrease_to, fresh.remaining_quantity, fresh.standing_quantity) == (None, D(3), D(3))


def test_a_fill_of_all_that_was_approved_does_not_end_what_others_enlarged(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: ten of ten are whole, and ten more rest that nobody can cancel here."""
    order = resting(exchange, held)
    exchange._change("venue-1", initial_quantity=D(20), remaining_quantity=D(20))
    told(exchange, order)
    fills.record_fill(VENUE, exchange.execute("venue-1", D(10)))
    fresh = Order.objects.get()
    assert (fresh.state, fresh.remaining_quantity) == ("partially_filled", D(10))
    assert Reservation.objects.standing(VENUE).get().signed_quantity == D(10)
