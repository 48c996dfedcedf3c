"""An approval that cannot be claimed is voided, not met again at every look; no host's clock decides over a claim."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from portfolio import risk
from portfolio.models import Position, Reservation
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange, fill
from trading.execution import claims
from trading.execution.claims import client_order_id
from trading.execution.comparison import Reconciled
from trading.execution.exits import close_position
from trading.execution.reconcile import Evidence, Reconciler
from trading.execution.router import Router
from trading.models import Market, Order

VENUE = factories.VENUE
DEPLOYMENT = uuid.UUID(int=1)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=DEPLOYMENT)


def why(proposal: Proposal) -> str:
    proposal.refresh_from_db()
    event = proposal.events.last()
    assert event is not None
    return f"{proposal.state}: {event.reason}"


def shift(proposal: Proposal, by: timedelta) -> None:
    """As if the host that took the approval had another time than this one."""
    Proposal.objects.filter(pk=proposal.pk).update(decided_at=timezone.now() + by)


def test_an_approval_that_cannot_be_judged_is_voided_and_the_one_behind_it_goes_out(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: its exception ends the round, and each one after: no claim, no renewal, no proof of a stop."""
    bad, good = approved(), approved()
    Market.objects.filter(ticker=bad.ticker).update(fee_type="unheard-of")
    assert router(exchange).round(held) == 1
    assert why(bad).startswith("voided: could not be claimed: ")
    assert Order.objects.get().proposal_id == good.pk
    assert not Reservation.objects.standing(VENUE).filter(key=bad.public_id).exists()


@pytest.mark.usefixtures("past_the_guards")
def test_an_approval_whose_order_is_known_already_is_voided(exchange: FakeExchange, held: locks.Held) -> None:
    """After a restore: its order was found at the exchange, and then a person approved the old proposal once more."""
    again, other = approved(), approved()
    approved()
    router(exchange).send(Proposal.objects.latest("id"), held)
    theirs = client_order_id(venue=VENUE, deployment=DEPLOYMENT, proposal_id=again.public_id)
    Order.objects.update(client_order_id=theirs)
    assert router(exchange).round(held) == 1
    assert why(again) == "voided: could not be claimed: an order under this approval's id is known already"
    assert Order.objects.filter(proposal=other).exists()


@pytest.mark.parametrize("fault", [OperationalError("gone"), locks.Outrun("taken")])
def test_a_fault_that_says_nothing_of_the_approval_leaves_it_standing(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def break_off(_: object) -> None:
        raise fault

    proposal = approved()
    monkeypatch.setattr(claims, "reached", break_off)
    with pytest.raises(type(fault)):
        router(exchange).round(held)
    proposal.refresh_from_db()
    assert (proposal.state, exchange.sent) == ("approved", [])


def test_a_stop_voids_what_a_host_with_a_fast_clock_approved_before_it(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: by the times it was approved after the stop, and is sent once somebody resumes."""
    proposal = approved()
    risk.halt(venue=VENUE, actor="op", reason="drill")
    risk.resume(venue=VENUE, actor="op", reason="drill over")
    shift(proposal, timedelta(seconds=30))
    assert router(exchange).round(held) == 0
    assert why(proposal) == "voided: E306: trading was stopped after the approval"


def test_a_stop_voids_nothing_that_a_host_with_a_slow_clock_approved_after_it(
    exchange: FakeExchange, held: locks.Held
) -> None:
    risk.halt(venue=VENUE, actor="op", reason="drill")
    risk.resume(venue=VENUE, actor="op", reason="drill over")
    proposal = approved()
    shift(proposal, timedelta(seconds=-30))
    assert router(exchange).round(held) == 1


def test_a_stop_between_claim_and_send_is_seen_whatever_the_clocks_say(
    exchange: FakeExchange, held: locks.Held
) -> None:
    proposal, desk = approved(), router(exchange)

    def stop(point: str) -> None:
        if point == "claimed":
            shift(proposal, timedelta(seconds=30))
            risk.halt(venue=VENUE, actor="op", reason="drill")

    desk.checkpoint = stop
    desk.round(held)
    assert (Order.objects.get().state, exchange.sent) == ("not_sent", [])


@pytest.mark.usefixtures("past_the_guards")
@pytest.mark.parametrize(("behind", "sent"), [(timedelta(minutes=2), 1), (timedelta(minutes=6), 0)])
def test_an_exit_from_a_host_with_a_slow_clock_goes_out(
    exchange: FakeExchange, held: locks.Held, behind: timedelta, sent: int
) -> None:
    """Naive: a minute's difference between two hosts voids every way out as too old."""
    exchange.behaviour = fill
    approved()
    desk = router(exchange)
    desk.round(held)
    Reconciler(VENUE, exchange, exchange, Evidence(timedelta(0), timedelta(0), 2)).fills(  # type: ignore[arg-type]
        Reconciled(), timezone.now() - timedelta(minutes=1)
    )
    shift(close_position(venue=VENUE, ticker=Position.objects.get().ticker, actor="op"), -behind)
    assert desk.round(held) == sent
