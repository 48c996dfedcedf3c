"""A fee that is not in the API keeps nobody in a position: every door sells it, and none opens another."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from approvals import decisions, proposals
from approvals.domain.policy import Origin
from approvals.models import Proposal
from kalshi_site import locks
from portfolio import ledger, risk
from portfolio.models import Reservation
from tests import factories
from tests.callers import Caller
from tests.fakes import FakeExchange
from trading.domain.fees import UnknownFee
from trading.domain.orders import Action, BookSide, Side, Terms
from trading.execution import liquidation
from trading.execution.router import Router
from trading.models import Market

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def market() -> Market:
    """Twelve YES are held; since then the exchange charges a fee of a type that we do not know."""
    factories.funded()
    market = factories.quoted_market()
    with transaction.atomic():
        ledger.book_fill(
            venue=VENUE,
            ticker=market.ticker,
            event_ticker=market.event_ticker,
            title=market.title,
            book_side=BookSide.BID,
            count=D(12),
            yes_price=D("0.45"),
            fee=D("0.10"),
            reference="one",
            at=timezone.now(),
        )
    Market.objects.update(fee_type="flat")
    return Market.objects.get()


def page() -> Client:
    client = Client()
    client.force_login(factories.approver())
    return client


def sent(held: locks.Held) -> list[tuple[str, str]]:
    """What execution sends now: side and count."""
    exchange = FakeExchange()
    Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1)).round(held)
    return [(body["side"], body["count"]) for body in exchange.sent]


def draft(action: Action, quantity: str, *, reduce_only: bool) -> proposals.Draft:
    return proposals.Draft(
        venue=VENUE,
        terms=Terms(Market.objects.get().ticker, action, Side.YES, D(quantity), D("0.48")),
        origin=Origin.AGENT,
        proposer="offline-analyst",
        time_to_decide=timedelta(minutes=5),
        reduce_only=reduce_only,
    )


def approve(proposal: Proposal) -> Proposal:
    return decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=proposal.version,
        actor=factories.approver(),
        method="page",
    )


def test_the_page_sells_it_and_says_that_the_fee_is_not_known(market: Market, held: locks.Held) -> None:
    """Naive: the page answers 500."""
    client = page()
    answer = client.post(f"/positions/{market.ticker}/close", follow=True).content.decode()
    assert "the order goes out now" in answer
    exit_order = Proposal.objects.get()
    assert "the fee is not known" in client.get(f"/approvals/{exit_order.public_id}").content.decode()
    assert Reservation.objects.get().unit_fee == 0
    assert sent(held) == [("ask", "12.00")]


def test_rest_sells_it(market: Market, held: locks.Held) -> None:
    answer = Caller.of("approver").post(f"/positions/{market.ticker}/close")
    assert (answer.status_code, answer.json()["status"]) == (200, "approved"), answer.content
    assert sent(held) == [("ask", "12.00")]


def test_a_liquidation_sells_it(market: Market, held: locks.Held) -> None:
    row = liquidation.request(venue=VENUE, actor="operator", reason="fire", slippage=D("0.05"))
    risk.note_cleared(risk.trading_state(VENUE))
    assert liquidation.step(VENUE, held)
    assert row.events.filter(ticker=market.ticker).latest("id").reason == "selling 12 at 43¢ or better"
    assert sent(held) == [("ask", "12.00")]


@pytest.mark.parametrize("changes", ["before the proposal", "before the approval", "before the claim"])
def test_an_exit_of_the_analyst_goes_out_whenever_the_fee_changed(
    market: Market, held: locks.Held, changes: str
) -> None:
    if changes != "before the proposal":
        Market.objects.update(fee_type="quadratic")
    proposal = proposals.submit(draft(Action.SELL, "5", reduce_only=True))
    assert ("fee not known" in page().get("/approvals").content.decode()) is (
        changes == "before the proposal"
    )
    if changes == "before the approval":
        Market.objects.update(fee_type="flat")
    approve(proposal)
    Market.objects.update(fee_type="flat")
    assert sent(held) == [("ask", "5.00")]


def test_what_opens_is_refused_when_it_is_proposed(market: Market) -> None:
    with pytest.raises(UnknownFee):
        proposals.submit(draft(Action.BUY, "5", reduce_only=False))


def test_what_opens_and_was_approved_before_the_fee_changed_is_not_sent(
    market: Market, held: locks.Held
) -> None:
    Market.objects.update(fee_type="quadratic")
    proposal = approve(proposals.submit(draft(Action.BUY, "5", reduce_only=False)))
    Market.objects.update(fee_type="flat")
    assert sent(held) == []
    proposal.refresh_from_db()
    assert proposal.state == "voided"
    assert "the fee of type flat" in proposal.events.latest("id").reason
