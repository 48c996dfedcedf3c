"""What the database refuses whoever writes: each guard is met past the desk, by an update, a delete or plain SQL."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from approvals.domain.lifecycle import PROPOSAL_TRANSITIONS, ProposalState
from approvals.models import Decision, Proposal, ProposalEvent
from kalshi_site import audit, guards
from kalshi_site.live import changed
from kalshi_site.models import AuditEntry, ChangeLog, Lease
from portfolio.models import CashEntry
from tests import factories
from trading.domain.orders import ORDER_TRANSITIONS, OrderState
from trading.models import Fill, Order, OrderEvent

D = Decimal

pytestmark = pytest.mark.django_db


def decide(proposal: Proposal, **changes: Any) -> Decision:
    fields = {
        "proposal": proposal,
        "version": 1,
        "terms_hash": proposal.terms_hash,
        "actor": factories.approver(),
        "actor_name": "approver1",
        "proposer": proposal.proposer,
        "verdict": "approve",
        "method": "page",
        "at": timezone.now(),
    }
    return Decision.objects.create(**(fields | changes))


def filled(order: Order, quantity: str, trade: str = "t-1") -> Fill:
    return Fill.objects.create(
        public_id=f"fil_{trade}",
        venue=order.venue,
        order=order,
        trade_id=trade,
        venue_order_id=order.venue_order_id or "",
        ticker=order.ticker,
        action="buy",
        side="yes",
        book_side="bid",
        quantity=D(quantity),
        yes_price=D("0.5"),
        fee=D(0),
        is_taker=True,
        at=timezone.now(),
    )


@pytest.fixture
def facts() -> None:
    """One row of every kind that is guarded."""
    order = factories.OrderFactory()
    decide(order.proposal)
    filled(order, "1")
    factories.funded()
    OrderEvent.objects.create(order=order, version=1, to_state="resting", actor="exchange")
    ProposalEvent.objects.create(proposal=order.proposal, version=1, to_state="pending", actor="analyst")
    audit.record(actor="a", verb="v", object_type="t", object_id="o")
    changed("orders", key=order.public_id, version=1, kind="resting")
    Lease.objects.create(name="execution", fence=7, expires_at=timezone.now())


Deed = Callable[[], Any]
FORBIDDEN: dict[str, Deed] = {
    "other quantity": lambda: Proposal.objects.update(quantity=D(11)),
    "other price": lambda: Proposal.objects.update(limit_price=D("0.51")),
    "other side": lambda: Proposal.objects.update(side="no"),
    "other hash": lambda: Proposal.objects.update(terms_hash="0" * 64),
    "other proposer": lambda: Proposal.objects.update(proposer="approver1"),
    "a proposal gone": lambda: sql("DELETE FROM approvals_proposal"),
    "a decision turned": lambda: Decision.objects.update(verdict="decline"),
    "a decision gone": lambda: Decision.objects.all().delete(),
    "history rewritten": lambda: OrderEvent.objects.update(reason="another"),
    "history gone": lambda: ProposalEvent.objects.all().delete(),
    "audit rewritten": lambda: sql("UPDATE kalshi_site_auditentry SET actor = 'somebody'"),
    "audit gone": lambda: AuditEntry.objects.all().delete(),
    "a change renumbered": lambda: ChangeLog.objects.update(version=9),
    "a fill changed": lambda: Fill.objects.update(quantity=D(2)),
    "a fill gone": lambda: Fill.objects.all().delete(),
    "cash changed": lambda: CashEntry.objects.update(amount=D(1)),
    "cash gone": lambda: CashEntry.objects.all().delete(),
    "other bytes": lambda: Order.objects.update(body="{}"),
    "another subaccount": lambda: Order.objects.update(subaccount=1),
    "a larger order": lambda: Order.objects.update(quantity=D(11)),
    "a dearer order": lambda: Order.objects.update(limit_price=D("0.51")),
    "another id there": lambda: Order.objects.update(venue_order_id="venue-other"),
    "an order gone": lambda: sql("DELETE FROM trading_order"),
    "a fence that falls": lambda: Lease.objects.update(fence=6),
    "more filled than ordered": lambda: filled(Order.objects.get(), "9.01", "t-2"),
    "a decision of other terms": lambda: decide(Proposal.objects.get(), terms_hash="0" * 64, **another()),
    "a decision in another's name": lambda: decide(Proposal.objects.get(), proposer="nobody", **another()),
}


def another() -> dict[str, Any]:
    return {"actor": factories.approver("approver2"), "actor_name": "approver2"}


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("deed", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_the_database_refuses(deed: Deed) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        deed()


@pytest.mark.usefixtures("facts", "past_the_guards")
@pytest.mark.parametrize(
    "name", [name for name in FORBIDDEN if name not in {"a proposal gone", "an order gone"}]
)
def test_without_the_guards_it_goes_through(name: str) -> None:
    """The naive database. Rows that others refer to are kept by their foreign keys as well."""
    with transaction.atomic():
        FORBIDDEN[name]()


@pytest.mark.usefixtures("facts")
def test_what_the_desk_does_goes_through() -> None:
    assert Order.objects.update(quantity=D(9), state="partially_filled", sent_at=timezone.now()) == 1
    assert filled(Order.objects.get(), "8", "t-2").pk
    assert Lease.objects.update(fence=8) == 1
    assert ChangeLog.objects.all().delete()[0] == 1


ILLEGAL_ORDER = [(b, a) for b in OrderState for a in OrderState if a != b and a not in ORDER_TRANSITIONS[b]]
ILLEGAL_PROPOSAL = [
    (b, a)
    for b in ProposalState
    for a in ProposalState
    if a != b and a not in PROPOSAL_TRANSITIONS.get(b, frozenset())
]


def refuses(rows: models.QuerySet[Any], after: str) -> bool:
    try:
        with transaction.atomic():
            rows.update(state=after)
    except IntegrityError:
        return True
    return False


def test_an_order_moves_only_as_the_table_says() -> None:
    for before in OrderState:
        order = factories.OrderFactory(state=before.value)
        for after in OrderState:
            if after != before:
                illegal = (before, after) in ILLEGAL_ORDER
                with transaction.atomic():
                    assert refuses(Order.objects.filter(pk=order.pk), after.value) is illegal, (before, after)
                    order = order if illegal else factories.OrderFactory(state=before.value)


def test_a_proposal_moves_only_as_the_table_says() -> None:
    for before in ProposalState:
        proposal = factories.ProposalFactory(state=before.value)
        for after in ProposalState:
            if after != before:
                illegal = (before, after) in ILLEGAL_PROPOSAL
                assert refuses(Proposal.objects.filter(pk=proposal.pk), after.value) is illegal
                proposal = proposal if illegal else factories.ProposalFactory(state=before.value)


def test_every_guard_stands_and_one_that_is_gone_is_missed_and_made_anew() -> None:
    guards.require(connection)
    guards.remove(connection)
    with pytest.raises(guards.GuardsMissing, match=r"lacks .* guards"):
        guards.require(connection)
    call_command("migrate", verbosity=0)
    guards.require(connection)


def test_a_guard_of_another_release_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    another = guards.frozen("verb", says="a verb never changes")
    monkeypatch.setattr(AuditEntry, "guards", (another,))
    assert len(guards.missing(connection)) == 1
    guards.install(connection)
    assert guards.missing(connection) == []
    monkeypatch.undo()
    guards.install(connection)
    guards.require(connection)


def test_a_guard_whose_trigger_alone_went_with_its_table_is_made_anew() -> None:
    """PostgreSQL drops a table's triggers with it and keeps their functions."""
    name = next(each for each in guards._installed(connection) if "auditentry" in each)
    sql(
        f'DROP TRIGGER "{name}"' + (" ON kalshi_site_auditentry" if connection.vendor == "postgresql" else "")
    )
    assert guards.missing(connection) == [name]
    guards.install(connection)
    guards.require(connection)
