"""Nothing is sent again: a repeat is a new proposal with a new approval, where nothing of the old was ever there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals import decisions, proposals
from approvals.decisions import OwnProposal
from approvals.domain.lifecycle import ProposalState
from approvals.domain.policy import Origin
from approvals.models import Proposal, ProposalEvent
from kalshi_site import locks
from kalshi_site.identity import ROLES, SCOPES
from kalshi_site.models import AuditEntry, User
from portfolio import risk
from portfolio.domain.autonomy import AutonomyLevel
from portfolio.models import Reservation
from portfolio.risk import Denied
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import FakeExchange, accept, drop_before_accept
from trading.domain.orders import OrderState
from trading.execution import adoption, claims, fills, lifecycle, repeats, restored
from trading.execution.absence import Evidence
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.execution.repeats import NotRepeatable, propose_again
from trading.execution.router import Router
from trading.models import Market, Order

D = Decimal
VENUE = factories.VENUE
# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


def voided(reason: str = "E310 Price collar: the price has moved", **fields: Any) -> Proposal:
    return proposals.void(proposal=factories.approved(**fields), reason=reason)


def ordered(state: OrderState, evidence: str = "", **fields: Any) -> Proposal:
    """A proposal that was taken, and whose order came to this."""
    factories.funded()
    proposal: Proposal = factories.ProposalFactory(state="claimed", **fields)
    never = state in repeats.NEVER_THERE
    factories.OrderFactory(
        proposal=proposal, state=state, evidence=evidence, **({"venue_order_id": None} if never else {})
    )
    return proposal


ALLOWED: dict[str, Callable[..., Proposal]] = {
    "voided": voided,
    "rejected": lambda **fields: ordered(OrderState.REJECTED, "HTTP 400: invalid price", **fields),
    "not_sent": lambda **fields: ordered(OrderState.NOT_SENT, "connection refused", **fields),
    "absent": lambda **fields: ordered(OrderState.ABSENT, "2 complete searches", **fields),
}


def voided_beside_an_orphan() -> Proposal:
    """Sent, then restored to before its approval, approved anew, and not claimed any more as the price had moved."""
    proposal = voided()
    body = {"ticker": proposal.ticker, "side": "bid", "price": "0.5000", "count": "10.00"}
    assert adoption.adopt(VENUE, FakeExchange().rest({**body, "client_order_id": f"kp-{uuid.uuid4()}"}))
    return proposal


def in_state(state: ProposalState) -> Proposal:
    factories.funded()
    made: Proposal = factories.ProposalFactory(state=state, decided_at=timezone.now())
    return made


REFUSED: dict[str, Callable[[], Proposal]] = {
    **{
        f"a proposal {state}": lambda state=state: in_state(state)  # type: ignore[misc]
        for state in ProposalState
        if state is not ProposalState.VOIDED
    },
    **{
        f"an order {state}": lambda state=state: ordered(state)  # type: ignore[misc]
        for state in OrderState
        if state not in repeats.NEVER_THERE
    },
    "a way out": lambda: ordered(OrderState.REJECTED, origin=Origin.CLOSE, reduce_only=True, action="sell"),
    "voided after a restore": lambda: voided(restored.UNSENT),
    "voided beside an orphan": voided_beside_an_orphan,
    "voided as its order is known": lambda: voided(claims.ORDER_KNOWN),
    "other terms than were hashed": lambda: ordered(OrderState.REJECTED, terms_hash="0" * 64),
}


@pytest.fixture
def approver() -> User:
    return factories.approver()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def written() -> tuple[int, int, int]:
    return Proposal.objects.count(), ProposalEvent.objects.count(), AuditEntry.objects.count()


def approve(proposal: Proposal, actor: User) -> Proposal:
    return decisions.approve(
        proposal=proposal,
        version=proposal.version,
        terms_hash=proposal.terms_hash,
        actor=actor,
        method="page",
    )


def page_of(client: Client, proposal: Proposal) -> str:
    answer = client.get(f"/approvals/{proposal.public_id}")
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def press(client: Client, proposal: Proposal) -> tuple[list[tuple[str, int]], str]:
    answer = client.post(f"/approvals/{proposal.public_id}/again", follow=True)
    return answer.redirect_chain, unescape(answer.content.decode())


# --- where it is possible


@pytest.mark.parametrize("state", ALLOWED)
def test_what_never_was_at_the_exchange_is_put_before_people_again(state: str, approver: User) -> None:
    first = ALLOWED[state](rules_text="Resolves to Yes.", forecast={"probability": "0.58"})
    before = timezone.now()
    repeat = propose_again(proposal=first, actor=approver.username)
    first.refresh_from_db()
    assert (repeat.state, repeat.clone_of, repeat.version) == ("pending", first, 1)
    same = (
        *("venue", "ticker", "action", "side", "quantity", "limit_price", "reduce_only", "terms_hash"),
        *("proposer", "strategy", "origin", "rules_text", "forecast", "title"),
    )
    assert [getattr(repeat, name) for name in same] == [getattr(first, name) for name in same]
    assert repeat.deadline_at >= before + settings.PROPOSAL_TTL
    assert repeat.risk_report["checks"] and repeat.seen_versions["quote_as_of"]
    assert not Reservation.objects.filter(key=repeat.public_id).exists()


def test_the_record_names_who_asked_and_what_is_repeated(approver: User) -> None:
    first = ALLOWED["not_sent"]()
    repeat = propose_again(proposal=first, actor=approver.username)
    event = repeat.events.get()
    assert (event.actor, event.reason) == ("approver1", f"repeats {first.public_id}: not sent")
    entry = AuditEntry.objects.get(object_id=repeat.public_id)
    assert (entry.actor, entry.actor_kind, entry.verb) == ("approver1", "person", "proposal.pending")
    assert repeat.proposer == "offline-analyst"


def test_pressed_twice_and_by_two_it_is_one_proposal(approver: User) -> None:
    first = ALLOWED["absent"]()
    pressed = [propose_again(proposal=first, actor=name) for name in ("approver1", "approver1", "approver2")]
    assert len({each.pk for each in pressed}) == 1
    assert Proposal.objects.filter(clone_of=first).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_people_in_one_moment_get_the_same_one() -> None:
    first, start = ALLOWED["rejected"](), Barrier(2)

    def once(name: str) -> int:
        try:
            start.wait(30)
            return propose_again(proposal=first, actor=name).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        made = set(threads.map(once, ["approver1", "approver2"]))
    assert made == set(Proposal.objects.filter(clone_of=first).values_list("pk", flat=True))
    assert len(made) == 1


def test_a_repeat_that_was_voided_is_repeated_in_its_turn(approver: User) -> None:
    repeat = propose_again(proposal=voided(), actor="approver1")
    gone = proposals.void(proposal=approve(repeat, approver), reason="the approval was not claimed in time")
    assert propose_again(proposal=gone, actor="approver1").clone_of == repeat


# --- where it is not


def _by_function(proposal: Proposal, approver: User) -> str:
    with pytest.raises(NotRepeatable) as refusal:
        propose_again(proposal=proposal, actor=approver.username)
    return refusal.value.code


def _by_page(proposal: Proposal, approver: User) -> str:
    client = signed_in(approver)
    assert "Propose again" not in page_of(client, proposal)
    way, text = press(client, proposal)
    assert way == [(f"/approvals/{proposal.public_id}", 302)]
    return "E212" if "E212" in text else text


def _by_rest(proposal: Proposal, approver: User) -> str:
    answer = Caller(approver, "approve").post(f"/proposals/{proposal.public_id}/repeat")
    assert answer.status_code == 409
    return code_of(answer)


@pytest.mark.parametrize("door", [_by_function, _by_page, _by_rest])
@pytest.mark.parametrize("state", REFUSED)
@pytest.mark.usefixtures("past_the_guards")
def test_everything_else_is_refused_at_every_door_and_nothing_is_written(
    state: str, door: Callable[[Proposal, User], str], approver: User
) -> None:
    proposal = REFUSED[state]()
    before = written()
    assert door(proposal, approver) == "E212"
    assert written() == before


def test_what_the_gateway_denies_now_is_not_written_and_may_be_asked_for_again(approver: User) -> None:
    """Naive: store the denied repeat. Being the only one, it would bar the way once the market is open again."""
    first, client = voided(), signed_in(approver)
    Market.objects.update(status="inactive")
    before = written()
    with pytest.raises(Denied, match="Market open"):
        propose_again(proposal=first, actor=approver.username)
    _, text = press(client, first)
    assert "E311" in text
    refused = Caller(approver, "approve").post(f"/proposals/{first.public_id}/repeat")
    assert (refused.status_code, code_of(refused)) == (409, "E311")
    assert written() == before
    Market.objects.update(status="active")
    assert propose_again(proposal=first, actor=approver.username).state == "pending"


# --- who says yes


@pytest.mark.parametrize("level", [AutonomyLevel.AUTO, AutonomyLevel.OFF])
def test_at_every_level_a_repeat_asks_a_person(level: AutonomyLevel) -> None:
    first = ALLOWED["absent"]()
    risk.set_autonomy(venue=VENUE, level=level, actor="risk1", reason="drill")
    repeat = propose_again(proposal=first, actor="approver1")
    assert (repeat.state, repeat.required_approvals, repeat.decided_by) == ("pending", 1, "")


def test_the_proposer_may_not_approve_it_and_who_pressed_may(approver: User) -> None:
    proposer = factories.approver("approver2")
    first = ALLOWED["rejected"](origin="person", proposer=proposer.username)
    for_himself = propose_again(proposal=first, actor=proposer.username)
    with pytest.raises(OwnProposal):
        approve(for_himself, proposer)
    assert approve(for_himself, approver).state == "approved"
    pressed = propose_again(proposal=ALLOWED["not_sent"](), actor=approver.username)
    assert approve(pressed, approver).state == "approved"


@pytest.mark.parametrize("role", sorted(ROLES.keys() - {"approver"}))
def test_without_the_right_there_is_no_button_and_no_repeat(role: str) -> None:
    first = ALLOWED["absent"]()
    caller = Caller.of(role, *SCOPES)
    client = signed_in(caller.user)
    before = written()
    assert "Propose again" not in page_of(client, first)
    assert client.post(f"/approvals/{first.public_id}/again").status_code == 403
    assert code_of(caller.post(f"/proposals/{first.public_id}/repeat")) == "E104"
    assert code_of(Caller(factories.approver(), "read", "propose").post("/proposals/x/repeat")) == "E103"
    assert written() == before


# --- what is shown


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("voided", "Nothing of it was sent: E310 Price collar: the price has moved."),
        ("rejected", "The exchange rejected its order: HTTP 400: invalid price."),
        ("not_sent", "Its order never left this desk: connection refused."),
        ("absent", "The exchange never showed the order; should it still appear within 24 hours of that verdict, the"),
    ],
)  # fmt: skip
def test_the_page_says_why_and_the_repeat_says_of_what(state: str, why: str, approver: User) -> None:
    first, client = ALLOWED[state](), signed_in(approver)
    page = page_of(client, first)
    assert why in page and "Propose again" in page and "somebody must approve it" in page
    way, shown = press(client, first)
    repeat = Proposal.objects.get(clone_of=first)
    assert way == [(f"/approvals/{repeat.public_id}", 302)]
    says = f'Repeats <a class="id" href="/approvals/{first.public_id}">{first.public_id}</a>, '
    says += "which was voided" if state == "voided" else f"whose order was {state.replace('_', ' ')}"
    assert says in shown
    assert says in unescape(client.get("/approvals").content.decode())
    again = page_of(client, first)
    assert "Propose again" not in again
    assert f'href="/approvals/{repeat.public_id}">{repeat.public_id}</a> is pending' in again


def test_the_admin_shows_what_is_repeated(approver: User) -> None:
    repeat = propose_again(proposal=voided(), actor="approver1")
    User.objects.filter(pk=approver.pk).update(is_staff=True)
    page = signed_in(User.objects.get(pk=approver.pk)).get(f"/admin/approvals/proposal/{repeat.pk}/change/")
    assert f"/admin/approvals/proposal/{repeat.clone_of_id}/change/" in page.content.decode()


def test_a_script_gets_the_repeat_and_what_it_repeats(approver: User) -> None:
    first, caller = ALLOWED["absent"](), Caller(approver, "read", "approve")
    path = f"/proposals/{first.public_id}/repeat"
    made = caller.post(path, key="k1")
    assert made.status_code == 201
    body = made.json()
    assert (body["status"], body["clone_of"], body["version"]) == ("pending", first.public_id, 1)
    replayed = caller.post(path, key="k1")
    assert (replayed.status_code, replayed.json(), replayed["Idempotency-Replayed"]) == (201, body, "true")
    assert caller.post(path).json()["id"] == body["id"]
    assert code_of(caller.post(path, key=None)) == "E205"
    told = {row["id"]: row["clone_of"] for row in caller.get("/proposals").json()["data"]}
    assert told == {body["id"]: first.public_id, first.public_id: None}


# --- at the exchange


@pytest.fixture
def exchange() -> FakeExchange:
    return FakeExchange(behaviour=drop_before_accept)


def send(exchange: FakeExchange) -> int:
    with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
        return Router(VENUE, exchange, uuid.UUID(int=1)).round(held)


def look(exchange: FakeExchange) -> None:
    books = Reconciler(VENUE, exchange, exchange, Evidence(timedelta(0), timedelta(0), 2))  # type: ignore[arg-type]
    for _ in range(2):
        books.orders(Reconciled())


@pytest.fixture
def lost(exchange: FakeExchange) -> Order:
    """An order whose send was not answered, and which was then judged absent."""
    factories.approved()
    send(exchange)
    look(exchange)
    order = Order.objects.get()
    assert (order.state, Reservation.objects.standing(VENUE).count()) == (OrderState.ABSENT, 0)
    return order


def repeat_of(order: Order) -> Proposal:
    assert order.proposal is not None
    return propose_again(proposal=order.proposal, actor="approver1")


@pytest.mark.django_db(transaction=True)
def test_the_repeat_goes_out_once_under_an_id_of_its_own(exchange: FakeExchange, lost: Order) -> None:
    repeat = repeat_of(lost)
    exchange.behaviour = accept
    assert send(exchange) == 0, "nobody has approved it"
    approve(repeat, factories.approver())
    assert [send(exchange), send(exchange)] == [1, 0]
    order = Order.objects.get(proposal=repeat)
    assert (order.state, order.attempts) == (OrderState.RESTING, 1)
    first, second = (body["client_order_id"] for body in exchange.sent)
    assert (first, second) == (lost.client_order_id, order.client_order_id)
    assert first != second
    lost.refresh_from_db()
    assert (lost.state, lost.attempts) == (OrderState.ABSENT, 1)


@pytest.mark.django_db(transaction=True)
def test_the_naive_variant_sends_the_same_id_twice(exchange: FakeExchange, lost: Order) -> None:
    """The old bytes once more: should the first ones have come late, two orders of one approval would stand there."""
    exchange.behaviour = accept
    accept(exchange, exchange.sent[0])
    exchange.send_create(lost.body.encode(), 0)
    assert [each.client_order_id for each in exchange.book.values()] == [lost.client_order_id] * 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_approved", [False, True])
def test_when_the_order_appears_its_repeat_is_called_off(
    exchange: FakeExchange, lost: Order, approver: User, is_approved: bool
) -> None:
    """Naive: leave it be. The late order and its repeat would both be bought."""
    repeat = repeat_of(lost)
    if is_approved:
        approve(repeat, approver)
    report = exchange.rest(exchange.sent[0])
    lifecycle.record_report(lost, report)
    repeat.refresh_from_db()
    assert repeat.state == ("voided" if is_approved else "denied")
    assert repeat.events.last().reason == repeats.APPEARED  # type: ignore[union-attr]
    exchange.behaviour = accept
    assert send(exchange) == 0
    assert lost.proposal is not None
    assert list(Reservation.objects.standing(VENUE).values_list("key", flat=True)) == [
        lost.proposal.public_id
    ]
    page = page_of(signed_in(approver), repeat)
    assert "whose order was judged absent and is " in page and repeats.APPEARED in page


@pytest.mark.django_db(transaction=True)
def test_the_repeat_of_a_repeat_is_called_off_as_well(
    exchange: FakeExchange, lost: Order, approver: User
) -> None:
    """Naive: look at the nearest alone. Of the one between nothing was sent, and it would vouch for the first."""
    between = proposals.void(proposal=approve(repeat_of(lost), approver), reason="the price has moved")
    last = approve(propose_again(proposal=between, actor="approver1"), approver)
    lifecycle.record_report(lost, exchange.rest(exchange.sent[0]))
    last.refresh_from_db()
    assert (last.state, send(exchange)) == ("voided", 0)
    with pytest.raises(NotRepeatable, match="is resting"):
        propose_again(proposal=last, actor="approver1")
    assert "Propose again" not in page_of(signed_in(approver), last)


@pytest.mark.django_db(transaction=True)
def test_what_is_decided_otherwise_stays_when_the_order_appears(exchange: FakeExchange, lost: Order) -> None:
    repeat = repeat_of(lost)
    proposals.withdraw(proposal=repeat, actor="offline-analyst", reason="no more")
    fresh = lifecycle.record_report(lost, exchange.rest(exchange.sent[0]))
    repeat.refresh_from_db()
    assert (fresh.state, fresh.cancel_requested_by, repeat.state) == ("resting", "execution", "withdrawn")


@pytest.mark.django_db(transaction=True)
def test_an_order_that_appears_locks_the_trading_state_before_any_topic(
    exchange: FakeExchange, lost: Order
) -> None:
    """Naive: only before the repeats are called off. A claim that locks the other way round would wait for ever."""
    report = exchange.rest(exchange.sent[0])
    with CaptureQueriesContext(connection) as asked:
        lifecycle.record_report(lost, report)
    locked = [number for number, each in enumerate(asked) if "portfolio_tradingstate" in each["sql"]]
    topics = [number for number, each in enumerate(asked) if "topichead" in each["sql"].lower()]
    assert locked[0] < topics[0]


@pytest.mark.django_db(transaction=True)
def test_what_filled_of_an_absent_order_is_held_until_it_is_booked(
    exchange: FakeExchange, lost: Order
) -> None:
    """Naive: what is over needs no money. Its fills are not in the books yet, and a claim could spend it again."""
    exchange.rest(exchange.sent[0])
    execution = exchange.execute("venue-1", lost.quantity)
    lifecycle.record_report(lost, exchange.order("venue-1"))
    assert Reservation.objects.standing(VENUE).get().signed_quantity == lost.quantity
    fills.record_fill(VENUE, execution)
    assert not Reservation.objects.standing(VENUE).exists()
