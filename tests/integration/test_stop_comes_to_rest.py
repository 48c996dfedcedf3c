"""A stop covers what it says, holds at the claim, and is at rest only when the exchange's own list says so."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from approvals import decisions
from approvals.models import Proposal
from kalshi_site import locks, wiring
from kalshi_site.locks import CLOCKS_APART
from kalshi_site.models import AuditEntry, Lease
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.models import Position, TradingState
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange, accept, drop_after_accept, fill
from trading.domain.orders import OrderState
from trading.exchange.errors import NoAnswer
from trading.execution import cancels, halting, stand_in
from trading.execution import router as router_module
from trading.execution.exits import close_position
from trading.execution.process import LEASE_TTL, Pulse
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def held() -> Iterator[locks.Held]:
    with locks.lease("execution", ttl=LEASE_TTL + CLOCKS_APART) as lease:  # as long as one is believed
        yield lease


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def working(exchange: FakeExchange, held: locks.Held, **fields: Any) -> Order:
    proposal = approved(**fields)
    exchange.behaviour = accept
    router(exchange).round(held)
    return Order.objects.get(proposal=proposal)


def stop(scope: str = "") -> TradingState:
    return risk.halt(venue=VENUE, actor="operator", reason="drill", scope=scope)


def resting(exchange: FakeExchange) -> set[str]:
    return {report.order_id for report in exchange.orders(status="resting")}


# --- scopes at the claim


@pytest.mark.parametrize("scope", ["", "strategy:edge", "series:SIMTEST", "market:{ticker}"])
def test_a_stop_covers_what_it_says_and_nothing_else(
    exchange: FakeExchange, held: locks.Held, scope: str
) -> None:
    inside = approved(strategy="edge")
    other_market = factories.quoted_market(series_ticker="OTHER", ticker="OTHER-1", event_ticker="OTHER")
    outside = approved(market=other_market, strategy="patience")
    stop(scope.format(ticker=inside.ticker))
    assert router(exchange).round(held) == (0 if scope == "" else 1)
    assert Proposal.objects.get(pk=inside.pk).state == "voided"
    assert Proposal.objects.get(pk=outside.pk).state == ("voided" if scope == "" else "claimed")


def test_a_paused_series_lets_exits_pass_and_denies_what_opens() -> None:
    factories.funded()
    market = factories.quoted_market()
    risk.pause(venue=VENUE, actor="operator", reason="news", scope="series:SIMTEST")
    proposal = factories.ProposalFactory(market=market)
    with pytest.raises(risk.Denied) as denied:
        decisions.approve(
            proposal=proposal,
            terms_hash=proposal.terms_hash,
            version=1,
            actor=factories.approver(),
            method="page",
        )
    assert denied.value.code == "E305"
    Position.objects.create(venue=VENUE, ticker=market.ticker, event_ticker="E", quantity=D(5), cost=D(2))
    assert close_position(venue=VENUE, ticker=market.ticker, actor="operator").state == "approved"


def test_a_stop_of_one_scope_holds_for_what_was_claimed_before_it_also_after_a_resume(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = working(exchange, held)
    stop("series:SIMTEST")
    risk.resume(venue=VENUE, actor="operator", reason="all clear", scope="series:SIMTEST")
    router(exchange).round(held)
    assert resting(exchange) == set()
    again = working(exchange, held)
    router(exchange).round(held)
    assert resting(exchange) == {again.venue_order_id} != {order.venue_order_id}


def test_the_epoch_grows_with_every_stop_of_any_scope() -> None:
    stop("market:A")
    stop("series:S")
    assert risk.trading_state(VENUE).kill_epoch == 2
    assert [row.halted_epoch for row in risk.standing(VENUE)] == [1, 2]
    assert risk.trading_state(VENUE).mode == "ACTIVE"


# --- at rest


def test_a_stop_is_at_rest_when_the_exchange_lists_nothing_whoever_placed_it(
    exchange: FakeExchange, held: locks.Held
) -> None:
    working(exchange, held)
    exchange.rest(
        {"ticker": "FOREIGN", "client_order_id": "by hand", "side": "bid", "count": "1", "price": "0.1"}
    )
    stop()
    assert not halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    assert resting(exchange) == set()
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    state = risk.trading_state(VENUE)
    assert state.cleared_at is not None
    assert state.events.last().reason.startswith("no working order is left")  # type: ignore[union-attr]


def test_the_proof_does_not_make_old_what_a_person_saw_of_the_stop(exchange: FakeExchange) -> None:
    seen = stop()
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    resumed = risk.resume(venue=VENUE, actor="operator", reason="all clear", version=seen.version)
    assert resumed.mode == "ACTIVE"


def test_a_scoped_stop_leaves_the_rest_working(exchange: FakeExchange, held: locks.Held) -> None:
    inside = working(exchange, held)
    outside = working(exchange, held, market=factories.quoted_market(series_ticker="OTHER", ticker="O-1"))
    stop(f"market:{inside.ticker}")
    for _ in range(2):
        router(exchange).call_off()
        halting.clear(router(exchange), exchange)  # type: ignore[arg-type]
    assert resting(exchange) == {outside.venue_order_id}
    assert risk.uncleared(VENUE) == []


def test_an_order_without_an_answer_keeps_a_stop_from_rest(exchange: FakeExchange, held: locks.Held) -> None:
    approved()
    exchange.behaviour = drop_after_accept
    router(exchange).round(held)
    order = Order.objects.get()
    assert order.state == OrderState.UNKNOWN
    exchange.hidden.add(order.client_order_id)
    stop()
    assert not halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    exchange.hidden.clear()
    Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]
    router(exchange).call_off()
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    assert resting(exchange) == set()


def test_a_list_that_lags_does_not_prove_rest_while_our_own_order_stands(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = working(exchange, held)
    exchange.hidden.add(order.client_order_id)
    stop()
    assert not halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    assert risk.trading_state(VENUE).cleared_at is None
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    order.refresh_from_db()
    assert order.state == OrderState.CANCELED


def test_what_a_stop_covers_is_canceled_before_that_is_written_down(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: a note in the books for each of hundreds of orders, and only then the first cancel."""
    working(exchange, held)
    stop()

    def locked(*_: Any) -> Any:
        raise OperationalError("database is locked")

    monkeypatch.setattr(cancels, "request_cancel_stopped", locked)
    with pytest.raises(OperationalError):
        router(exchange).call_off()
    assert resting(exchange) == set()
    monkeypatch.undo()
    router(exchange).call_off()
    assert Order.objects.get().cancel_requested_by == "execution"


def test_a_stop_of_many_orders_is_proven_by_one_look(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: each order is a question of its own, so many per look."""
    for _ in range(halting.MOST_READS + 5):
        working(exchange, held)
    stop()
    router(exchange).call_off()
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    assert resting(exchange) == set()
    Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]
    assert set(Order.objects.values_list("state", flat=True)) == {"canceled"}


def test_the_proof_of_a_stop_of_many_orders_does_not_wait_for_their_bookings(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: each order's end is written down first, which takes a busy desk some seconds."""
    for _ in range(halting.MOST_READS + 5):
        working(exchange, held)
    stop()
    router(exchange).call_off()
    monkeypatch.setattr(halting, "record_report", lambda *_: pytest.fail("a booking before the proof"))
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]


def test_an_order_that_the_exchange_does_not_know_yet_keeps_a_stop_from_rest(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = working(exchange, held)
    report = exchange.book.pop(order.venue_order_id or "")
    stop()
    assert not halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    exchange.book[report.order_id] = replace(report, state=OrderState.CANCELED, remaining_quantity=D(0))
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]


def test_an_exchange_that_does_not_answer_proves_nothing(exchange: FakeExchange, held: locks.Held) -> None:
    working(exchange, held)
    stop()

    class Deaf(FakeExchange):
        def orders(self, **_: Any) -> Any:
            raise NoAnswer("silence")

    with pytest.raises(NoAnswer):
        halting.clear(router(exchange), Deaf())  # type: ignore[arg-type]
    assert risk.trading_state(VENUE).cleared_at is None


# --- when execution is dead or frozen


def parts(exchange: FakeExchange) -> Any:
    return lambda: (router(exchange), exchange)


def test_whoever_stops_does_it_when_execution_is_dead(exchange: FakeExchange) -> None:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        working(exchange, lease)
    stop()
    assert stand_in.bring_to_rest(VENUE, parts(exchange), within=5)
    assert resting(exchange) == set()
    assert risk.trading_state(VENUE).cleared_at is not None


def test_a_frozen_execution_is_outrun_and_can_send_nothing_more(exchange: FakeExchange) -> None:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as frozen:
        working(exchange, frozen)
        late = approved()
        Lease.objects.update(expires_at=timezone.now() + timedelta(seconds=4))  # last heard 6 s ago
        stop("market:ELSEWHERE")
        assert stand_in.bring_to_rest(VENUE, parts(exchange), within=5)
        with pytest.raises(locks.Outrun):
            router(exchange).send(late, frozen)
    assert len(exchange.sent) == 1


@pytest.mark.parametrize("off", [timedelta(hours=1), -timedelta(hours=1)], ids=["fast", "slow"])
def test_whoever_stops_does_it_when_execution_died_with_a_wrong_clock(
    exchange: FakeExchange, held: locks.Held, off: timedelta
) -> None:
    """Naive: an end that is an hour ahead is a heartbeat. The stop waits for an execution that is dead."""
    working(exchange, held)
    stop()
    Lease.objects.update(expires_at=timezone.now() + off + LEASE_TTL)
    assert stand_in.bring_to_rest(VENUE, parts(exchange), within=5)
    assert resting(exchange) == set()


def test_whoever_stops_goes_on_when_somebody_else_took_the_lease_a_moment_before(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: one try. The person who stops then reads a traceback instead of whether the stop is at rest."""
    working(exchange, held)
    stop()
    monkeypatch.setattr(stand_in, "is_execution_alive", lambda: False)  # it came back just after this look
    with pytest.raises(locks.Busy):
        stand_in._do_it_ourselves(parts(exchange), time.monotonic() + 5, lambda _: None)

    def die(_: float) -> None:
        Lease.objects.update(holder="")

    assert stand_in.bring_to_rest(VENUE, parts(exchange), within=5, pause=die)
    assert resting(exchange) == set()


def test_whoever_stops_goes_on_when_the_lease_is_taken_in_the_middle(exchange: FakeExchange) -> None:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        working(exchange, lease)
    stop()
    opened: list[int] = []

    class Seized(FakeExchange):
        taken = False

        def orders(self, **asked: Any) -> Any:
            if not self.taken:
                self.taken = True  # by one that falls silent at once: last heard 6 s ago
                silent_since = timezone.now() + timedelta(seconds=4)
                Lease.objects.update(holder="another", fence=F("fence") + 1, expires_at=silent_since)
                raise NoAnswer("silence")
            return exchange.orders(**asked)

        def order(self, order_id: str) -> Any:
            return exchange.order(order_id)

    account = Seized()

    def open_parts() -> Any:
        opened.append(1)
        return router(exchange), account

    assert stand_in.bring_to_rest(VENUE, open_parts, within=5, pause=lambda _: None)
    assert (resting(exchange), len(opened)) == (set(), 1)


def test_a_living_execution_is_left_to_do_it(exchange: FakeExchange, held: locks.Held) -> None:
    working(exchange, held)
    stop()
    assert not stand_in.bring_to_rest(VENUE, parts(exchange), within=0.3)
    assert Lease.objects.get(name="execution").fence == held.fence


def test_the_naive_stand_in_that_waits_for_the_lease_to_run_out_is_too_late(exchange: FakeExchange) -> None:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as frozen:
        working(exchange, frozen)
        Lease.objects.update(expires_at=timezone.now() + timedelta(seconds=4))
        stop()
        with pytest.raises(locks.Busy), locks.lease("execution", ttl=timedelta(seconds=10)):
            pass  # the naive variant: it would wait four more seconds with orders resting


def test_the_command_stops_proves_it_and_says_so(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        working(exchange, lease)
    monkeypatch.setattr(wiring, "stand_in", parts(exchange))
    told = StringIO()
    call_command("trade", "halt", reason="drill", json=True, stdout=told)
    report = json.loads(told.getvalue())
    assert (report["mode"], report["standing"]) == ("HALTED", {"all": "HALTED"})
    assert report["cleared_at"]
    with pytest.raises(CommandError, match="E012"):
        call_command("trade", "halt", scope="serie:X")
    with pytest.raises(CommandError, match="E010"):
        call_command("trade", "resume")
    told = StringIO()
    call_command("trade", "resume", reason="all clear", stdout=told)
    assert "ACTIVE" in told.getvalue()


def test_the_command_stops_with_redis_celery_web_and_execution_dead(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Nothing else runs in this test: what the command needs is the database, the exchange and the key's file."""
    with locks.lease("execution", ttl=timedelta(seconds=10)) as lease:
        working(exchange, lease)
    settings.REDIS_URL = settings.REDIS_CACHE_URL = settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(wiring, "stand_in", parts(exchange))
    told = StringIO()
    call_command("trade", "halt", reason="drill", json=True, stdout=told)
    assert json.loads(told.getvalue())["cleared_at"]
    assert resting(exchange) == set()


def test_a_stop_that_is_asked_for_again_cancels_what_appeared_since_and_is_proven_anew(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "stand_in", parts(exchange))
    call_command("trade", "halt", reason="drill", stdout=StringIO())
    first = risk.trading_state(VENUE)
    exchange.rest(
        {"ticker": "FOREIGN", "client_order_id": "by hand", "side": "bid", "count": "1", "price": "0.1"}
    )
    call_command("trade", "halt", reason="an order is there", stdout=StringIO())
    second = risk.trading_state(VENUE)
    assert resting(exchange) == set()
    assert first.cleared_at is not None
    assert second.cleared_at is not None
    assert second.cleared_at > first.cleared_at
    assert (second.version, second.kill_epoch) == (first.version + 1, first.kill_epoch)
    assert AuditEntry.objects.filter(verb="trading.halt").count() == 2


# --- a pause does not loosen a stop


@pytest.mark.parametrize("scope", ["", "series:SIMTEST"])
def test_a_pause_leaves_a_stop_as_it_is(scope: str) -> None:
    stopped = stop(scope)
    row = risk.pause(venue=VENUE, actor="another", reason="lunch", scope=scope)
    assert (row.mode, row.version, row.reason) == ("HALTED", stopped.version, "drill")
    assert not AuditEntry.objects.filter(verb="trading.pause").exists()
    risk.reduce(venue=VENUE, actor="drift", reason="odd")
    assert TradingState.objects.get(pk=stopped.pk).version == stopped.version


def test_at_the_terminal_a_pause_of_a_stop_says_that_it_stands() -> None:
    stop()
    told, err = StringIO(), StringIO()
    call_command("trade", "pause", reason="lunch", stdout=told, stderr=err)
    assert "HALTED" in told.getvalue()
    assert "already stopped" in err.getvalue()


# --- resuming


def test_a_live_desk_is_resumed_by_two_persons() -> None:
    risk.halt(venue="live", actor="one", reason="drill")
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="one", reason="all clear")
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="one", reason="really")
    assert risk.trading_state("live").mode == "HALTED"
    assert risk.resume(venue="live", actor="two", reason="seen it too").mode == "ACTIVE"
    verbs = list(AuditEntry.objects.order_by("id").values_list("verb", flat=True))
    assert verbs == ["trading.halt", "trading.resume_asked", "trading.resume_asked", "trading.resume"]


def test_a_stop_while_stopped_stands_against_a_resume_that_does_not_know_of_it() -> None:
    seen = risk.halt(venue="live", actor="ann", reason="drill").version
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="ann", reason="all clear", version=seen)
    risk.halt(venue="live", actor="carl", reason="something new")
    with pytest.raises(StaleVersion):
        risk.resume(venue="live", actor="bob", reason="all clear", version=seen)
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="bob", reason="ann has said so")
    row = risk.trading_state("live")
    assert (row.mode, row.changed_by, row.reason) == ("HALTED", "carl", "something new")
    assert AuditEntry.objects.filter(verb="trading.halt", actor="carl").count() == 1


@pytest.mark.parametrize("names", [("ann", "ann at the terminal"), ("ann at the terminal", "Ann")])
def test_one_person_at_two_doors_is_not_two_persons(names: tuple[str, str]) -> None:
    risk.halt(venue="live", actor="ann", reason="drill")
    for name in names:
        with pytest.raises(risk.SecondPersonNeeded):
            risk.resume(venue="live", actor=name, reason="all clear")
    assert risk.resume(venue="live", actor="bob at the terminal", reason="seen it too").mode == "ACTIVE"


def test_a_wish_to_resume_is_old_after_a_quarter_of_an_hour() -> None:
    risk.halt(venue="live", actor="one", reason="drill")
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="one", reason="all clear")
    TradingState.objects.update(resume_asked_at=timezone.now() - timedelta(minutes=16))
    with pytest.raises(risk.SecondPersonNeeded):
        risk.resume(venue="live", actor="two", reason="all clear")


# --- liquidation


def holding(exchange: FakeExchange, held: locks.Held) -> Order:
    approved()
    exchange.behaviour = fill
    router(exchange).round(held)
    Reconciler(VENUE, exchange, exchange).run()  # type: ignore[arg-type]
    return Order.objects.get()


def test_doubt_about_another_order_does_not_block_a_persons_exit(
    exchange: FakeExchange, held: locks.Held
) -> None:
    order = holding(exchange, held)
    factories.OrderFactory(ticker=order.ticker, state="unknown", venue_order_id=None)
    close_position(venue=VENUE, ticker=order.ticker, actor="operator")
    exchange.behaviour = fill
    assert router(exchange).round(held) == 1


def test_a_stop_cancels_what_rests_in_another_subaccount(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: without its number the exchange knows no such order, and the stop never comes to rest."""
    order = working(exchange, held)
    assert order.venue_order_id is not None
    exchange.book[order.venue_order_id] = replace(exchange.book[order.venue_order_id], subaccount=2)
    stop()
    halting.clear(router(exchange), exchange)
    assert resting(exchange) == set()


def test_a_long_backlog_is_sent_in_pieces_so_that_the_lease_and_a_stop_do_not_wait_for_its_end(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "ROUND_WITHIN", 0.0)
    waiting = [approved(), approved()]
    exchange.behaviour = accept
    assert router(exchange).round(held) == 1
    stop()
    assert router(exchange).round(held) == 0
    states = [Proposal.objects.get(pk=proposal.pk).state for proposal in waiting]
    assert states == ["claimed", "voided"]


def test_what_a_stop_voids_waits_for_the_proof_and_not_the_other_way(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: half a second of voids lies between two looks at what still rests."""
    monkeypatch.setattr(router_module, "STOPPING_WITHIN", 0.0)
    waiting = [approved(), approved()]
    stop()
    router(exchange).round(held)
    assert [Proposal.objects.get(pk=each.pk).state for each in waiting] == ["voided", "approved"]
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]
    router(exchange).round(held)
    assert Proposal.objects.get(pk=waiting[1].pk).state == "voided"


def test_a_lease_is_not_written_at_each_look_yet_stays_ours(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each renewal is a commit that an approved order would wait for."""
    renewals: list[float] = []
    renew = locks.Held.renewed
    monkeypatch.setattr(locks.Held, "renewed", lambda own, ttl: renewals.append(1.0) or renew(own, ttl))
    pulse = Pulse(router(exchange), held, timedelta(seconds=10))
    for _ in range(20):
        with transaction.atomic():
            pulse.renewed().require()
    assert len(renewals) < 20
    assert Pulse(router(exchange), held, timedelta(0)).renewed().stop_at < held.stop_at  # a due one is made
