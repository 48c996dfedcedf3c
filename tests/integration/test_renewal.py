"""Orders stand only while we say so: their expiry is moved on within the approval, and silence ends them."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from portfolio import risk
from tests import factories
from tests.fakes import FakeExchange, amend
from trading.domain.orders import OrderState
from trading.exchange.errors import ClockOff, NoAnswer
from trading.exchange.outcomes import AmendOutcome, NotSent, Refused, Unknown
from trading.execution import cancels
from trading.execution.claims import ClaimRules
from trading.execution.renewal import Renewal
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE
AHEAD = timedelta(seconds=120)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class MovableTime:
    """The exchange's clock, moved by the test."""

    def __init__(self) -> None:
        self.moved = timedelta(0)
        self.is_steady = True

    def now(self) -> datetime:
        return timezone.now() + self.moved

    def require_steady(self) -> None:
        if not self.is_steady:
            raise ClockOff("our clock is off")


@pytest.fixture
def clock() -> MovableTime:
    return MovableTime()


def resting(exchange: FakeExchange, held: locks.Held, **rules: Any) -> Order:
    """One order that rests, claimed by the real door."""
    factories.funded()
    market = factories.quoted_market(close_at=timezone.now() + timedelta(days=1))
    proposal = factories.ProposalFactory(market=market)
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="page",
    )
    desk = Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1), rules=ClaimRules(**rules))
    assert desk.round(held) == 1
    return Order.objects.get(proposal=proposal)


def look(exchange: FakeExchange, clock: MovableTime, held: locks.Held, **changes: Any) -> int:
    renewal = Renewal(VENUE, exchange, exchange, clock, AHEAD)  # type: ignore[arg-type]
    return replace(renewal, **changes).look(lambda: held)


def test_an_order_is_claimed_with_a_short_expiry_and_the_end_of_what_was_approved(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = resting(exchange, held)
    assert order.signed_at and order.expires_at and order.good_until
    assert timedelta(seconds=118) < order.expires_at - order.signed_at <= AHEAD
    assert order.good_until - order.signed_at == timedelta(seconds=300)


def test_at_half_the_way_the_expiry_is_moved_on_and_nothing_else(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    order = resting(exchange, held)
    clock.moved = timedelta(seconds=40)
    assert (look(exchange, clock, held), exchange.amends) == (0, [])
    clock.moved = timedelta(seconds=65)
    assert look(exchange, clock, held) == 1
    fresh = Order.objects.get()
    assert fresh.expires_at and order.expires_at and fresh.renewal_until is None
    assert timedelta(seconds=64) <= fresh.expires_at - order.expires_at < timedelta(seconds=100)
    sent, created = exchange.amends[0][1], exchange.sent[0]
    assert sent["expiration_time"] == int(fresh.expires_at.timestamp())
    assert (sent["price"], sent["count"], sent["side"]) == (
        created["price"],
        created["count"],
        created["side"],
    )
    assert (sent["client_order_id"], sent["ticker"]) == (created["client_order_id"], created["ticker"])
    assert fresh.events.last().reason.startswith("renewed until")  # type: ignore[union-attr]
    assert look(exchange, clock, held) == 0


def test_no_renewal_passes_the_end_of_what_was_approved(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    order = resting(exchange, held, lifetime=timedelta(seconds=150))
    assert order.good_until
    clock.moved = timedelta(seconds=70)
    assert look(exchange, clock, held) == 1
    clock.moved = timedelta(seconds=140)
    assert look(exchange, clock, held) == 0
    assert Order.objects.get().expires_at == order.good_until.replace(microsecond=0)


def test_the_count_of_a_renewal_is_the_approved_total_also_when_a_part_is_filled(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    """Naive: `count` is filled plus resting. The remainder alone would shrink the order, a stale sum could raise it."""
    order = resting(exchange, held)
    assert order.venue_order_id
    exchange.execute(order.venue_order_id, D(4))  # our row does not know yet
    clock.moved = timedelta(seconds=65)
    look(exchange, clock, held)
    assert exchange.amends[0][1]["count"] == "10.00"


def test_under_a_stop_and_after_a_wish_to_cancel_nothing_is_kept_standing(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    order = resting(exchange, held)
    clock.moved = timedelta(seconds=65)
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope=f"market:{order.ticker}")
    assert look(exchange, clock, held) == 0
    risk.resume(venue=VENUE, actor="operator", reason="over", scope=f"market:{order.ticker}")
    cancels.request_cancel(order=order, actor="operator")
    assert look(exchange, clock, held) == 0
    assert exchange.amends == []


def test_a_pause_leaves_working_orders_standing(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    resting(exchange, held)
    risk.pause(venue=VENUE, actor="operator", reason="news")
    clock.moved = timedelta(seconds=65)
    assert look(exchange, clock, held) == 1


def test_while_our_clock_is_off_and_without_the_lease_nothing_is_renewed(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    resting(exchange, held)
    clock.moved, clock.is_steady = timedelta(seconds=65), False
    assert look(exchange, clock, held) == 0
    clock.is_steady = True
    with (
        locks.take_over("execution", ttl=timedelta(minutes=1), unheard_for=timedelta(0)),
        pytest.raises(locks.Outrun),
    ):
        look(exchange, clock, held)
    assert exchange.amends == []


# --- renewals that prove nothing


def lost_before(_: FakeExchange, __: str, ___: dict[str, Any]) -> AmendOutcome:
    return Unknown("no complete answer in 2 s")


def lost_after(exchange: FakeExchange, order_id: str, body: dict[str, Any]) -> AmendOutcome:
    amend(exchange, order_id, body)
    return Unknown("no complete answer in 2 s")


def test_a_renewal_without_an_answer_is_asked_about_and_believed_by_the_report(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    order = resting(exchange, held)
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lost_after
    assert look(exchange, clock, held) == 0
    pending = Order.objects.get()
    assert pending.renewal_until and pending.expires_at == order.expires_at
    assert look(exchange, clock, held) == 1
    fresh = Order.objects.get()
    assert (fresh.expires_at, fresh.renewal_until) == (pending.renewal_until, None)
    assert len(exchange.amends) == 1


def test_a_renewal_that_did_not_arrive_is_tried_again_only_after_the_report_shows_the_old_expiry(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    """Naive: repeat what was not answered. Here the first looks only ask."""
    resting(exchange, held)
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lost_before
    for _ in range(3):
        look(exchange, clock, held)
    assert len(exchange.amends) == 1
    clock.moved, exchange.amend_behaviour = timedelta(seconds=76), amend
    assert look(exchange, clock, held) == 1
    assert len(exchange.amends) == 2
    first, second = (body for _, body in exchange.amends)
    assert first | {"expiration_time": 0} == second | {"expiration_time": 0}


def test_while_the_exchange_cannot_be_asked_an_unproven_renewal_is_not_repeated(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting(exchange, held)
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lost_before
    look(exchange, clock, held)

    def silent(_: str) -> Any:
        raise NoAnswer("silence")

    monkeypatch.setattr(exchange, "order", silent)
    clock.moved = timedelta(seconds=90)
    assert look(exchange, clock, held) == 0
    assert len(exchange.amends) == 1


def test_one_renewal_without_an_answer_ends_the_look(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    for _ in range(3):
        resting(exchange, held)
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lost_before
    look(exchange, clock, held)
    assert len(exchange.amends) == 1


@pytest.mark.parametrize("outcome", [Refused(400, "trading_is_paused", "paused"), NotSent("no connection")])
def test_a_proven_refusal_leaves_the_order_as_it_was(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held, outcome: AmendOutcome
) -> None:
    order = resting(exchange, held)
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lambda *_: outcome
    for _ in range(3):
        look(exchange, clock, held)
    fresh = Order.objects.get()
    assert (fresh.state, fresh.expires_at, fresh.renewal_until) == ("resting", order.expires_at, None)
    assert len(exchange.amends) == 1


def test_an_order_that_ended_before_its_renewal_is_told_by_the_report(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    order = resting(exchange, held)
    assert order.venue_order_id
    clock.moved, exchange.amend_behaviour = timedelta(seconds=65), lost_before
    look(exchange, clock, held)
    exchange.cancel(order.venue_order_id, market_ticker=order.ticker)
    look(exchange, clock, held)
    assert Order.objects.get().state == OrderState.CANCELED


def test_the_bytes_of_a_renewal_carry_every_term_that_it_must_not_change(
    exchange: FakeExchange, clock: MovableTime, held: locks.Held
) -> None:
    resting(exchange, held)
    clock.moved = timedelta(seconds=65)
    look(exchange, clock, held)
    assert set(exchange.amends[0][1]) == {
        *("ticker", "side", "price", "count", "client_order_id", "expiration_time", "exchange_index"),
    }
    assert json.dumps(exchange.amends[0][1])
