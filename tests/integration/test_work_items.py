"""What the comparison cannot set right becomes work: confirmed by a second look, ended by proof or by a person."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import pytest
from django.utils import timezone

from kalshi_site.models import AuditEntry, ChangeLog
from kalshi_site.versioning import StaleVersion
from portfolio import ledger, risk
from portfolio.models import CashEntry, Position, Reservation
from tests import factories
from tests.fakes import FakeExchange
from trading.domain.orders import OrderState
from trading.engine.invariants import broken
from trading.engine.update_cycle import update_cycle
from trading.exchange.errors import NoAnswer
from trading.exchange.events import OwnFill, OwnOrder
from trading.exchange.reports import PositionReport
from trading.execution import work_items
from trading.execution.bookings import SHOWN_WITHIN
from trading.execution.catch_up import SOON, CatchUp
from trading.execution.own_stream import OwnStream
from trading.execution.reconcile import Reconciler
from trading.execution.work_kinds import KINDS, suggestion
from trading.models import Cycle, Fill, Order, WorkItem, WorkKind

D = Decimal
VENUE = factories.VENUE
OFTEN = timedelta(milliseconds=1)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def look(exchange: FakeExchange, times: int = 1) -> None:
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    for _ in range(times):
        assert update_cycle(reconciler=judge, interval=OFTEN) is not None


def drifted(exchange: FakeExchange, by: str = "-1.25") -> WorkItem:
    """An open item: cash that differs, seen twice."""
    look(exchange)
    exchange.cash += D(by)
    look(exchange, 2)
    return WorkItem.objects.shown(VENUE).get()


def mode() -> str:
    return risk.trading_state(VENUE).mode


def body(ticker: str, client_order_id: str = "by-hand", side: str = "bid") -> dict[str, Any]:
    return {
        "client_order_id": client_order_id,
        "ticker": ticker,
        "side": side,
        "price": "0.40",
        "count": "10",
    }


# --- confirmed by a second look


def test_one_look_may_be_lag_and_tells_nobody(exchange: FakeExchange) -> None:
    look(exchange)
    exchange.cash -= D(1)
    look(exchange)
    assert (WorkItem.objects.get().state, mode()) == ("noticed", "ACTIVE")
    exchange.cash += D(1)
    look(exchange)
    assert not WorkItem.objects.exists(), "lag leaves no trace"
    assert not AuditEntry.objects.filter(verb__startswith="work.").exists()


def test_cash_that_differs_at_two_looks_is_told_with_both_numbers_and_pauses(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    assert (item.kind, item.theirs, item.ours, item.severity) == (
        "cash_drift",
        "9998.75",
        "10000",
        "critical",
    )
    state = risk.trading_state(VENUE)
    assert (state.mode, state.changed_by) == ("REDUCING", "reconciliation")
    assert state.reason.startswith(f"E613 {item.public_id} Cash differs")
    assert ChangeLog.objects.get(topic="reconciliation").key == item.public_id


def test_a_position_that_differs_at_two_looks_pauses_too(exchange: FakeExchange) -> None:
    look(exchange)
    Position.objects.create(venue=VENUE, ticker="SIMGHOST", event_ticker="SIMGHOST", quantity=D(3), cost=D(1))
    look(exchange, 2)
    item = WorkItem.objects.shown(VENUE).get()
    assert (item.kind, item.subject, item.theirs, item.ours) == ("position_drift", "SIMGHOST", "0", "3")
    assert mode() == "REDUCING"


def test_the_naive_rule_of_one_look_would_have_paused_for_lag(exchange: FakeExchange) -> None:
    """Negative control: with reads that are not newer than the first look, a second look proves nothing either."""
    look(exchange)
    exchange.reads_as_of = timezone.now() - timedelta(seconds=30)
    exchange.cash -= D(1)
    look(exchange, 3)
    assert (WorkItem.objects.get().state, mode()) == ("noticed", "ACTIVE")
    exchange.reads_as_of = timezone.now() + timedelta(days=1)
    look(exchange)
    assert (WorkItem.objects.get().state, mode()) == ("open", "REDUCING")


def test_an_order_without_an_answer_explains_a_difference_for_two_minutes(exchange: FakeExchange) -> None:
    look(exchange)
    order = factories.OrderFactory(state="unknown", venue_order_id=None)
    exchange.cash -= D(4)
    look(exchange, 3)
    assert (WorkItem.objects.get(kind="cash_drift").state, mode()) == ("noticed", "ACTIVE")
    Order.objects.filter(pk=order.pk).update(signed_at=timezone.now() - timedelta(minutes=3))
    look(exchange)
    assert (WorkItem.objects.get(kind="cash_drift").state, mode()) == ("open", "REDUCING")


def test_a_difference_of_another_size_begins_anew(exchange: FakeExchange) -> None:
    look(exchange)
    for _ in range(3):
        exchange.cash -= D(1)
        look(exchange)
    assert (WorkItem.objects.get().state, mode()) == ("noticed", "ACTIVE")


def test_a_stop_stays_a_stop(exchange: FakeExchange) -> None:
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    drifted(exchange)
    assert mode() == "HALTED"


def test_more_looks_make_no_form_stale(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    look(exchange, 2)
    fresh = WorkItem.objects.get()
    assert (fresh.version, fresh.looks) == (item.version, item.looks + 2)


def test_an_exchange_that_cannot_be_read_opens_and_ends_nothing(exchange: FakeExchange) -> None:
    item = drifted(exchange)

    class Deaf(FakeExchange):
        def positions(self, **_: Any) -> Any:
            raise NoAnswer("silence")

    with pytest.raises(NoAnswer):
        look(Deaf())
    assert WorkItem.objects.get() == item
    assert WorkItem.objects.get().state == "open"


# --- how it ends


def test_it_ends_by_itself_when_both_sides_agree_again(exchange: FakeExchange) -> None:
    drifted(exchange)
    exchange.cash += D("1.25")
    look(exchange)
    item = WorkItem.objects.get()
    assert (item.state, item.resolved_by) == ("resolved", "reconciliation")
    assert [event.to_state for event in item.events.all()] == ["open", "resolved"]
    assert mode() == "REDUCING", "trading is resumed by people"


def test_resuming_waits_for_somebody_who_has_looked(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    with pytest.raises(risk.ResumeRefused, match=item.public_id):
        risk.resume(venue=VENUE, actor="operator", reason="go")
    work_items.acknowledge(item=item, actor="risk1", reason="a rebate", version=item.version)
    assert risk.resume(venue=VENUE, actor="operator", reason="go").mode == "ACTIVE"
    look(exchange, 2)
    assert mode() == "ACTIVE", "what was acknowledged pauses no second time"


def test_an_acknowledgement_covers_this_difference_alone(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    work_items.acknowledge(item=item, actor="risk1", reason="a rebate")
    risk.resume(venue=VENUE, actor="operator", reason="go")
    exchange.cash -= D(7)
    look(exchange, 3)
    assert mode() == "REDUCING"
    assert [row.state for row in WorkItem.objects.order_by("pk")] == ["resolved", "open"]


def test_a_stale_version_and_an_empty_reason_change_nothing(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    with pytest.raises(StaleVersion):
        work_items.acknowledge(item=item, actor="risk1", reason="x", version=item.version - 1)
    for deed in (work_items.acknowledge, work_items.resolve):
        with pytest.raises(ValueError, match="say why"):
            deed(item=item, actor="risk1", reason="  ")
    assert WorkItem.objects.get().state == "open"


def test_the_same_deed_twice_is_one(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    done = work_items.acknowledge(item=item, actor="risk1", reason="seen")
    assert work_items.acknowledge(item=done, actor="risk2", reason="again").acknowledged_by == "risk1"
    ended = work_items.resolve(item=done, actor="risk1", reason="done")
    assert work_items.resolve(item=ended, actor="risk2", reason="again").resolved_by == "risk1"


def test_what_a_person_resolved_and_is_seen_again_is_a_new_item(exchange: FakeExchange) -> None:
    item = drifted(exchange)
    work_items.resolve(item=item, actor="risk1", reason="looks fine to me")
    look(exchange, 2)
    assert WorkItem.objects.count() == 2
    assert WorkItem.objects.shown(VENUE).get().public_id != item.public_id


def test_a_deposit_is_taken_over_from_the_exchange_and_both_sides_agree(exchange: FakeExchange) -> None:
    item = drifted(exchange, "500")
    work_items.resolve(item=item, actor="risk1", reason="our deposit", accept=True)
    assert ledger.cash(VENUE) == D(10_500)
    look(exchange, 2)
    assert not WorkItem.objects.standing(VENUE).exists()
    entry = AuditEntry.objects.get(verb="work.resolve")
    assert (entry.actor, entry.actor_kind, entry.reason) == ("risk1", "person", "our deposit")


def test_a_position_is_taken_over_and_the_invariants_hold(exchange: FakeExchange) -> None:
    look(exchange)
    market = factories.quoted_market()
    moved = PositionReport(market.ticker, D(7), D("2.80"), D(0), D(0), D(0), timezone.now(), 0)
    exchange.positions = lambda **_: [moved]  # type: ignore[method-assign]
    look(exchange, 2)
    item = WorkItem.objects.shown(VENUE).get()
    work_items.resolve(item=item, actor="risk1", reason="moved from a subaccount", accept=True)
    held = Position.objects.get()
    assert (held.quantity, held.cost) == (D(7), D("2.80"))
    assert broken(VENUE) == []
    look(exchange)
    assert not WorkItem.objects.standing(VENUE).exists()


def test_a_position_that_moved_meanwhile_is_not_taken_over(exchange: FakeExchange) -> None:
    look(exchange)
    ghost = Position.objects.create(
        venue=VENUE, ticker="GHOST", event_ticker="GHOST", quantity=D(3), cost=D(1)
    )
    look(exchange, 2)
    item = WorkItem.objects.shown(VENUE).get()
    Position.objects.filter(pk=ghost.pk).update(quantity=D(4), version=2)
    with pytest.raises(StaleVersion):
        work_items.resolve(item=item, actor="risk1", reason="x", accept=True)
    assert Position.objects.get().quantity == D(4)
    assert WorkItem.objects.get().state == "open"


def test_only_numbers_are_taken_over(exchange: FakeExchange) -> None:
    item = work_items.report(VENUE, work_items.Difference(WorkKind.ORPHAN_ORDER, "venue-1"))
    with pytest.raises(work_items.NotAcceptable):
        work_items.resolve(item=item, actor="risk1", reason="x", accept=True)


# --- orders


def test_an_order_placed_by_hand_is_adopted_labelled_and_counted_in_risk(exchange: FakeExchange) -> None:
    look(exchange)
    market = factories.quoted_market()
    exchange.rest(body(market.ticker))
    look(exchange)
    order = Order.objects.get()
    assert (order.origin, order.state, order.proposal_id) == ("external", "resting", None)
    assert Reservation.objects.get().signed_quantity == D(10)
    assert not WorkItem.objects.exists()


def test_an_order_by_hand_that_filled_between_two_looks_is_adopted_with_its_fill(
    exchange: FakeExchange,
) -> None:
    look(exchange)
    market = factories.quoted_market()
    report = exchange.rest(body(market.ticker))
    exchange.execute(report.order_id, D(10))
    look(exchange, 2)
    order = Order.objects.get()
    assert (order.origin, order.state) == ("external", "filled")
    assert Fill.objects.get().order == order
    assert not Reservation.objects.filter(released_at=None).exists()
    assert Position.objects.get().quantity == D(10)
    assert not WorkItem.objects.exists()
    assert broken(VENUE) == []


@pytest.mark.parametrize(
    ("client_order_id", "origin", "items"),
    [("by-hand", "external", []), ("kp-of-another-database", "orphan", ["orphan_order"])],
)
def test_a_fill_that_our_own_stream_tells_first_hides_no_order(
    exchange: FakeExchange, client_order_id: str, origin: str, items: list[str]
) -> None:
    """Naive: its client id is none of ours, so the fill is booked as nobody's, and its order is never looked for."""
    look(exchange)
    market = factories.quoted_market()
    report = exchange.rest(body(market.ticker, client_order_id))
    told = replace(exchange.execute(report.order_id, D(10)), client_order_id=client_order_id)
    asked = Mock()
    news = OwnStream(VENUE, lambda: None, threading.Event(), asked)  # type: ignore[arg-type, return-value]
    news.apply(OwnFill(told, 0))
    asked.soon.assert_called_once_with()
    look(exchange, 2)
    order = Order.objects.get()
    assert (order.origin, order.state) == (origin, "filled")
    assert Fill.objects.get().order == order
    assert Position.objects.get().quantity == D(10)
    assert list(WorkItem.objects.values_list("kind", flat=True)) == items
    assert broken(VENUE) == []


BY_HAND, ORPHAN = ("by-hand", "external", []), ("kp-of-another-database", "orphan", ["orphan_order"])


def filled_unseen(exchange: FakeExchange, client_order_id: str = "by-hand") -> None:
    """An order that nobody here knows fills at once. The list of fills shows it, and no read of orders does."""
    look(exchange)
    CashEntry.objects.update(at=timezone.now() - timedelta(hours=1))  # the account was opened then
    exchange.reads_as_of = timezone.now()  # the exchange owns to the lag
    report = exchange.rest(body(factories.quoted_market().ticker, client_order_id))
    exchange.unshown = {report.order_id}
    exchange.execute(report.order_id, D(10))


def pass_by(exchange: FakeExchange, time: timedelta) -> None:
    """As if the only fill were so much older."""
    [told] = exchange.executions
    exchange.executions = [replace(told, at=timezone.now() - time)]


def assert_found(origin: str, items: list[str]) -> None:
    order = Order.objects.get()
    assert (order.origin, order.state, Fill.objects.get().order) == (origin, "filled", order)
    assert Position.objects.get().quantity == D(10)
    assert list(WorkItem.objects.values_list("kind", flat=True)) == items
    assert mode() == ("REDUCING" if items else "ACTIVE")
    assert broken(VENUE) == []


@pytest.mark.parametrize(("client_order_id", "origin", "items"), [BY_HAND, ORPHAN])
def test_a_fill_waits_for_an_order_that_the_exchange_shows_later(
    exchange: FakeExchange, client_order_id: str, origin: str, items: list[str]
) -> None:
    """Naive: no row and no read explains it, so it is nobody's. Its order never rests, so it is never looked for."""
    filled_unseen(exchange, client_order_id)
    look(exchange, 2)
    assert not Fill.objects.exists()
    assert set(WorkItem.objects.values_list("state", flat=True)) == {"noticed"}, (
        "it is lag until proven otherwise"
    )
    assert mode() == "ACTIVE"
    exchange.unshown.clear()
    look(exchange)
    assert_found(origin, items)


@pytest.mark.parametrize(("client_order_id", "origin", "items"), [BY_HAND, ORPHAN])
def test_a_fill_by_the_stream_waits_for_its_order_too(
    exchange: FakeExchange, client_order_id: str, origin: str, items: list[str]
) -> None:
    """Naive: REST is asked a second after the stream's word, when lag is likeliest, and takes the first answer."""
    filled_unseen(exchange, client_order_id)
    now = [0.0]
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    asked = CatchUp(judge, monotonic=lambda: now[0])
    news = OwnStream(VENUE, lambda: None, threading.Event(), asked)  # type: ignore[arg-type, return-value]
    news.apply(OwnFill(replace(exchange.executions[0], client_order_id=client_order_id), 0))
    now[0] += SOON
    assert asked.if_due() is not None
    assert not Fill.objects.exists()
    exchange.unshown.clear()
    look(exchange)
    assert_found(origin, items)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_fill_whose_order_is_never_shown_is_booked_told_and_pauses(
    exchange: FakeExchange, leaves: bool
) -> None:
    """Naive: nobody's, in silence. It may be an orphan's: a second desk with this key."""
    filled_unseen(exchange)
    if leaves:
        pass_by(exchange, SHOWN_WITHIN - timedelta(seconds=5))
        look(exchange)
        assert not Fill.objects.exists()
    pass_by(exchange, SHOWN_WITHIN)
    look(exchange, 2)
    fill, item = Fill.objects.get(), WorkItem.objects.get()
    assert (fill.order, Position.objects.get().quantity) == (None, D(10))
    assert (item.kind, item.subject, item.severity, item.state, item.looks) == (
        "orphan_order",
        "venue-1",
        "critical",
        "open",
        1,
    )
    assert "filled 10.00 at 0.4000 YES" in str(item)
    assert (
        item.detail
        == "fill trade-1 is listed and its order is not shown: it may be ours, or placed elsewhere"
    )
    assert suggestion(item).page == "", "there is no order's page to look at"
    assert mode() == "REDUCING"
    assert broken(VENUE) == []


def test_what_cannot_be_told_is_not_booked_either(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled_unseen(exchange)
    pass_by(exchange, SHOWN_WITHIN)
    with monkeypatch.context() as broken_off:
        broken_off.setattr(work_items, "report", Mock(side_effect=ValueError("the disk is full")))
        look(exchange)
    assert not Fill.objects.exists()
    assert not Position.objects.exists()
    look(exchange)
    assert Fill.objects.count() == 1
    assert WorkItem.objects.filter(kind="orphan_order", state="open").exists()


def test_a_fill_that_waits_pauses_once_the_exchange_says_that_it_lags_no_more(exchange: FakeExchange) -> None:
    """Two looks without an order, and reads that are newer than the first of them: that is no lag."""
    filled_unseen(exchange)
    exchange.reads_as_of = timezone.now() + timedelta(minutes=1)
    look(exchange)
    assert mode() == "ACTIVE"
    look(exchange)
    assert not Fill.objects.exists()
    assert {item.kind for item in WorkItem.objects.shown(VENUE)} == {"position_drift", "cash_drift"}
    assert mode() == "REDUCING"
    exchange.unshown.clear()
    look(exchange)
    assert Fill.objects.get().order == Order.objects.get()
    assert not WorkItem.objects.standing(VENUE).exists(), "they end by themselves"


def test_an_order_that_is_changed_elsewhere_is_followed_and_one_of_ours_is_not(
    exchange: FakeExchange,
) -> None:
    look(exchange)
    market = factories.quoted_market()
    exchange.rest(body(market.ticker, side="ask"))
    ours = factories.OrderFactory(venue_order_id="venue-2")
    exchange.rest(body(ours.ticker, ours.client_order_id) | {"price": "0.50"})
    look(exchange)
    exchange.execute("venue-1", D(4))
    look(exchange)
    for name in ("venue-1", "venue-2"):
        exchange._change(name, initial_quantity=D(30), price=D("0.30"), remaining_quantity=D(26))
    look(exchange)
    order = Order.objects.get(origin="external")
    assert (order.quantity, order.limit_price, order.remaining_quantity) == (D(30), D("0.70"), D(26))
    held = Reservation.objects.get(key=order.public_id)
    assert (held.signed_quantity, held.unit_cost) == (D(-26), D("0.70"))
    assert order.events.filter(reason="changed on the exchange").count() == 1
    ours.refresh_from_db()
    assert (ours.quantity, ours.limit_price) == (D(10), D("0.50"))
    look(exchange)
    item = WorkItem.objects.shown(VENUE).get(kind="changed_elsewhere")
    assert (item.theirs, item.ours) == ("30.00 at 0.3000 YES", "10.00 at 0.5000 YES")
    assert mode() == "REDUCING"


def test_an_order_with_our_mark_and_no_record_is_an_orphan_and_pauses(exchange: FakeExchange) -> None:
    look(exchange)
    market = factories.quoted_market()
    exchange.rest(body(market.ticker, "kp-of-another-database"))
    look(exchange)
    order, item = Order.objects.get(), WorkItem.objects.get()
    assert (order.origin, item.kind, item.order, item.state) == (
        "orphan",
        "orphan_order",
        order.public_id,
        "open",
    )
    assert Reservation.objects.get().signed_quantity == D(10)
    assert mode() == "REDUCING"
    exchange.cancel("venue-1", market_ticker="")
    look(exchange, 2)
    assert WorkItem.objects.get().state == "open", "a person must say where it came from"


def test_an_ended_order_that_still_rests_is_told(exchange: FakeExchange) -> None:
    look(exchange)
    market = factories.quoted_market()
    exchange.rest(body(market.ticker))
    look(exchange)
    Order.objects.update(state="canceled")
    look(exchange, 2)
    item = WorkItem.objects.shown(VENUE).get()
    assert (item.kind, item.theirs, item.ours) == ("ended_order_rests", "resting", "canceled")
    assert suggestion(item).command == f"manage.py trade halt --scope market:{market.ticker}"
    assert mode() == "REDUCING"


@pytest.mark.parametrize("state", ["rejected", "not_sent"])
def test_an_order_that_rests_though_we_believe_that_it_was_never_placed_is_told_at_once(
    exchange: FakeExchange, state: str
) -> None:
    """Naive: it carries the id of an order of ours, so it is no stranger; and ours is over, so nobody asks for it."""
    look(exchange)
    order = factories.OrderFactory(state=state, venue_order_id=None, remaining_quantity=D(0))
    exchange.rest(body(order.ticker, order.client_order_id))
    assert not Reconciler(VENUE, exchange, exchange).run().is_clean  # type: ignore[arg-type]
    item = WorkItem.objects.get()
    assert (item.kind, item.order, item.theirs, item.ours, item.state) == (
        "ended_order_rests",
        order.public_id,
        "resting",
        state,
        "open",
    )
    assert item.detail == "the exchange calls it venue-1"
    assert suggestion(item).command == f"manage.py trade halt --scope market:{order.ticker}"
    assert mode() == "REDUCING"
    exchange.execute("venue-1", D(4))  # what it fills is its own, and nobody loses sight of the rest
    look(exchange, 2)
    assert Fill.objects.get().order == order
    assert [each.state for each in WorkItem.objects.all()] == ["open"]
    exchange.cancel("venue-1", market_ticker=order.ticker)
    look(exchange)
    assert WorkItem.objects.get().state == "resolved"


@pytest.mark.parametrize(
    ("client_order_id", "origin", "items"), [("by-hand", "external", []), ("kp-ours", "orphan", ["kp-ours"])]
)
@pytest.mark.parametrize("fills", [0, 4, 10])
def test_an_order_under_a_client_id_that_was_used_before_is_another_order(
    exchange: FakeExchange, client_order_id: str, origin: str, items: list[str], fills: int
) -> None:
    """Naive: it passes for the one that has filled, gets no row, and its fills cannot be booked."""
    look(exchange)
    first = factories.OrderFactory(venue_order_id="venue-1", client_order_id=client_order_id)
    exchange.rest(body(first.ticker, client_order_id) | {"price": "0.50"})
    exchange.execute("venue-1", D(10))
    look(exchange)
    exchange.rest(body(first.ticker, client_order_id))
    if fills:
        told = replace(exchange.execute("venue-2", D(fills)), client_order_id=client_order_id)
        news = OwnStream(VENUE, lambda: None, threading.Event())  # type: ignore[arg-type, return-value]
        news.apply(OwnOrder(exchange.book["venue-2"], 0))
        news.apply(OwnFill(told, 0))
    look(exchange, 2)
    first.refresh_from_db()
    assert (first.state, first.filled_quantity) == ("filled", D(10))
    again = Order.objects.get(venue_order_id="venue-2")
    assert (again.origin, again.client_order_id, again.filled_quantity) == (
        origin,
        "external-venue-2",
        D(fills),
    )
    assert sum(fill.quantity for fill in again.fills.all()) == D(fills)
    told_of = WorkItem.objects.values_list("kind", "detail")
    assert list(told_of) == [("orphan_order", f"client order id {each}") for each in items]


def test_an_unknown_order_is_told_after_thirty_seconds_and_urgent_after_five_minutes(
    exchange: FakeExchange,
) -> None:
    look(exchange)
    order = factories.OrderFactory(state="unknown", venue_order_id=None)
    look(exchange)
    assert not WorkItem.objects.exists()
    for ago, severity in ((timedelta(seconds=40), "warning"), (timedelta(minutes=6), "critical")):
        Order.objects.filter(pk=order.pk).update(signed_at=timezone.now() - ago, scans=0, last_scan_at=None)
        exchange.reads_as_of = timezone.now() - timedelta(hours=1)
        look(exchange)
        item = WorkItem.objects.get()
        assert (item.kind, item.order, item.severity) == ("unknown_order", order.public_id, severity)
    assert mode() == "ACTIVE"


def test_a_fill_that_is_counted_and_not_listed_is_told(exchange: FakeExchange) -> None:
    look(exchange)
    order = factories.OrderFactory(venue_order_id="venue-1", client_order_id="ours")
    report = exchange.rest(body(order.ticker, "ours") | {"price": "0.50"})
    exchange.execute(report.order_id, D(10))
    hidden = exchange.executions.pop()
    exchange.cash += D("5.01")
    look(exchange)
    Order.objects.update(updated_at=timezone.now() - timedelta(minutes=2))
    look(exchange, 2)
    item = WorkItem.objects.shown(VENUE).get()
    assert (item.kind, item.theirs, item.ours) == ("missing_fill", "10", "0")
    exchange.executions.append(hidden)
    exchange.cash -= D("5.01")
    look(exchange)
    assert not WorkItem.objects.standing(VENUE).exists()


def test_an_absent_order_that_appears_is_the_highest_alarm(exchange: FakeExchange) -> None:
    look(exchange)
    order = factories.OrderFactory(state="absent", venue_order_id=None)
    exchange.rest(body(order.ticker, order.client_order_id))
    look(exchange)
    item = WorkItem.objects.get()
    assert (item.kind, item.severity, item.order) == ("absent_appeared", "critical", order.public_id)
    order.refresh_from_db()
    assert order.state == OrderState.RESTING


def test_a_thousand_resting_orders_cost_no_question_each(
    exchange: FakeExchange, django_assert_max_num_queries: Any
) -> None:
    look(exchange)
    market = factories.quoted_market()
    for number in range(60):
        exchange.rest(body(market.ticker, f"hand-{number}"))
    look(exchange)
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    with django_assert_max_num_queries(22):
        judge.run()


# --- the last comparison


def test_a_comparison_says_what_it_compared_by_area(exchange: FakeExchange) -> None:
    look(exchange)
    market = factories.quoted_market()
    report = exchange.rest(body(market.ticker))
    exchange.execute(report.order_id, D(4))
    look(exchange)
    areas = Cycle.objects.order_by("-slot")[0].detail["areas"]
    assert areas["orders"] == {"compared": 1, "changed": 1, "differ": 0}
    assert areas["fills"] == {"compared": 1, "changed": 1, "differ": 0}
    assert areas["positions"] == {"compared": 1, "changed": 0, "differ": 0}
    assert areas["cash"] == {"compared": 1, "changed": 0, "differ": 0}


def test_every_kind_has_its_rule_and_fits_its_column() -> None:
    assert KINDS.keys() == set(WorkKind)
    for kind in WorkKind:
        item = WorkItem(kind=kind, subject="S", ticker="T", order="O")
        told = suggestion(item)
        assert "{" not in told.text + told.command + told.page
        assert len(kind) <= 32
