"""A stop is a stop: also when trading is resumed at once, when reads fail, and when the database hung up."""

from __future__ import annotations

import threading
import time
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from approvals.models import Proposal
from kalshi_site import locks
from portfolio import risk
from portfolio.domain.limits import Verdict
from portfolio.models import Position, Reservation
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange, fill
from trading.domain.orders import Action, Side, Terms
from trading.engine import invariants
from trading.exchange.errors import NoAnswer
from trading.execution import fills
from trading.execution.exits import ExitWorking, close_position
from trading.execution.own_stream import OwnStream
from trading.execution.process import Execution
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE
MOST_STATEMENTS = 31

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def stop_and_resume() -> None:
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    risk.resume(venue=VENUE, actor="operator", reason="over")


def test_what_was_approved_before_a_stop_is_not_sent_after_the_resume(
    exchange: FakeExchange, held: locks.Held
) -> None:
    proposal = approved()
    stop_and_resume()
    assert router(exchange).round(held) == 0
    proposal.refresh_from_db()
    assert proposal.state == "voided" and "E306" in proposal.events.last().reason


def until_somebody_waits_for_us() -> None:
    """For a row that this transaction has locked. SQLite does not tell: there the time must do."""
    if connection.vendor != "postgresql":
        time.sleep(0.5)
        return
    blocked = (
        "select count(*) from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))"
    )
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        cursor.execute(blocked)
        while cursor.fetchone() == (0,):
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)
            cursor.execute(blocked)


@pytest.mark.two_writers
def test_a_first_stop_of_a_scope_holds_for_a_claim_that_waits_for_it(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: one statement locks everything's row and reads the scopes. On PostgreSQL it sees what was there before it
    waited: no row of this scope, so no stop."""
    proposal, sent = approved(), list[bool]()

    def claims() -> None:
        sent.append(router(exchange).send(Proposal.objects.get(pk=proposal.pk), held))
        connections.close_all()

    claiming = threading.Thread(target=claims, daemon=True)
    with transaction.atomic():
        risk.halt(venue=VENUE, actor="operator", reason="drill", scope=f"market:{proposal.ticker}")
        claiming.start()
        until_somebody_waits_for_us()
    claiming.join(60)
    proposal.refresh_from_db()
    assert (sent, proposal.state) == ([False], "voided")


def test_a_scope_that_was_stopped_twice_voids_by_its_last_stop(
    exchange: FakeExchange, held: locks.Held
) -> None:
    scope = "strategy:offline-analyst"
    risk.halt(venue=VENUE, actor="operator", reason="drill", scope=scope)
    risk.resume(venue=VENUE, actor="operator", reason="over", scope=scope)
    between = approved()
    risk.halt(venue=VENUE, actor="operator", reason="again", scope=scope)
    risk.resume(venue=VENUE, actor="operator", reason="over", scope=scope)
    after = approved()
    assert router(exchange).round(held) == 1
    states = [Proposal.objects.get(pk=each.pk).state for each in (between, after)]
    assert states == ["voided", "claimed"]


def test_a_stop_that_came_to_rest_and_was_resumed_leaves_later_claims_lawful(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: the note that a stop came to rest is counted as a second stop, and each later order is an alarm."""
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    assert risk.note_cleared(risk.trading_state(VENUE))
    risk.resume(venue=VENUE, actor="operator", reason="over")
    approved()
    assert router(exchange).round(held) == 1
    assert "claims_after_stop" not in [breach.name for breach in invariants.broken(VENUE)]


def test_a_claim_and_a_send_ask_the_database_a_known_number_of_questions(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """A column that is read though it was left out, or a row that is read twice, shows here first."""
    first, second = approved(), approved()
    desk = router(exchange)
    assert desk.send(first, held)  # makes the topics' rows
    with CaptureQueriesContext(connection) as asked:
        assert desk.send(Proposal.objects.terms_alone().get(pk=second.pk), held)
    # What says how a transaction is made asks nothing of the rows.
    said = [query["sql"][:80] for query in asked.captured_queries]
    questions = [sql for sql in said if sql.startswith(("SELECT", "INSERT", "UPDATE"))]
    assert len(questions) <= MOST_STATEMENTS, questions


def test_what_is_approved_after_the_resume_is_sent(exchange: FakeExchange, held: locks.Held) -> None:
    stop_and_resume()
    approved()
    assert router(exchange).round(held) == 1
    assert Order.objects.get().cancel_requested_at is None


def test_an_order_that_worked_before_a_stop_is_canceled_although_trading_was_resumed(
    exchange: FakeExchange, held: locks.Held
) -> None:
    approved()
    desk = router(exchange)
    desk.round(held)
    stop_and_resume()
    desk.round(held)
    assert exchange.book["venue-1"].state == "canceled"


def test_an_order_claimed_by_a_process_that_died_blocks_its_market(
    exchange: FakeExchange, held: locks.Held
) -> None:
    first = approved()
    order = factories.OrderFactory(proposal=first, state="sending", venue_order_id=None)
    second = approved(market=order_market(order))
    assert router(exchange).round(held) == 0
    second.refresh_from_db()
    assert "E610" in second.events.last().reason


def order_market(order: Order) -> Any:
    from trading.models import Market

    return Market.objects.get(ticker=order.ticker)


def execution(exchange: FakeExchange, stop: threading.Event, on_ready: Any) -> Execution:
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    news = OwnStream(venue=VENUE, open_stream=lambda: pytest.fail("not in this test"), stop=stop)
    news._following = True
    return Execution(router=router(exchange), reconciler=judge, news=news, stop=stop, on_ready=on_ready)


def test_a_stop_cancels_while_the_exchange_answers_no_read(
    exchange: FakeExchange, held: locks.Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved()
    router(exchange).round(held)
    risk.halt(venue=VENUE, actor="operator", reason="drill")

    def silent(**_: Any) -> Any:
        raise NoAnswer("no answer")

    monkeypatch.setattr(exchange, "orders", silent)
    desk = execution(exchange, threading.Event(), lambda: pytest.fail("nothing may be claimed"))
    with pytest.raises(NoAnswer):
        desk._work(held)
    assert exchange.book["venue-1"].state == "canceled"


def test_execution_goes_on_after_the_database_hung_up(exchange: FakeExchange) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite is a file: nobody hangs up")
    stop = threading.Event()
    rounds: list[int] = []

    def hang_up_once() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            with connection.cursor() as cursor:
                cursor.execute("select pg_terminate_backend(pg_backend_pid())")
        stop.set()

    desk = execution(exchange, stop, hang_up_once)

    def run() -> None:
        desk.run()
        connections.close_all()

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(20)
    stop.set()
    worker.join(5)
    assert len(rounds) == 2


def holding(quantity: str = "10") -> Any:
    factories.funded()
    market = factories.quoted_market()
    Position.objects.create(
        venue=VENUE, ticker=market.ticker, event_ticker=market.event_ticker, quantity=D(quantity), cost=D(4)
    )
    return market


def test_a_second_exit_is_refused_before_the_first_is_claimed() -> None:
    market = holding()
    close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    with pytest.raises(ExitWorking):
        close_position(venue=VENUE, ticker=market.ticker, actor="operator")


def test_a_second_exit_is_refused_until_the_first_ones_fill_is_booked(
    exchange: FakeExchange, held: locks.Held
) -> None:
    market = holding()
    exchange.behaviour = fill
    close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    router(exchange).round(held)
    assert Order.objects.get().state == "filled"
    with pytest.raises(ExitWorking):
        close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    fills.record_fill(VENUE, exchange.executions[0])
    assert not Position.objects.held(VENUE).exists()


@pytest.mark.parametrize("quantity", ["0", "-5"])
def test_closing_nothing_closes_nothing(quantity: str) -> None:
    from approvals.proposals import NothingHeld

    market = holding()
    with pytest.raises(NothingHeld):
        close_position(venue=VENUE, ticker=market.ticker, actor="operator", quantity=D(quantity))


def test_what_an_undone_order_sells_cannot_be_sold_twice() -> None:
    market = holding()
    sale = Terms(market.ticker, Action.SELL, Side.YES, D(10), D("0.48"))
    report = risk.check_order(venue=VENUE, terms=sale, reduce_only=True)
    assert report.allowed
    risk.reserve(venue=VENUE, key="first", terms=sale, event_ticker=market.event_ticker, report=report)
    second = risk.check_order(venue=VENUE, terms=sale, reduce_only=True)
    assert [check.name for check in second.blocks] == ["reduces"]


def test_a_second_purchase_of_the_other_side_is_reserved_in_full() -> None:
    market = holding()
    purchase = Terms(market.ticker, Action.BUY, Side.NO, D(10), D("0.52"))
    first = risk.check_order(venue=VENUE, terms=purchase)
    assert first.cost.cost == 0
    risk.reserve(venue=VENUE, key="first", terms=purchase, event_ticker=market.event_ticker, report=first)
    assert risk.check_order(venue=VENUE, terms=purchase).cost.cost == D("5.2")
    assert Reservation.objects.count() == 1
    assert all(check.verdict is not Verdict.BLOCK for check in first.checks)
