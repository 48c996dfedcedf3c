"""Stops cancel by id, in batches, each item judged; cancel-all is the last resort, and a quiet minute follows it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry
from portfolio import risk
from portfolio.models import Position, TradingState
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange
from trading.domain.orders import OrderState
from trading.exchange.errors import NoAnswer
from trading.exchange.outcomes import AllCanceled, CancelOutcome, Refused, Unknown
from trading.exchange.targets import CancelTarget
from trading.execution import halting, stand_in
from trading.execution.calling_off import MOST_IN_A_BATCH, call_off
from trading.execution.exits import close_position
from trading.execution.last_resort import LastResort
from trading.execution.router import Router

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


class Sticky(FakeExchange):
    """An exchange where canceling by id does nothing, as when our ids or shards were wrong."""

    all_canceled = 0

    def cancel(self, order_id: str, **_: Any) -> CancelOutcome:
        return Unknown("no answer")

    def cancel_batch(self, targets: Any, **_: Any) -> tuple[CancelOutcome, ...]:
        return tuple(Unknown("no answer") for _ in targets)

    def cancel_all(self, **_: Any) -> AllCanceled:
        self.all_canceled += 1
        for order_id in self.book:
            self._change(order_id, state=OrderState.CANCELED, remaining_quantity=D(0))
        return AllCanceled()


def router(exchange: FakeExchange) -> Router:
    return Router(venue=VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def rest(exchange: FakeExchange, count: int) -> list[CancelTarget]:
    body = {"ticker": "M", "side": "bid", "count": "1", "price": "0.1"}
    reports = [exchange.rest(body | {"client_order_id": f"c-{number}"}) for number in range(count)]
    return [CancelTarget(report.order_id, report.ticker) for report in reports]


def stop(scope: str = "") -> TradingState:
    return risk.halt(venue=VENUE, actor="operator", reason="drill", scope=scope)


# --- batches


def test_many_cancels_go_out_in_batches_that_a_small_account_can_pay(exchange: FakeExchange) -> None:
    outcomes = call_off(exchange, rest(exchange, 2 * MOST_IN_A_BATCH + 5))
    assert [len(batch) for batch in exchange.batches] == [MOST_IN_A_BATCH, MOST_IN_A_BATCH, 5]
    assert [outcome.order_id for outcome in outcomes] == list(exchange.book)  # type: ignore[union-attr]
    assert exchange.orders(status="resting") == []


def test_one_cancel_alone_is_no_batch(exchange: FakeExchange) -> None:
    call_off(exchange, rest(exchange, 1))
    assert exchange.batches == []
    assert exchange.orders(status="resting") == []


@pytest.mark.parametrize("fault", ["refused", "broke", "short"])
def test_where_a_batch_fails_as_a_whole_its_orders_are_canceled_one_by_one(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Naive: believe that a batch does all or nothing. One odd order would keep nineteen standing."""

    def fail(targets: Any, **_: Any) -> Any:
        if fault == "broke":
            raise ValueError("odd")
        return tuple(Refused(400, "bad_request", "odd") for _ in targets[fault == "short" :])

    targets = rest(exchange, 5)
    monkeypatch.setattr(exchange, "cancel_batch", fail)
    call_off(exchange, targets)
    assert exchange.orders(status="resting") == []


def test_a_stop_cancels_all_that_works_in_one_request(exchange: FakeExchange, held: locks.Held) -> None:
    for _ in range(3):
        approved()
    desk = router(exchange)
    while desk.round(held):  # a round is bounded in time
        pass
    stop()
    desk.round(held)
    assert sorted(exchange.batches[0]) == ["venue-1", "venue-2", "venue-3"]
    assert exchange.orders(status="resting") == []


def test_what_only_the_exchange_lists_is_canceled_in_batches_too(exchange: FakeExchange) -> None:
    rest(exchange, 3)
    stop()
    assert halting.clear(router(exchange), exchange) == halting.Look(at_rest=False, left=3)  # type: ignore[arg-type]
    assert [len(batch) for batch in exchange.batches] == [3]
    assert halting.clear(router(exchange), exchange).at_rest  # type: ignore[arg-type]


# --- the last resort


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def resort(exchange: FakeExchange) -> LastResort:
    return LastResort(VENUE, exchange, monotonic=Seconds())


def test_cancels_that_do_not_come_to_an_end_become_one_that_cancels_all() -> None:
    exchange = Sticky()
    last, _ = resort(exchange), stop()
    for _ in range(19):
        last.saw(3)
    assert exchange.all_canceled == 0
    last.saw(3)
    assert exchange.all_canceled == 1
    entry = AuditEntry.objects.get(verb="orders.cancel_all")
    assert (entry.reason, entry.detail["outcome"]) == ("canceling by id did not come to an end", "done")
    for _ in range(40):
        last.saw(3)
    assert exchange.all_canceled == 1  # not again within ten seconds


def test_read_lag_is_no_reason_for_it() -> None:
    exchange = Sticky()
    last, _ = resort(exchange), stop()
    for _ in range(10):
        for left in (3, 3, 3, 0):
            last.saw(left)
    assert exchange.all_canceled == 0


def test_an_exchange_that_gives_no_list_is_a_reason() -> None:
    exchange = Sticky()
    last, _ = resort(exchange), stop()
    for _ in range(3):
        last.saw_nothing()
    assert exchange.all_canceled == 1
    assert AuditEntry.objects.get(verb="orders.cancel_all").reason == "the exchange gave no list"


def test_a_stop_of_less_than_everything_never_cancels_all() -> None:
    exchange = Sticky()
    last, _ = resort(exchange), stop("market:M")
    for _ in range(50):
        last.saw(1)
        last.saw_nothing()
    assert exchange.all_canceled == 0


def test_the_quiet_minute_is_written_down_before_the_request_leaves() -> None:
    class Looking(Sticky):
        def cancel_all(self, **_: Any) -> AllCanceled:
            quiet = risk.trading_state(VENUE).quiet_until
            assert quiet is not None and quiet > timezone.now() + timedelta(seconds=55)
            return super().cancel_all()

    exchange = Looking()
    last, _ = resort(exchange), stop()
    for _ in range(3):
        last.saw_nothing()
    assert exchange.all_canceled == 1


def test_a_stand_in_uses_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Sticky()
    rest(exchange, 2)
    stop()

    def silent_at_first(**_: Any) -> Any:
        if not exchange.all_canceled:
            raise NoAnswer("silence")
        return []

    monkeypatch.setattr(exchange, "orders", silent_at_first)
    parts = (router(exchange), exchange)
    assert stand_in.bring_to_rest(VENUE, lambda: parts, within=10, pause=lambda _: None)  # type: ignore[arg-type, return-value]
    assert exchange.all_canceled == 1


def test_in_the_quiet_minute_only_a_person_s_exit_goes_out_and_no_order_is_lost(
    exchange: FakeExchange, held: locks.Held
) -> None:
    """Naive: send at once after the resume. The exchange may cancel it with what it still works off."""
    factories.funded()
    market = factories.quoted_market()
    Position.objects.create(venue=VENUE, ticker=market.ticker, event_ticker="E", quantity=D(10), cost=D(4))
    risk.fall_quiet(venue=VENUE, lasting=timedelta(seconds=60))
    opening, leaving = (
        approved(),
        close_position(venue=VENUE, ticker=market.ticker, actor="operator"),
    )
    desk = router(exchange)
    assert desk.round(held) == 1
    opening.refresh_from_db()
    leaving.refresh_from_db()
    assert (opening.state, leaving.state) == ("approved", "claimed")
    # The minute is over, and the other has waited longer than an approval may.
    Proposal.objects.update(decided_at=timezone.now() - timedelta(seconds=70))
    TradingState.objects.update(quiet_until=timezone.now() - timedelta(seconds=1))
    assert desk.round(held) == 1


def test_an_exit_goes_out_before_older_openings(exchange: FakeExchange, held: locks.Held) -> None:
    """Naive: the oldest decision first. Behind many openings the exit waits until it is too old."""
    market = factories.quoted_market()
    Position.objects.create(venue=VENUE, ticker=market.ticker, event_ticker="E", quantity=D(10), cost=D(4))
    openings = [approved() for _ in range(3)]
    leaving = close_position(venue=VENUE, ticker=market.ticker, actor="operator")
    oldest_first = [proposal.pk for proposal in Proposal.objects.unclaimed()]
    assert oldest_first == [*(opening.pk for opening in openings), leaving.pk]
    router(exchange).round(held)
    assert [sent.get("reduce_only", False) for sent in exchange.sent][:2] == [True, False]
