"""Long names: what is done to the longest of them is done and remembered, on PostgreSQL as on SQLite."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from approvals import decisions
from kalshi_site import audit, guards, locks
from kalshi_site.live import changed
from kalshi_site.models import AuditEntry, ChangeLog
from portfolio import ledger
from portfolio.domain import scopes
from portfolio.models import TradingState
from tests import factories
from tests.callers import Caller, code_of
from tests.fakes import FakeExchange
from trading.agent.forecaster import OfflineAnalyst
from trading.domain.orders import BookSide, Side
from trading.engine.decision_cycle import decision_cycle
from trading.exchange.reports import PublicTrade
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE
TICKER = "KXLONGEST-26NOV23-".ljust(120, "T")

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.mark.parametrize("kind", scopes.KINDS)
def test_a_stop_of_the_longest_scope_stands(kind: str) -> None:
    """Naive: its audit row has room for 80 characters. PostgreSQL refuses it, and with it the stop."""
    scope = f"{kind}:".ljust(scopes.LONGEST, "X")
    answer = Caller.of("risk").post("/trading/halt", {"scope": scope})
    assert answer.status_code == 200, answer.content
    assert TradingState.objects.get(scope=scope).mode == "HALTED"
    name = f"{VENUE} {scope}"
    assert AuditEntry.objects.filter(verb="trading.halt", object_id=name).exists()
    assert ChangeLog.objects.filter(topic="trading", key=name).exists()


def test_a_stop_of_the_market_with_the_longest_ticker_cancels_its_orders(held: locks.Held) -> None:
    factories.funded()
    exchange, market = FakeExchange(), factories.quoted_market(ticker=TICKER)
    proposal = factories.ProposalFactory(market=market)
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="page",
    )
    desk = Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))
    assert desk.round(held) == 1
    assert Caller.of("risk").post("/trading/halt", {"scope": f"market:{TICKER}"}).status_code == 200
    desk.round(held)
    assert exchange.book[str(Order.objects.get().venue_order_id)].state == "canceled"


def test_a_scope_that_capitals_make_too_long_is_refused_in_words() -> None:
    answer = Caller.of("risk").post("/trading/halt", {"scope": "market:".ljust(scopes.LONGEST, "ß")})
    assert (answer.status_code, code_of(answer)) == (422, "E012")


def test_a_fill_in_the_market_with_the_longest_ticker_is_booked() -> None:
    with transaction.atomic():
        ledger.book_fill(
            venue=VENUE,
            ticker=TICKER,
            event_ticker=TICKER,
            title="",
            book_side=BookSide.BID,
            count=D(1),
            yes_price=D("0.5"),
            fee=D(0),
            reference="trade:order",
            at=timezone.now(),
        )
    assert ChangeLog.objects.filter(topic="positions", key=TICKER).exists()


class Bought:
    """Public trades of that market, far above what it is offered at."""

    def trades(self, *, since: datetime | None = None) -> list[PublicTrade]:
        now = timezone.now()
        return [PublicTrade(f"t{n}", TICKER, D("0.58"), D(20), Side.YES, now, False) for n in range(12)]


def test_an_idea_in_the_market_with_the_longest_ticker_is_handed_in() -> None:
    factories.funded()
    factories.quoted_market(ticker=TICKER, close_at=timezone.now() + timedelta(days=3))
    done = decision_cycle(venue=VENUE, analyst=OfflineAnalyst(), public=Bought())
    assert done is not None and len(done.proposed) == 1


def test_a_desk_that_is_brought_up_to_wider_keys_keeps_its_rows_and_its_guards() -> None:
    """SQLite builds the tables anew for it, which loses their triggers."""
    call_command("migrate", "kalshi_site", "0004", verbosity=0)
    try:
        audit.record(actor="a", verb="v", object_type="t", object_id="before")
        number = changed("orders", key="before", version=1)
    finally:
        call_command("migrate", verbosity=0)
    guards.require(connection)
    assert ChangeLog.objects.get(topic="orders", version=number).key == "before"
    assert AuditEntry.objects.filter(object_id="before").count() == 1
