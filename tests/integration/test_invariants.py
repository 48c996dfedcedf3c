"""What must always hold: it holds after every deed of the desk, and each breach is found by name."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from approvals.models import Decision, Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from portfolio import risk
from portfolio.models import Position, PositionEvent, Reservation
from tests import factories
from tests.factories import approved
from tests.fakes import Behaviour, FakeExchange, accept, drop_after_accept, fill
from trading.domain.orders import OrderState
from trading.engine import invariants
from trading.engine.invariants import INVARIANTS, broken
from trading.execution import cancels, claims, lifecycle, renewal, work_items
from trading.execution.exits import close_position
from trading.execution.reconcile import Evidence, Reconciler
from trading.execution.router import Router
from trading.models import Fill, Order, OrderEvent, WorkItem

VENUE = factories.VENUE
LONG_AGO = timedelta(minutes=5)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def sent(exchange: FakeExchange, held: locks.Held, answer: Behaviour) -> Order:
    """One order through the real claim and send, with fills booked by a comparison."""
    exchange.behaviour = answer
    proposal = approved()
    Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)
    Reconciler(VENUE, exchange, exchange, Evidence(timedelta(0), timedelta(0), 2)).run()  # type: ignore[arg-type]
    return Order.objects.get(proposal=proposal)


def compare(exchange: FakeExchange) -> None:
    Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]


def adopted(exchange: FakeExchange) -> Order:
    """One that somebody placed by hand, found by a comparison."""
    terms = {"ticker": factories.quoted_market().ticker, "side": "bid", "price": "0.40", "count": "10"}
    exchange.rest(terms | {"client_order_id": "by-hand"})
    compare(exchange)
    return Order.objects.get(origin="external")


def counted(order: Order, filled: int) -> Order:
    """The exchange's word that so much of it has filled; nobody tells of the executions."""
    return lifecycle.advance(
        order,
        OrderState.PARTIALLY_FILLED,
        evidence="exchange: partially_filled",
        at_least_filled=Decimal(filled),
    )


def renewed(order: Order) -> None:
    Order.objects.filter(pk=order.pk).update(renewal_until=timezone.now() + LONG_AGO)
    order.refresh_from_db()
    renewal._prove(order, "renewed")


def stop_and_resume(scope: str = "") -> None:
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope=scope)
    risk.resume(venue=VENUE, actor="operator", reason="over", scope=scope)


def names(**later: float) -> list[str]:
    return [breach.name for breach in broken(VENUE, timezone.now() + timedelta(**later))]


def test_an_empty_desk_is_whole() -> None:
    assert names() == []


@pytest.mark.parametrize("answer", [accept, fill, drop_after_accept])
def test_the_books_are_whole_after_a_whole_life_of_an_order(
    exchange: FakeExchange, held: locks.Held, answer: Behaviour
) -> None:
    order = sent(exchange, held, answer)
    assert names(minutes=10) == []
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    cancels.request_cancel_all(venue=VENUE, actor="operator")
    assert names(minutes=10) == []
    if Position.objects.held(VENUE).exists():
        close_position(venue=VENUE, ticker=order.ticker, actor="operator")
        exchange.behaviour = fill
        Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)
        assert names(minutes=10) == ["underbooked"]  # nobody has told us of the exit's fill yet
        Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]
    assert names(minutes=10) == []


def test_the_books_are_whole_after_a_whole_life_of_an_order_that_was_found(exchange: FakeExchange) -> None:
    """Naive: its reservation stands until its fills are booked, as for an order of ours."""
    order = adopted(exchange)
    assert names(minutes=10) == []
    exchange.execute("venue-1", Decimal(4))
    compare(exchange)
    assert names(minutes=10) == []
    exchange.execute("venue-1", Decimal(6))
    lifecycle.record_report(order, exchange.book["venue-1"])
    assert Fill.objects.count() == 1 and names(minutes=10) == []
    compare(exchange)
    assert Fill.objects.count() == 2 and names(minutes=10) == []


def _forget_the_reservation(order: Order) -> None:
    Reservation.objects.all().delete()


def _leave_a_reservation(order: Order) -> None:
    Reservation.objects.update(released_at=None)


def _end_without_evidence(order: Order) -> None:
    Order.objects.update(state="canceled", evidence="")
    Reservation.objects.update(released_at=timezone.now())


def _forget_a_send(order: Order) -> None:
    Order.objects.update(state="sending", answer_due_at=timezone.now() - LONG_AGO)


def _take_the_approval_away(order: Order) -> None:
    Decision.objects.all().delete()


def _give_the_fill_to_nobody(order: Order) -> None:
    Fill.objects.update(order=None)


def _book_too_much(order: Order) -> None:
    Order.objects.update(filled_quantity=Decimal(1))


def _move_a_position(order: Order) -> None:
    Position.objects.update(quantity=Decimal(3))


def _lose_a_position(order: Order) -> None:
    """Naive: the positions that there are add up."""
    PositionEvent.objects.all().delete()
    Position.objects.all().delete()


def _lose_a_fill_of_a_renewed_order(order: Order) -> None:
    """Naive: it is dated by its row, which each renewal touches."""
    counted(order, 2)
    OrderEvent.objects.update(at=F("at") - LONG_AGO)
    renewed(order)


def _lose_the_first_of_many_fills(order: Order) -> None:
    """Naive: it is dated by the last count."""
    counted(order, 1)
    OrderEvent.objects.update(at=F("at") - LONG_AGO)
    order.refresh_from_db()
    counted(order, 2)


def _forget_the_attempt(order: Order) -> None:
    Order.objects.update(attempts=0)


def _fill_another_order(order: Order) -> None:
    Fill.objects.update(venue_order_id="venue-2")


def _reserve_for_nobody(order: Order) -> None:
    Reservation.objects.update(key="nobody")


def _keep_a_cost(order: Order) -> None:
    Position.objects.create(venue=VENUE, ticker="OTHER", event_ticker="OTHER", cost=Decimal(1))


def _lose_a_row_of_history(order: Order) -> None:
    OrderEvent.objects.filter(order=order).last().delete()  # type: ignore[union-attr]


def _reserve_too_little(order: Order) -> None:
    """Naive: that something is reserved is enough."""
    Reservation.objects.update(signed_quantity=F("signed_quantity") / 2)


def _fill_beyond_the_approval(order: Order) -> None:
    """Naive: the fill is compared with the order, which has grown as well."""
    more = order.quantity + 1
    Order.objects.update(quantity=more, filled_quantity=more)


def _lose_the_audit_of_a_move(order: Order) -> None:
    AuditEntry.objects.filter(verb="proposal.approved").delete()


def _lose_the_audit_of_a_resume(order: Order) -> None:
    """Naive: that it was said once is enough."""
    for _ in range(2):
        stop_and_resume()
    assert names() == []
    AuditEntry.objects.filter(verb="trading.resume").last().delete()  # type: ignore[union-attr]


def _claim_after_a_stop(order: Order) -> None:
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    AuditEntry.objects.filter(verb="proposal.claimed").update(id=F("id") + 100)


BREACHES: list[tuple[str, Behaviour, Callable[[Order], None]]] = [
    ("unreserved", accept, _forget_the_reservation),
    ("unreserved", accept, _reserve_too_little),
    ("left_over", fill, _leave_a_reservation),
    ("left_over", accept, _reserve_for_nobody),
    ("unexplained", accept, _end_without_evidence),
    ("overdue", accept, _forget_a_send),
    ("unapproved", accept, _take_the_approval_away),
    ("orphaned_fills", fill, _give_the_fill_to_nobody),
    ("overbooked", fill, _book_too_much),
    ("underbooked", accept, _lose_a_fill_of_a_renewed_order),
    ("underbooked", accept, _lose_the_first_of_many_fills),
    ("sent_twice", accept, _forget_the_attempt),
    ("doubled", fill, _fill_another_order),
    ("wrong_positions", fill, _move_a_position),
    ("wrong_positions", fill, _lose_a_position),
    ("costly_nothing", accept, _keep_a_cost),
    ("history_gaps", accept, _lose_a_row_of_history),
    ("overfilled", fill, _fill_beyond_the_approval),
    ("unaudited_moves", accept, _lose_the_audit_of_a_move),
    ("unaudited_states", accept, _lose_the_audit_of_a_resume),
    ("claims_after_stop", accept, _claim_after_a_stop),
]


@pytest.mark.parametrize(("name", "answer", "breach"), BREACHES, ids=[name for name, *_ in BREACHES])
@pytest.mark.usefixtures("past_the_guards")
def test_each_breach_is_found_by_name(
    exchange: FakeExchange, held: locks.Held, name: str, answer: Behaviour, breach: Callable[[Order], None]
) -> None:
    order = sent(exchange, held, answer)
    assert names() == []
    breach(order)
    assert name in names()


def _end_and_keep_the_reservation(order: Order) -> None:
    lifecycle.advance(
        order, OrderState.CANCELED, evidence="exchange: canceled", remaining_quantity=Decimal(0)
    )
    assert names() == []
    _leave_a_reservation(order)


@pytest.mark.parametrize(
    ("name", "breach"),
    [("unreserved", _forget_the_reservation), ("left_over", _end_and_keep_the_reservation)],
)
def test_a_breach_of_an_order_that_was_found_is_named(
    exchange: FakeExchange, name: str, breach: Callable[[Order], None]
) -> None:
    """Naive: what is reserved is reserved for proposals."""
    order = adopted(exchange)
    assert names() == []
    breach(order)
    assert [(each.name, each.examples) for each in broken(VENUE)] == [(name, (order.public_id,))]


def test_a_second_order_of_the_exchange_under_an_id_of_ours_is_named_until_a_person_has_resolved_it(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: it is asked whether two rows share an order of the exchange, which the database forbids."""
    sent(exchange, held, accept)
    exchange.rest(exchange.sent[0])
    compare(exchange)
    again = Order.objects.get(origin="orphan")
    assert [(each.name, each.examples) for each in broken(VENUE)] == [("doubled", (again.public_id,))]
    work_items.resolve(item=WorkItem.objects.get(order=again.public_id), actor="risk1", reason="it is known")
    assert names() == []


def test_an_orphan_of_another_desk_alone_is_no_second_order(exchange: FakeExchange, held: locks.Held) -> None:
    sent(exchange, held, accept)
    exchange.rest(exchange.sent[0] | {"client_order_id": "kp-of-another-desk"})
    compare(exchange)
    assert Order.objects.filter(origin="orphan").exists() and names() == []


def test_a_count_is_to_be_booked_within_a_minute(exchange: FakeExchange, held: locks.Held) -> None:
    order = counted(sent(exchange, held, accept), 2)
    renewed(order)
    assert names(seconds=55) == []
    assert names(seconds=65) == ["underbooked"]
    exchange.execute("venue-1", Decimal(2))
    compare(exchange)
    assert Fill.objects.exists() and names(seconds=65) == []


def test_a_fill_that_is_booked_between_two_questions_is_no_breach(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: positions are read after the fills, and one of them has grown meanwhile."""
    sent(exchange, held, accept)
    exchange.execute("venue-1", Decimal(2))
    booking = AfterTheFirst(lambda: compare(exchange))
    with connection.execute_wrapper(booking):
        assert invariants._wrong_positions(VENUE, timezone.now()) == []
    assert Fill.objects.exists() and names() == []


def forget_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive claim: an approval is judged once, when it is given."""
    monkeypatch.setattr(claims, "stopped_since", lambda *_: "")
    monkeypatch.setattr(claims, "_reason_not_to_send", lambda *_: "")


def claimed(exchange: FakeExchange, held: locks.Held, proposal: Proposal) -> Order:
    """Its order, whether the last look lets it go out or not."""
    Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)
    return Order.objects.get(proposal=proposal)


@pytest.mark.parametrize("kind", ["", "market", "series", "strategy"])
def test_a_claim_that_forgets_the_stop_is_named(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It carries the epoch of after the stop: naive is to ask for the epoch alone."""
    proposal = approved()
    of = {"market": proposal.ticker, "series": proposal.series_ticker, "strategy": proposal.strategy}
    scope = f"{kind}:{of[kind]}" if kind else ""
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope=scope)
    forget_the_stop(monkeypatch)
    order = claimed(exchange, held, proposal)
    assert order.kill_epoch == risk.trading_state(VENUE).kill_epoch == 1
    risk.resume(venue=VENUE, actor="operator", reason="over", scope=scope)
    assert [(each.name, each.examples) for each in broken(VENUE)] == [
        ("claims_after_stop", (order.public_id,))
    ]


def test_a_claim_with_the_epoch_of_before_a_stop_is_named(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The naive claim looks at the trading state before it holds its row."""
    before = risk.trading_state(VENUE)
    stop_and_resume()
    proposal = approved()
    monkeypatch.setattr(claims.risk, "trading_state", lambda *_, **__: before)
    order = claimed(exchange, held, proposal)
    assert [(each.name, each.examples) for each in broken(VENUE)] == [
        ("claims_after_stop", (order.public_id,))
    ]


def test_a_claim_before_a_stop_is_lawful_whatever_the_clocks_say(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: times are compared, and execution's clock is a second ahead of the page's."""
    sent(exchange, held, accept)
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    Order.objects.update(created_at=timezone.now() + timedelta(seconds=1))
    assert names() == []


def test_a_claim_under_stops_that_are_over_or_of_something_else_is_lawful(
    exchange: FakeExchange, held: locks.Held
) -> None:
    stop_and_resume()
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope="market:ANOTHER")
    risk.note_cleared(risk.trading_state(VENUE, scope="market:ANOTHER"))
    risk.halt(
        venue=VENUE, actor="operator", reason="drill", scope="market:ANOTHER"
    )  # proven anew: no new stop
    proposal = approved()
    risk.pause(venue=VENUE, actor="operator", reason="drill")
    risk.resume(venue=VENUE, actor="operator", reason="over")
    assert claimed(exchange, held, proposal).kill_epoch == 2
    assert AuditEntry.objects.filter(verb="trading.halt").count() == 3
    assert names() == []


def test_a_resume_and_a_claim_in_the_middle_of_the_look_are_no_breach(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: the trading state is read before the claims, and one after a resume looks like one under the stop."""
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    read = invariants._said_of_states

    def and_on_it_goes(venue: str) -> list[invariants._Said]:
        said = read(venue)
        risk.resume(venue=VENUE, actor="operator", reason="over")
        claimed(exchange, held, approved())
        return said

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(invariants, "_said_of_states", and_on_it_goes)
        assert invariants._claims_after_stop(VENUE, timezone.now()) == []
    assert Order.objects.exists() and names() == []


def test_an_approval_that_nobody_takes_is_found_while_trading_is_active() -> None:
    approved()
    assert names() == []
    assert names(seconds=31) == ["unclaimed"]
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    assert names(seconds=31) == []


def test_what_the_database_refuses_cannot_be_broken_at_all(exchange: FakeExchange, held: locks.Held) -> None:
    order = sent(exchange, held, accept)
    refused: list[Callable[[], object]] = [
        lambda: Order.objects.update(attempts=2),
        lambda: Order.objects.update(filled_quantity=order.quantity + 1),
        lambda: Decision.objects.update(proposer="approver1"),
        lambda: factories.OrderFactory(proposal=order.proposal),
        lambda: factories.OrderFactory(venue_order_id=order.venue_order_id),
    ]
    for deed in refused:
        with pytest.raises(IntegrityError), transaction.atomic():
            deed()
    beyond_reach = {"own_decisions", "two_orders", "two_owners"}
    tried = {name for name, *_ in BREACHES} | {"unclaimed"} | beyond_reach
    assert {each.name for each in INVARIANTS} == tried


def test_an_invariant_that_cannot_be_asked_counts_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> list[str]:
        raise RuntimeError("no answer")

    odd = invariants.Invariant("odd", "Answers.", breaks)
    monkeypatch.setattr(invariants, "INVARIANTS", (odd,))
    assert [(each.name, each.count) for each in broken(VENUE)] == [("odd", 1)]


def test_the_command_says_what_is_broken_and_its_exit_code_repeats_it() -> None:
    told = StringIO()
    call_command("check_invariants", stdout=told)
    assert told.getvalue().strip() == f"All {len(INVARIANTS)} invariants hold."
    Position.objects.create(venue=VENUE, ticker="OTHER", event_ticker="OTHER", cost=Decimal(1))
    told = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_invariants", "--json", stdout=told)
    assert ended.value.code == 1
    report = json.loads(told.getvalue())
    assert [(each["name"], each["examples"]) for each in report["broken"]] == [("costly_nothing", ["OTHER"])]


def test_asking_costs_hardly_more_than_a_query_each() -> None:
    with connection.execute_wrapper(counted := Counted()):
        broken(VENUE)
    assert counted.queries <= len(INVARIANTS) + 6


class Counted:
    """Counts the queries that pass."""

    def __init__(self) -> None:
        self.queries = 0

    def __call__(self, execute: Callable[..., object], *arguments: object) -> object:
        self.queries += 1
        return execute(*arguments)


class AfterTheFirst:
    """Does something else after the first query that passes."""

    def __init__(self, deed: Callable[[], None]) -> None:
        self.deed: Callable[[], None] | None = deed

    def __call__(self, execute: Callable[..., object], *arguments: object) -> object:
        answer = execute(*arguments)
        deed, self.deed = self.deed, None
        if deed is not None:
            deed()
        return answer
