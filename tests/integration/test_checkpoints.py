"""Every named crash point is passed in an order's life, so that the crash matrix kills where it says."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from tests import factories
from tests.fakes import FakeExchange, drop_before_accept, fill
from trading.execution import cancels, checkpoints
from trading.execution.reconcile import Evidence, Reconciler
from trading.execution.router import Router
from trading.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def passed() -> Iterator[list[str]]:
    """The points that were passed, in their order."""
    points: list[str] = []
    checkpoints.observe(points.append)
    yield points
    checkpoints.observe(None)


def approve_one() -> None:
    factories.funded()
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="page",
    )


def test_an_order_passes_the_points_of_claim_and_send_in_their_order(passed: list[str]) -> None:
    approve_one()
    with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
        Router(factories.VENUE, FakeExchange(), uuid.UUID(int=1)).round(held)
    assert passed == list(checkpoints.CRASH_POINTS[:7])


def test_every_point_is_passed_somewhere(passed: list[str]) -> None:
    exchange = FakeExchange()
    desk = Router(factories.VENUE, exchange, uuid.UUID(int=1))
    books = Reconciler(factories.VENUE, exchange, exchange, Evidence(timedelta(0), timedelta(0), 1))  # type: ignore[arg-type]
    with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
        for behaviour in (exchange.behaviour, fill, drop_before_accept):
            exchange.behaviour = behaviour
            approve_one()
            desk.round(held)
        exchange.rest(
            {"client_order_id": "theirs", "ticker": "T", "side": "bid", "price": "0.5", "count": "1"}
        )
        books.run()
        books.run()  # by now the fill is booked, and cash agrees
        cancels.request_cancel_all(venue=factories.VENUE, actor="user:op")
        desk.round(held)
    assert set(passed) == set(checkpoints.CRASH_POINTS)
    assert Order.objects.filter(state="absent", created_at__lt=timezone.now()).count() == 1
