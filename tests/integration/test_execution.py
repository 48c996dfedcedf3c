"""The claim, the one send and what follows, with the exchange answering, refusing, dropping and lying."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from approvals import decisions
from approvals.domain.lifecycle import WrongState
from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry, Lease
from portfolio import ledger, risk
from portfolio.models import CashEntry, Position, Reservation
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange, accept, drop_after_accept, drop_before_accept, fill
from trading.domain.orders import OrderState
from trading.exchange.errors import ClockOff
from trading.exchange.events import Connected, OwnFill, OwnOrder
from trading.exchange.outcomes import NotSent, Refused, SubmitOutcome, Unknown
from trading.execution import cancels, fills, lifecycle
from trading.execution import router as router_module
from trading.execution.claims import ClaimRules
from trading.execution.comparison import Reconciled
from trading.execution.exits import close_position
from trading.execution.own_stream import OwnStream
from trading.execution.reconcile import Evidence, Reconciler, mark_overdue
from trading.execution.router import CALL_OFF_EVERY, Router
from trading.models import Fill, Order, OrderEvent, OrderGroup, Quote

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def router(exchange: FakeExchange, **changes: Any) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1), **changes)


def reconciler(exchange: FakeExchange, evidence: Evidence | None = None) -> Reconciler:
    quick = Evidence(timedelta(0), timedelta(0), 2)
    return Reconciler(VENUE, exchange, exchange, evidence or quick)  # type: ignore[arg-type]


def test_an_approved_proposal_becomes_one_resting_order(exchange: FakeExchange, held: locks.Held) -> None:
    proposal = approved()
    assert router(exchange).round(held) == 1
    order = Order.objects.get()
    assert (order.state, order.proposal_id, order.attempts) == ("resting", proposal.pk, 1)
    assert exchange.sent[0]["client_order_id"] == order.client_order_id
    assert order.body_hash and order.venue_order_id == "venue-1"
    assert Proposal.objects.get().state == "claimed"
    assert [e.to_state for e in OrderEvent.objects.all()] == ["sending", "resting"]


class VenueTime:
    """An exchange whose clock is ten minutes ahead of ours."""

    def __init__(self, *, is_steady: bool = True) -> None:
        self.is_steady = is_steady

    def now(self) -> datetime:
        return timezone.now() + timedelta(minutes=10)

    def require_steady(self) -> None:
        if not self.is_steady:
            raise ClockOff("our clock is -600.0 s off the exchange's")


def test_an_order_is_signed_and_expires_by_the_exchanges_time(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    router(exchange, clock=VenueTime()).round(held)
    order = Order.objects.get()
    assert order.signed_at is not None and order.expires_at is not None and order.answer_due_at is not None
    assert order.signed_at - timezone.now() > timedelta(minutes=9)
    assert order.expires_at - order.signed_at > timedelta(seconds=30)
    assert order.answer_due_at - timezone.now() < timedelta(seconds=10)  # our own patience
    assert exchange.sent[0]["expiration_time"] == int(order.expires_at.timestamp())


def test_while_our_clock_is_off_nothing_is_claimed_and_cancels_go_on(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    router(exchange).round(held)
    cancels.request_cancel(order=Order.objects.get(), actor="user:op")
    waiting = factories.ProposalFactory(state="approved", decided_at=timezone.now())
    assert router(exchange, clock=VenueTime(is_steady=False)).round(held) == 0
    assert [report.state for report in exchange.book.values()] == [OrderState.CANCELED]
    waiting.refresh_from_db()
    assert waiting.state == "approved"


@pytest.mark.usefixtures("past_the_guards")
def test_while_our_clock_is_off_an_exit_goes_out(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = fill
    approved()
    router(exchange).round(held)
    reconciler(exchange).run()
    close_position(venue=VENUE, ticker=Position.objects.get().ticker, actor="op")
    assert router(exchange, clock=VenueTime(is_steady=False)).round(held) == 1
    assert exchange.sent[-1]["reduce_only"]


def test_a_second_round_sends_nothing_more(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    desk = router(exchange)
    assert [desk.round(held), desk.round(held)] == [1, 0]
    assert len(exchange.sent) == 1


def test_a_fill_moves_order_position_cash_and_frees_the_reservation(
    exchange: FakeExchange, held: locks.Held
) -> None:
    exchange.behaviour = fill
    approved()
    router(exchange).round(held)
    assert Order.objects.get().state == "filled"
    assert Reservation.objects.get().released_at is None, "the fill is not in the books yet: still reserved"
    reconciler(exchange).run()
    position = Position.objects.get()
    assert (position.quantity, position.cost, position.fees) == (D(10), D(5), D("0.01"))
    assert ledger.cash(VENUE) == exchange.cash == D("9994.99")
    assert Reservation.objects.get().released_at is not None


def test_the_same_fill_is_booked_once_however_often_it_comes(
    exchange: FakeExchange, held: locks.Held
) -> None:
    exchange.behaviour = fill
    approved()
    router(exchange).round(held)
    report = exchange.executions[0]
    assert fills.record_fill(VENUE, report) is not None
    assert fills.record_fill(VENUE, report) is None
    reconciler(exchange).run()
    assert Fill.objects.count() == 1
    assert CashEntry.objects.filter(kind="fill").count() == 1


def test_a_fill_that_overtakes_the_answer_is_kept(exchange: FakeExchange, held: locks.Held) -> None:
    def fill_first(ex: FakeExchange, body: dict[str, Any]) -> Any:
        answer = accept(ex, body)
        news = ex.execute(answer.order_id, D(4))
        from dataclasses import replace

        assert fills.record_fill(VENUE, replace(news, client_order_id=body["client_order_id"])) is not None
        return answer  # says: nothing filled, all remaining

    exchange.behaviour = fill_first
    approved()
    router(exchange).round(held)
    order = Order.objects.get()
    assert (order.state, order.filled_quantity, order.remaining_quantity) == ("partially_filled", D(4), D(6))


def test_no_answer_after_the_stream_has_told_changes_nothing(
    exchange: FakeExchange, held: locks.Held
) -> None:
    def told_by_the_stream(ex: FakeExchange, body: dict[str, Any]) -> Any:
        lifecycle.record_report(Order.objects.get(), ex.rest(body))
        return Unknown("no complete answer in 5 s")

    exchange.behaviour = told_by_the_stream
    approved()
    router(exchange).round(held)
    assert (Order.objects.get().state, Order.objects.get().venue_order_id) == ("resting", "venue-1")


def test_a_refusal_closes_the_order_and_frees_the_money(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = lambda *_: Refused(400, "insufficient_balance", "not enough")
    approved()
    router(exchange).round(held)
    order = Order.objects.get()
    assert (order.state, order.code) == ("rejected", "insufficient_balance")
    assert Reservation.objects.get().released_at is not None


def test_not_sent_is_proven_and_closes_the_order(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = lambda *_: NotSent("connection refused")
    approved()
    router(exchange).round(held)
    assert Order.objects.get().state == "not_sent"


@pytest.mark.parametrize("behaviour", [drop_after_accept, drop_before_accept])
def test_no_answer_is_unknown_keeps_the_reservation_and_is_never_resent(
    exchange: FakeExchange, held: locks.Held, behaviour: Any
) -> None:
    exchange.behaviour = behaviour
    approved()
    desk = router(exchange)
    desk.round(held)
    desk.round(held)
    assert Order.objects.get().state == "unknown"
    assert Reservation.objects.get().released_at is None
    assert len(exchange.sent) == 1


def test_an_unknown_order_that_is_on_the_exchange_is_found(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = drop_after_accept
    approved()
    router(exchange).round(held)
    reconciler(exchange).orders(Reconciled())
    assert Order.objects.get().state == "resting"


def test_read_lag_alone_never_makes_an_order_absent(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = drop_after_accept
    approved()
    router(exchange).round(held)
    exchange.hidden = {Order.objects.get().client_order_id}
    exchange.reads_as_of = timezone.now() - timedelta(seconds=5)
    for _ in range(5):
        reconciler(exchange).orders(Reconciled())
    assert Order.objects.get().state == "unknown"


def test_absent_needs_two_searches_and_leaves_a_trace(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = drop_before_accept
    approved()
    router(exchange).round(held)
    judge = reconciler(exchange)
    judge.orders(Reconciled())
    assert Order.objects.get().state == "unknown"
    judge.orders(Reconciled())
    order = Order.objects.get()
    assert order.state == "absent" and "2 complete searches" in order.evidence
    assert Reservation.objects.get().released_at is not None
    assert AuditEntry.objects.filter(verb="order.absent").exists()


def test_an_absent_order_that_fills_after_all_is_adopted(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = drop_after_accept
    approved()
    router(exchange).round(held)
    order = Order.objects.get()
    exchange.hidden = {order.client_order_id}
    for _ in range(2):
        reconciler(exchange).orders(Reconciled())
    assert Order.objects.get().state == "absent"
    exchange.hidden = set()
    from dataclasses import replace

    news = exchange.execute("venue-1", D(10))
    assert fills.record_fill(VENUE, replace(news, client_order_id=order.client_order_id)) is not None
    assert Order.objects.get().state == "filled"
    assert Position.objects.get().quantity == D(10)


def test_a_sender_that_died_leaves_an_order_that_becomes_unknown(
    exchange: FakeExchange, held: locks.Held
) -> None:
    class Died(BaseException):
        pass

    def die(point: str) -> None:
        if point == "claimed":
            raise Died

    approved()
    with pytest.raises(Died):
        router(exchange, checkpoint=die).round(held)
    assert Order.objects.get().state == "sending"
    Order.objects.update(answer_due_at=timezone.now() - timedelta(seconds=1))
    assert mark_overdue(VENUE) == 1
    assert router(exchange).round(held) == 0
    assert exchange.sent == []


def test_the_claim_judges_again_and_voids_what_no_longer_holds(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    Quote.objects.update(yes_ask=D("0.30"), yes_bid=D("0.28"))
    assert router(exchange).round(held) == 0
    proposal = Proposal.objects.get()
    assert proposal.state == "voided"
    assert "E310" in proposal.events.last().reason
    assert Reservation.objects.get().released_at is not None
    assert exchange.sent == []


def test_a_stop_between_approval_and_claim_voids(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    assert router(exchange).round(held) == 0
    assert Proposal.objects.get().state == "voided"


def test_an_old_approval_is_not_sent(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    Proposal.objects.update(decided_at=timezone.now() - timedelta(minutes=5))
    assert router(exchange).round(held) == 0
    assert Proposal.objects.get().state == "voided"


def test_a_market_with_an_unknown_order_takes_no_new_one(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = drop_before_accept
    first = approved()
    router(exchange).round(held)
    exchange.behaviour = accept
    from trading.models import Market

    approved(market=Market.objects.get(ticker=first.ticker))
    assert router(exchange).round(held) == 0
    assert "unknown" in Proposal.objects.latest("id").events.last().reason


def test_a_stop_cancels_working_orders_and_a_cancel_is_verified_by_reading(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    desk = router(exchange)
    desk.round(held)
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    desk.round(held)
    reconciler(exchange).orders(Reconciled())
    order = Order.objects.get()
    assert (order.state, order.cancel_requested_by) == ("canceled", "execution")
    assert exchange.book["venue-1"].state is OrderState.CANCELED
    assert Reservation.objects.get().released_at is not None


def test_cancel_works_while_trading_is_stopped(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    desk = router(exchange)
    desk.round(held)
    cancels.request_cancel(order=Order.objects.get(), actor="operator")
    desk.round(held)
    reconciler(exchange).orders(Reconciled())
    with pytest.raises(cancels.NotCancelable):
        cancels.request_cancel(order=Order.objects.get(), actor="operator")


def test_a_lease_that_was_taken_over_claims_nothing(exchange: FakeExchange) -> None:
    approved()
    with (
        locks.lease("execution", ttl=timedelta(seconds=0)) as old,
        locks.lease("execution", ttl=timedelta(minutes=1)),
        pytest.raises(locks.Outrun),
    ):
        router(exchange).round(old)
    assert not Order.objects.exists()
    assert exchange.sent == []


def test_the_database_refuses_a_second_order_and_a_second_attempt(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    router(exchange).round(held)
    order = Order.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Order.objects.filter(pk=order.pk).update(attempts=2)
    order.pk = None
    order.public_id, order.client_order_id, order.venue_order_id = "ord_x", "x", "x"
    with pytest.raises(IntegrityError), transaction.atomic():
        order.save(force_insert=True)


def test_a_claimed_proposal_cannot_be_claimed_again(exchange: FakeExchange, held: locks.Held) -> None:
    proposal = approved()
    router(exchange).round(held)
    with pytest.raises(WrongState), transaction.atomic():
        decisions.claim(proposal=Proposal.objects.get(pk=proposal.pk))


def test_an_order_found_on_the_exchange_is_adopted_and_labelled(exchange: FakeExchange) -> None:
    market = factories.quoted_market()
    exchange.rest(
        {"client_order_id": "by-hand", "ticker": market.ticker, "side": "bid", "price": "0.30", "count": "5"}
    )
    assert reconciler(exchange).run().adopted == 1
    order = Order.objects.get()
    assert (order.origin, order.client_order_id, order.state) == ("external", "by-hand", "resting")
    assert reconciler(exchange).run().adopted == 0


def test_a_broken_send_is_unknown_not_failed(exchange: FakeExchange, held: locks.Held) -> None:
    def broken(*_: Any) -> Any:
        raise MemoryError("odd")

    exchange.behaviour = broken
    approved()
    router(exchange).round(held)
    assert Order.objects.get().state == "unknown"


def test_an_outcome_without_proof_keeps_its_exchange_code(exchange: FakeExchange, held: locks.Held) -> None:
    exchange.behaviour = lambda *_: Unknown("HTTP 409", 409, "order_already_exists")
    approved()
    router(exchange, rules=ClaimRules()).round(held)
    assert (Order.objects.get().state, Order.objects.get().code) == ("unknown", "order_already_exists")


def test_a_cancel_does_not_wait_for_the_other_sends_of_a_round(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: all that wait are sent first, each for as long as its tokens and its answer take."""
    desk = router(exchange)
    approved()
    desk.round(held)
    standing: list[OrderState] = []

    def answer(there: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
        standing.append(there.book["venue-1"].state)
        if len(standing) == 1:  # a person cancels while the first one is under way
            cancels.request_cancel(order=Order.objects.get(venue_order_id="venue-1"), actor="user:op")
            time.sleep(CALL_OFF_EVERY)  # as long as an answer takes; a quicker one keeps nobody waiting
        return accept(there, body)

    exchange.behaviour = answer
    for _ in range(2):
        factories.ProposalFactory(state="approved", decided_at=timezone.now())
    assert desk.round(held) == 2
    assert standing == [OrderState.RESTING, OrderState.CANCELED]


class TestTheNextIsClaimedWhileTheExchangeAnswers:
    """Decision 17."""

    @staticmethod
    def _orders_at_each_answer(exchange: FakeExchange) -> list[int]:
        seen: list[int] = []

        def answer(there: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
            seen.append(Order.objects.count())
            return accept(there, body)

        exchange.behaviour = answer
        return seen

    def test_it_stands_ready_when_the_answer_comes(self, exchange: FakeExchange, held: locks.Held) -> None:
        """Naive: the database waits for the exchange, and then the exchange for the database."""
        seen: list[list[str]] = []

        def answer(there: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
            seen.append(list(Order.objects.order_by("id").values_list("state", flat=True)))
            return accept(there, body)

        exchange.behaviour = answer
        for _ in range(3):
            approved()
        assert router(exchange).round(held) == 3
        assert seen == [["sending"] * 2, ["resting", *["sending"] * 2], [*["resting"] * 2, "sending"]]
        assert [body["client_order_id"] for body in exchange.sent] == list(
            Order.objects.order_by("id").values_list("client_order_id", flat=True)
        )

    def test_but_not_in_the_same_market_whose_order_is_not_proven_yet(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        """Naive: the order under way has no known outcome, and voids the next."""
        market = factories.quoted_market(ticker="SIMTEST-ONE")
        for _ in range(2):
            approved(market=market)
        assert router(exchange).round(held) == 2
        assert [order.state for order in Order.objects.all()] == ["resting", "resting"]

    def test_nor_an_exit_which_a_slow_answer_would_make_too_old_to_send(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        for name in ("SIMTEST-ONE", "SIMTEST-TWO"):
            market = factories.quoted_market(ticker=name)
            Position.objects.create(
                venue=VENUE, ticker=name, event_ticker=market.event_ticker, quantity=D(10)
            )
            approved(market=market, action="sell", reduce_only=True)
        seen = self._orders_at_each_answer(exchange)
        assert router(exchange).round(held) == 2
        assert seen == [1, 2]

    def test_after_a_slow_answer_the_next_waits_for_its_own_turn(
        self, exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Naive: with an exchange that takes longer than an order may be old, every second approval is lost; and so it
        is where that is forgotten at the end of a round, which a slow answer is."""
        monkeypatch.setattr(router_module, "QUICK_ANSWER", 0.0)
        seen, desk = self._orders_at_each_answer(exchange), router(exchange)
        for _ in range(2):
            approved(), approved()
            assert desk.round(held) == 2
        assert seen == [2, 2, 3, 4], "ahead of the first answer one is claimed, later none"

    @pytest.mark.parametrize("withdraw", ["pause", "cancel"])
    def test_a_pause_or_a_cancel_that_comes_meanwhile_keeps_it_from_leaving(
        self, exchange: FakeExchange, held: locks.Held, withdraw: str
    ) -> None:
        def answer(there: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
            if withdraw == "pause":
                risk.pause(venue=VENUE, actor="operator", reason="drill")
            else:
                cancels.request_cancel(order=Order.objects.get(proposal=second), actor="user:op")
            return accept(there, body)

        exchange.behaviour = answer
        approved()
        second = approved()
        router(exchange).round(held)
        order = Order.objects.get(proposal=second)
        assert (order.state, len(exchange.sent)) == ("not_sent", 1)
        assert ("E305" if withdraw == "pause" else "called off") in order.evidence

    def test_when_the_order_before_breaks_it_is_said_at_once_that_it_was_not_sent(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        """Naive: it stands as sending, and blocks its market until it is proven absent."""
        first, second = approved(), approved()

        def breaks(point: str) -> None:
            if point == "answered":
                raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError):
            router(exchange, checkpoint=breaks).round(held)
        states = dict(Order.objects.values_list("proposal_id", "state"))
        assert states == {first.pk: "sending", second.pk: "not_sent"}

    def test_what_breaks_there_leaves_the_order_under_way_its_outcome(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        """Naive: the fault comes out of the send, which then counts as unproven."""
        first, second = approved(), approved()

        def overtaken(point: str) -> None:
            if point == "sending":
                Lease.objects.filter(name=held.name).update(fence=held.fence + 1)

        with pytest.raises(locks.Outrun):
            router(exchange, checkpoint=overtaken).round(held)
        assert Order.objects.get().proposal == first and Order.objects.get().state == "resting"
        second.refresh_from_db()
        assert second.state == "approved"

    def test_a_stop_that_comes_meanwhile_keeps_it_from_leaving(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        """Naive: it was claimed before the stop, and goes out when the answer is there."""

        def answer(there: FakeExchange, body: dict[str, Any]) -> SubmitOutcome:
            risk.halt(venue=VENUE, actor="operator", reason="drill")
            return accept(there, body)

        exchange.behaviour = answer
        approved(), approved()
        router(exchange).round(held)
        first, second = Order.objects.order_by("id")
        assert (first.state, second.state, len(exchange.sent)) == ("resting", "not_sent", 1)
        assert "E306" in second.evidence
        assert Reservation.objects.get(released_at=None).key == first.proposal.public_id  # type: ignore[union-attr]

    def test_an_order_that_lacks_its_net_waits_until_the_answer_is_there(
        self, exchange: FakeExchange, held: locks.Held
    ) -> None:
        """To make a net is a word with the exchange, and the answer to the order would lie there unread."""
        made: list[int] = []

        class Nets:
            def ensure(self, exchange_index: int) -> bool:
                made.append(len(exchange.book))
                OrderGroup.objects.create(
                    venue=VENUE,
                    exchange_index=exchange_index,
                    venue_group_id=f"group-{exchange_index}",
                    contracts_limit=D(1000),
                )
                return True

            def heed(self, *_: object) -> None: ...

        approved()
        approved(market=factories.quoted_market(ticker="SIMTEST-FAR", exchange_index=1))
        desk = router(exchange, rules=ClaimRules(needs_group=True), nets=Nets())
        assert desk.round(held) == 2
        assert made == [0, 1]


def test_a_cancel_that_breaks_leaves_the_other_cancels_and_the_round_alone(
    exchange: FakeExchange, held: locks.Held
) -> None:
    desk = router(exchange)
    for _ in range(2):
        approved()
    desk.round(held)
    proper, asked = exchange.cancel, []

    def odd(order_id: str, **how: Any) -> Any:
        asked.append(order_id)
        if order_id == "venue-1":
            raise MemoryError("odd")
        return proper(order_id, **how)

    exchange.cancel = odd  # type: ignore[method-assign]
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    desk.round(held)
    assert set(asked) == {"venue-1", "venue-2"}
    assert [report.state for report in exchange.book.values()].count(OrderState.CANCELED) == 1


def test_a_fill_of_another_subaccount_is_not_booked(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: fills come of all subaccounts, cash and positions of the primary one alone: the books would part."""
    exchange.behaviour = fill
    approved()
    router(exchange).round(held)
    exchange.executions[0] = replace(exchange.executions[0], subaccount=1)
    reconciler(exchange).fills(Reconciled(), timezone.now() - timedelta(hours=1))
    news = OwnStream(VENUE, lambda: None, threading.Event())  # type: ignore[arg-type, return-value]
    news.apply(OwnFill(exchange.executions[0], 0))
    assert not Fill.objects.exists()
    news.apply(OwnFill(replace(exchange.executions[0], subaccount=0), 0))
    assert Fill.objects.count() == 1


def test_what_the_answer_and_the_stream_both_say_is_written_once(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    exchange.behaviour = accept
    router(exchange).round(held)
    order = Order.objects.get()
    [report] = exchange.orders(status="resting")
    news = OwnStream(VENUE, lambda: None, threading.Event())  # type: ignore[arg-type, return-value]
    news.apply(OwnOrder(report, 0))
    assert Order.objects.get().version == order.version
    assert OrderEvent.objects.count() == 2  # claimed, accepted
    news.apply(OwnOrder(replace(report, state=OrderState.CANCELED, remaining_quantity=D(0)), 0))
    assert Order.objects.get().state == OrderState.CANCELED


def test_an_event_waits_a_moment_for_the_answer_to_come_first_and_a_burst_does_not() -> None:
    """Written while the answer is on its way, the same news would be written twice, each holding the other up."""

    class Clockless(threading.Event):
        waited = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waited += 1
            return False

    stop = Clockless()
    news = OwnStream(VENUE, lambda: None, stop)  # type: ignore[arg-type, return-value]
    for _ in range(5):
        news._queue(Connected(0))
    assert [news._next() is not None for _ in range(5)] == [True] * 5
    assert stop.waited == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL chooses by what it has counted")
def test_no_question_on_an_orders_way_reads_the_orders_that_are_over(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: an index on the venue, which all orders of a desk share: after a year each claim reads them all."""
    approved()
    with CaptureQueriesContext(connection) as asked:
        assert router(exchange).round(held) == 1
    questions = [each["sql"] for each in asked if each["sql"].startswith("SELECT")]
    steps = {step for question in questions for step in how_it_is_found(question)}
    of_orders = {step for step in steps if " trading_order " in step}
    assert of_orders
    assert not {step for step in of_orders if step.startswith("SCAN") or step.endswith("(venue=?)")}
    assert not {step for step in steps if step.startswith("SCAN") and "risklimit" not in step}
    assert any("portfolio_cashentry USING COVERING INDEX" in step for step in steps), (
        "cash is a sum of many rows"
    )


def how_it_is_found(question: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {question}")
        return [row[-1] for row in cursor.fetchall()]
