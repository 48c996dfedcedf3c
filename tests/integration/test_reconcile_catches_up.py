"""What the exchange tells late, oddly or not at all: the comparison catches up, and one odd record stops nothing."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import F
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from kalshi_site.live import changes
from kalshi_site.models import AuditEntry
from portfolio import ledger
from portfolio.models import CashEntry, Position, Reservation
from tests import factories
from tests.fakes import FakeExchange, drop_after_accept, fill
from trading.domain.orders import OrderState
from trading.engine.update_cycle import update_cycle
from trading.exchange.errors import ErrorAnswer, RateLimited
from trading.exchange.reports import FillReport, SettlementReport
from trading.execution import fills, lifecycle
from trading.execution.bookings import CLOCK_AHEAD, SHOWN_WITHIN
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Evidence, Reconciler
from trading.execution.router import Router
from trading.models import Cycle, Fill, Market, Order

D = Decimal
VENUE = factories.VENUE
OFTEN = timedelta(milliseconds=1)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Windowed(FakeExchange):
    """Lists only what is asked for, as the exchange does."""

    def fills(self, *, since: Any = None, **_: Any) -> list[FillReport]:
        return [each for each in self.executions if each.at is None or since is None or each.at >= since]

    def settlements(self, *, since: Any = None, **_: Any) -> list[SettlementReport]:
        self.settlements_since = since
        return [each for each in self.settled if since is None or each.settled_at >= since]


@pytest.fixture
def exchange() -> Windowed:
    return Windowed()


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def reconciler(exchange: FakeExchange) -> Reconciler:
    return Reconciler(VENUE, exchange, exchange, Evidence(timedelta(0), timedelta(0), 2))  # type: ignore[arg-type]


def approve() -> None:
    proposal = factories.ProposalFactory()
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=proposal.version,
        actor=factories.approver(),
        method="page",
    )


def opened(exchange: FakeExchange, ago: timedelta = timedelta(hours=1)) -> Reconciler:
    judge = reconciler(exchange)
    judge.open_account()
    CashEntry.objects.update(at=timezone.now() - ago)
    return judge


def absent(exchange: FakeExchange, held: locks.Held) -> Order:
    """An order that is on the exchange and was judged absent, because its list did not show it."""
    exchange.behaviour = drop_after_accept
    judge = opened(exchange)
    approve()
    router(exchange).round(held)
    order = Order.objects.get()
    exchange.hidden = {order.client_order_id}
    for _ in range(2):
        judge.orders(Reconciled())
    exchange.hidden = set()
    order.refresh_from_db()
    assert order.state == "absent"
    return order


def test_an_account_is_opened_whole_or_not_at_all(
    exchange: Windowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = factories.quoted_market()
    exchange.rest(
        {"client_order_id": "x", "ticker": market.ticker, "side": "bid", "price": "0.40", "count": "10"}
    )
    exchange.execute("venue-1", D(4))
    monkeypatch.setattr(exchange, "balance", Raises(RateLimited(ErrorAnswer(429))))
    with pytest.raises(RateLimited):
        reconciler(exchange).open_account()
    monkeypatch.undo()
    exchange.execute("venue-1", D(6))
    reconciler(exchange).open_account()
    assert Position.objects.get().quantity == D(10)
    assert ledger.cash(VENUE) == exchange.cash


def hold(exchange: FakeExchange, *tickers: str) -> None:
    """Positions that the account has before the desk first looks."""
    for number, ticker in enumerate(tickers, 1):
        exchange.rest(
            {"client_order_id": ticker, "ticker": ticker, "side": "bid", "price": "0.40", "count": "10"}
        )
        exchange.execute(f"venue-{number}", D(4))


def test_what_an_account_holds_already_is_announced_when_it_is_opened(exchange: Windowed) -> None:
    """Naive: rows alone. The state of the positions lacks them until their first fill."""
    hold(exchange, "SIMHELD-1", "SIMHELD-2")
    judge = reconciler(exchange)
    judge.open_account()
    judge.open_account()
    told = [(each.key, each.version, each.kind) for each in changes.state_now("positions")]
    assert told == [("SIMHELD-1", 1, "opened"), ("SIMHELD-2", 1, "opened")]
    assert changes.heads(["positions"])["positions"].version == 2, "once is enough"


def test_an_opening_that_breaks_off_announces_nothing(
    exchange: Windowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naive: announce each position beside the transaction. The first would be known and not there."""
    hold(exchange, "SIMHELD-1", "SIMHELD-2")
    create = Position.objects.create

    def full_disk(**fields: Any) -> Position:
        if fields["ticker"] == "SIMHELD-2":
            raise OperationalError("database or disk is full")
        return create(**fields)

    monkeypatch.setattr(Position.objects, "create", full_disk)
    with pytest.raises(OperationalError):
        reconciler(exchange).open_account()
    assert (changes.state_now("positions"), Position.objects.count()) == ((), 0)


class Raises:
    """A read that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self) -> Any:
        raise self.error


def test_an_absent_order_that_rests_after_all_is_taken_back_reserved_and_canceled(
    exchange: Windowed, held: locks.Held
) -> None:
    order = absent(exchange, held)
    reconciler(exchange).orders(Reconciled())
    order.refresh_from_db()
    assert (order.state, order.cancel_requested_by) == ("resting", "execution")
    assert Reservation.objects.get().released_at is None
    assert AuditEntry.objects.filter(verb="order.appeared").exists()
    router(exchange).round(held)
    reconciler(exchange).orders(Reconciled())
    order.refresh_from_db()
    assert order.state == "canceled"
    assert Reservation.objects.get().released_at is not None


def test_a_fill_by_rest_of_an_absent_order_is_booked_as_that_orders(
    exchange: Windowed, held: locks.Held
) -> None:
    order = absent(exchange, held)
    exchange.execute("venue-1", D(10))
    reconciler(exchange).run()
    order.refresh_from_db()
    assert (order.state, Fill.objects.get().order_id) == ("filled", order.pk)


def test_a_fill_by_rest_proves_an_unknown_order_that_no_list_shows(
    exchange: Windowed, held: locks.Held
) -> None:
    exchange.behaviour = drop_after_accept
    judge = opened(exchange)
    approve()
    router(exchange).round(held)
    exchange.hidden = {Order.objects.get().client_order_id}
    exchange.execute("venue-1", D(10))
    judge.run()
    assert Order.objects.get().state == "filled"


def test_a_fill_older_than_the_newest_known_one_is_still_found(exchange: Windowed) -> None:
    market = factories.quoted_market()
    judge = opened(exchange)
    body = {"ticker": market.ticker, "side": "bid", "price": "0.30", "count": "5"}
    for name in ("first", "second"):
        exchange.rest({**body, "client_order_id": name})
    missed = replace(exchange.execute("venue-1", D(5)), at=timezone.now() - timedelta(minutes=20))
    exchange.executions[0] = missed
    assert fills.record_fill(VENUE, exchange.execute("venue-2", D(5))) is not None
    judge.run()
    assert Position.objects.get().quantity == D(10)


def test_a_fill_that_came_while_its_order_was_unknown_is_found_after_later_comparisons(
    exchange: Windowed, held: locks.Held
) -> None:
    exchange.behaviour = fill
    judge = opened(exchange)
    approve()
    router(exchange).round(held)
    signed_at = timezone.now() - timedelta(minutes=10)
    Order.objects.update(signed_at=signed_at)
    late = replace(exchange.executions[0], at=signed_at)
    exchange.executions.clear()
    update_cycle(reconciler=judge, interval=OFTEN)
    exchange.executions.append(late)
    update_cycle(reconciler=judge, interval=OFTEN)
    assert Position.objects.get().quantity == D(10)
    assert Reservation.objects.get().released_at is not None


def by_hand(exchange: FakeExchange, ago: timedelta, count: str = "5") -> FillReport:
    """An order that was placed elsewhere fills at once. By the exchange's clock that was so long ago."""
    body = {"client_order_id": f"hand-{ago}", "ticker": "SIMHAND-1", "side": "bid", "price": "0.30"}
    report = exchange.rest({**body, "count": count})
    told = replace(exchange.execute(report.order_id, D(count)), at=timezone.now() - ago)
    exchange.executions[-1] = told
    return told


def test_fills_are_read_from_the_last_complete_comparison_or_the_newest_known_one(exchange: Windowed) -> None:
    """Naive: from the opening, and after a year each comparison reads all that ever was."""
    judge = opened(exchange, ago=timedelta(days=300))
    asked = []
    read = exchange.fills

    def fills(*, since: Any = None, **_: Any) -> list[FillReport]:
        asked.append(timezone.now() - since)
        return read(since=since)

    exchange.fills = fills  # type: ignore[method-assign]
    for _ in range(2):
        update_cycle(reconciler=judge, interval=OFTEN)
    assert asked[1] < CLOCK_AHEAD + timedelta(minutes=2), "none is known"
    by_hand(exchange, timedelta(seconds=1))
    for _ in range(2):
        update_cycle(reconciler=judge, interval=OFTEN)
    assert asked[-1] < timedelta(minutes=2)


@pytest.mark.parametrize("known", [None, timedelta(minutes=11), timedelta(days=2)])
def test_while_our_clock_is_ahead_no_fill_of_an_order_placed_elsewhere_is_missed(
    exchange: Windowed, known: timedelta | None
) -> None:
    """Naive: read on from the last comparison, by our clock. What fills next is older than that by the exchange's."""
    judge = opened(exchange, ago=timedelta(days=3))
    if known is not None:
        by_hand(exchange, known)
    update_cycle(reconciler=judge, interval=OFTEN)
    booked = Fill.objects.count()
    by_hand(exchange, timedelta(minutes=10))
    update_cycle(reconciler=judge, interval=OFTEN)
    assert Fill.objects.count() == booked + 1


@pytest.mark.parametrize("pause", [timedelta(0), timedelta(minutes=10)])
def test_a_fill_that_a_complete_comparison_left_is_listed_again_however_late_the_next_one_comes(
    exchange: Windowed, pause: timedelta
) -> None:
    """Naive: a wait as long as the margin, or longer: the next comparison reads on after the fill that was left."""
    judge = opened(exchange)
    by_hand(exchange, timedelta(0))
    update_cycle(reconciler=judge, interval=OFTEN)
    left = by_hand(exchange, SHOWN_WITHIN - timedelta(seconds=10), "7")
    exchange.unshown = {left.order_id}
    update_cycle(reconciler=judge, interval=OFTEN)
    assert not Fill.objects.filter(quantity=7).exists()
    outcomes = Cycle.objects.order_by("id").values_list("outcome", flat=True)
    assert list(outcomes) == ["clean", "drift"], "both are complete"
    # All that has been so far was so much earlier.
    Cycle.objects.update(started_at=F("started_at") - pause)
    exchange.executions = [replace(each, at=each.at - pause) for each in exchange.executions if each.at]
    exchange.unshown = set()
    update_cycle(reconciler=judge, interval=OFTEN)
    assert Fill.objects.get(quantity=7).order == Order.objects.get(venue_order_id=left.order_id)


def test_an_order_that_was_enlarged_elsewhere_holds_up_no_other(exchange: Windowed, held: locks.Held) -> None:
    judge = opened(exchange)
    for _ in range(2):
        approve()
    router(exchange).round(held)
    exchange._change("venue-1", initial_quantity=D(20), filled_quantity=D(15), remaining_quantity=D(5))
    exchange.cancel("venue-2", market_ticker="")
    found = Reconciled()
    judge.orders(found)
    assert [name.split(":")[0] for name in found.odd] == [f"order {Order.objects.earliest('id').public_id}"]
    assert Order.objects.get(venue_order_id="venue-2").state == "canceled"


def test_an_odd_fill_holds_up_neither_the_others_nor_the_comparison(exchange: Windowed) -> None:
    market = factories.quoted_market()
    judge = opened(exchange)
    body = {"ticker": market.ticker, "side": "bid", "price": "0.30", "count": "5"}
    for name in ("first", "second"):
        exchange.rest({**body, "client_order_id": name})
    exchange.executions.append(replace(exchange.execute("venue-1", D(5)), quantity=D("0.005")))
    exchange.executions.pop(0)
    exchange.execute("venue-2", D(5))
    found = update_cycle(reconciler=judge, interval=OFTEN)
    assert found is not None and len(found.odd) == 1
    assert Position.objects.get().quantity == D(5)
    assert Cycle.objects.get().outcome == "odd", "the next comparison reads from the same point again"


def settlement(market: Market, result: Any, payout: str = "0", **fields: Any) -> SettlementReport:
    zero = D(0)
    told = SettlementReport(
        market.ticker,
        market.event_ticker,
        result,
        zero,
        zero,
        zero,
        zero,
        D(payout),
        zero,
        None,
        timezone.now(),
        0,
    )
    return replace(told, **fields)


def holding(market: Market, quantity: str = "10", cost: str = "4") -> Position:
    return Position.objects.create(
        venue=VENUE,
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        quantity=D(quantity),
        cost=D(cost),
    )


def test_a_settlement_without_a_value_holds_up_no_other(exchange: Windowed) -> None:
    judge = opened(exchange)
    vague, clear = factories.quoted_market(), factories.quoted_market()
    for market in (vague, clear):
        holding(market)
    exchange.market = lambda _: replace_value(None)  # type: ignore[attr-defined]
    exchange.settled = [settlement(vague, "scalar"), settlement(clear, "yes", "10")]
    found = Reconciled()
    judge.settlements(found, timezone.now() - timedelta(hours=1))
    assert (found.settled, len(found.odd)) == (1, 1)
    assert ledger.cash(VENUE) == D(10_010)


def replace_value(value: Decimal | None) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(settlement_value=value)


def test_a_scalar_payout_ends_at_the_digits_that_a_balance_has(exchange: Windowed) -> None:
    judge = opened(exchange)
    market = factories.quoted_market()
    holding(market, "0.33", "0.10")
    exchange.market = lambda _: replace_value(D("0.3333"))  # type: ignore[attr-defined]
    exchange.settled = [settlement(market, "scalar")]
    judge.settlements(Reconciled(), timezone.now() - timedelta(hours=1))
    assert ledger.cash(VENUE) == D("10000.1099")


def test_a_fill_booked_after_its_markets_settlement_is_paid_too(exchange: Windowed) -> None:
    judge = opened(exchange)
    market = factories.quoted_market()
    holding(market)
    exchange.settled = [settlement(market, "yes", "15")]
    hour_ago = timezone.now() - timedelta(hours=1)
    judge.settlements(Reconciled(), hour_ago)
    exchange.rest(
        {"client_order_id": "x", "ticker": market.ticker, "side": "bid", "price": "0.40", "count": "5"}
    )
    fills.record_fill(VENUE, exchange.execute("venue-1", D(5), fee=D(0)))
    for _ in range(2):
        judge.settlements(Reconciled(), hour_ago)
    assert Position.objects.get().quantity == D(0)
    assert ledger.cash(VENUE) == D(10_000) + 10 - 2 + 5


def test_settlements_are_read_from_the_first_fill_of_what_is_held(exchange: Windowed) -> None:
    market = factories.quoted_market()
    judge = opened(exchange, ago=timedelta(days=300))
    exchange.rest(
        {"client_order_id": "x", "ticker": market.ticker, "side": "bid", "price": "0.40", "count": "5"}
    )
    exchange.execute("venue-1", D(5))
    judge.run()
    assert exchange.settlements_since > timezone.now() - timedelta(days=2)


def test_a_second_word_on_how_an_order_ended_changes_nothing(exchange: Windowed, held: locks.Held) -> None:
    opened(exchange)
    approve()
    router(exchange).round(held)
    exchange.cancel("venue-1", market_ticker="")
    lifecycle.record_report(Order.objects.get(), exchange.book["venue-1"])
    Order.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    lifecycle.record_report(Order.objects.get(), exchange.book["venue-1"])
    assert Order.objects.get().state == OrderState.CANCELED
