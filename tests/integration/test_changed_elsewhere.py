"""Our own orders, changed by somebody else with the account's key, against the paper exchange."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from approvals import decisions
from kalshi_site import locks
from portfolio import risk
from portfolio.models import Reservation
from tests import factories
from tests.exchanges import PaperExchange, paper_exchange
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.market_data import open_market_data
from trading.exchange.orders import Orders, amend_body, open_orders
from trading.exchange.outcomes import Amended, Decreased
from trading.exchange.reports import OrderReport
from trading.execution import halting
from trading.execution.comparison import Reconciled
from trading.execution.decreases import AGAIN, Decreases, request_decrease
from trading.execution.reconcile import Reconciler
from trading.execution.renewal import Renewal
from trading.execution.router import Router
from trading.execution.rows import RowDifference, compare_rows
from trading.models import Order, WorkItem

D = Decimal
VENUE = factories.VENUE
FAR_AHEAD = timedelta(seconds=280)  # so that an order that was just sent is due to be renewed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    with paper_exchange(tmp_path_factory.mktemp("paper"), "--simulate", "--tier", "unlimited") as started:
        yield started


@pytest.fixture
def orders(paper: PaperExchange) -> Iterator[Orders]:
    """The trading key: the desk has it, and so has the person who changes our orders elsewhere."""
    with closing(open_orders(paper.rest_url, open_signer(*paper.key("desk-trade")))) as opened:
        yield opened
        opened.cancel_all()


@pytest.fixture
def books(paper: PaperExchange) -> Iterator[Reconciler]:
    with ExitStack() as opened:
        signer = open_signer(*paper.key("desk-read"))
        account = opened.enter_context(closing(open_account(paper.rest_url, signer)))
        public = opened.enter_context(closing(open_market_data(paper.rest_url)))
        judge = Reconciler(VENUE, account, public)
        judge.run()
        yield judge


@pytest.fixture
def desk(orders: Orders) -> Router:
    return Router(VENUE, orders, uuid.UUID(int=1))


@pytest.fixture
def ours(desk: Router, books: Reconciler, held: locks.Held) -> Order:
    """Ten contracts far below the bid: they rest."""
    quoted = [
        each for each in books.market_data.markets(status="open") if (each.quote.yes_bid or 0) > D("0.06")
    ]
    market = max(quoted, key=lambda each: each.close_at)
    row = factories.MarketFactory(
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        close_at=market.close_at,
        price_ranges=list(market.price_ranges),
        exchange_index=market.exchange_index,
    )
    factories.QuoteFactory(market=row, yes_bid=market.quote.yes_bid, yes_ask=market.quote.yes_ask)
    proposal = factories.ProposalFactory(market=row, limit_price=D("0.02"))
    terms = {"version": 1, "terms_hash": proposal.terms_hash}
    decisions.approve(proposal=proposal, actor=factories.approver(), method="page", **terms)
    assert desk.round(held) == 1
    return Order.objects.get(state="resting")


class Clock:
    def now(self) -> datetime:
        return timezone.now()

    def require_steady(self) -> None:
        """It is."""


Renew = Callable[[], int]


@pytest.fixture
def renew(orders: Orders, books: Reconciler, held: locks.Held) -> Renew:
    """One look at the renewals that are due. How many were proven."""
    renewal = Renewal(VENUE, orders, books.account, Clock(), FAR_AHEAD)
    return lambda: renewal.look(lambda: held)


def there(books: Reconciler, order: Order) -> OrderReport:
    return books.account.order(order.venue_order_id or "")


def reduced(orders: Orders, order: Order, left: str = "4") -> None:
    """By hand, on the exchange's own site."""
    outcome = orders.decrease(order.venue_order_id or "", market_ticker=order.ticker, reduce_to=D(left))
    assert isinstance(outcome, Decreased), outcome


def amended(orders: Orders, order: Order, *, price: str = "0.02", count: str = "10") -> None:
    """By hand, on the exchange's own site."""
    body = amend_body(
        ticker=order.ticker, book_side=order.terms.book_side, yes_price=D(price), quantity=D(count)
    )
    outcome = orders.send_amend(order.venue_order_id or "", body, time.time_ns() // 1_000_000)
    assert isinstance(outcome, Amended), outcome


def look(books: Reconciler, times: int = 1) -> None:
    for _ in range(times):
        books.run()


# --- renewals


def test_a_renewal_does_not_undo_a_decrease_that_somebody_made_elsewhere(
    ours: Order, orders: Orders, books: Reconciler, renew: Renew
) -> None:
    """Naive: it names the total that we know, which is ten: four became ten again."""
    reduced(orders, ours)
    books.orders(Reconciled())  # as execution asks; no comparison has told people yet
    fresh = Order.objects.get()
    assert (fresh.reduced_quantity, fresh.standing_quantity) == (D(6), D(4))
    assert Reservation.objects.get().signed_quantity == D(4)
    assert renew() == 1
    report = there(books, ours)
    assert (report.filled_quantity, report.remaining_quantity) == (D(0), D(4))
    assert report.expires_at is not None
    assert ours.expires_at is not None
    assert report.expires_at > ours.expires_at


def test_a_decrease_elsewhere_is_told_to_people_and_the_order_is_left_to_its_expiry(
    ours: Order, orders: Orders, books: Reconciler, renew: Renew
) -> None:
    reduced(orders, ours)
    look(books, 3)
    item = WorkItem.objects.shown(VENUE).get()
    assert (item.kind, item.order, item.theirs, item.ours) == (
        "changed_elsewhere",
        ours.public_id,
        "4.00 at 0.0200 YES",
        "10.00 at 0.0200 YES",
    )
    assert risk.trading_state(VENUE).mode == "REDUCING"
    assert "6.00 contracts taken off elsewhere" in [
        event.reason for event in Order.objects.get().events.all()
    ]
    assert renew() == 0
    orders.cancel(ours.venue_order_id or "", market_ticker=ours.ticker)
    look(books)
    assert not WorkItem.objects.standing(VENUE).exists()
    assert Reservation.objects.get().released_at is not None


@pytest.mark.parametrize("change", [{"price": "0.03"}, {"count": "12"}])
def test_a_renewal_does_not_fight_a_price_or_a_size_that_somebody_gave_the_order_elsewhere(
    ours: Order, orders: Orders, books: Reconciler, renew: Renew, change: dict[str, str]
) -> None:
    amended(orders, ours, **change)
    look(books)
    assert WorkItem.objects.get().state == "noticed"
    assert renew() == 0
    report = there(books, ours)
    assert (report.price, report.initial_quantity) == (
        D(change.get("price", "0.02")),
        D(change.get("count", "10")),
    )


# --- not elsewhere: by us


def decreased(orders: Orders, books: Reconciler, left: str) -> None:
    """Asked for here, sent and proven."""
    request_decrease(order=Order.objects.get(), actor="operator", remaining=D(left))
    for _ in range(2):
        Decreases(VENUE, orders, books.account, Clock(), FAR_AHEAD).look(lambda: None)
    assert Order.objects.get().standing_quantity == D(left)


def rows_that_differ(books: Reconciler) -> list[RowDifference]:
    return compare_rows(VENUE, books.records, books.open_account(), Reconciled()).differences


@pytest.mark.usefixtures("ours")
def test_row_by_row_our_own_decreases_differ_in_nothing_whatever_first_count_the_exchange_keeps(
    orders: Orders, books: Reconciler, renew: Renew
) -> None:
    """Naive: the quantity that was approved. Each renewal makes the total of then the exchange's first count."""
    decreased(orders, books, "7")
    assert rows_that_differ(books) == []
    assert renew() == 1
    assert rows_that_differ(books) == []
    decreased(orders, books, "4")
    assert rows_that_differ(books) == []


@pytest.mark.usefixtures("ours")
def test_two_decreases_of_ours_with_a_renewal_in_between_are_no_change_made_elsewhere(
    orders: Orders, books: Reconciler, renew: Renew
) -> None:
    """Naive: either what was approved or what stands. The first count is what stood at the renewal, neither of both."""
    decreased(orders, books, "7")
    assert renew() == 1
    decreased(orders, books, "4")
    look(books, 2)
    assert not WorkItem.objects.exists()
    assert risk.trading_state(VENUE).mode == "ACTIVE"


def test_what_somebody_puts_back_elsewhere_after_our_decrease_is_told(
    ours: Order, orders: Orders, books: Reconciler
) -> None:
    decreased(orders, books, "4")
    amended(orders, ours, count="10")
    look(books, 2)
    assert WorkItem.objects.shown(VENUE).get().kind == "changed_elsewhere"


# --- made larger, and filled beyond what was approved


@pytest.fixture
def overfilled(ours: Order, orders: Orders, books: Reconciler) -> Order:
    """Twelve contracts bought by an order of ten: our database takes no such count."""
    amended(orders, ours, price="0.99", count="12")
    report = there(books, ours)
    assert (report.state, report.filled_quantity) == ("filled", D(12))
    return ours


def test_a_stop_over_it_is_proven_by_the_exchanges_word(
    overfilled: Order, desk: Router, books: Reconciler
) -> None:
    """Naive: what our records cannot take in breaks each round, and the stop never comes to rest."""
    risk.halt(venue=VENUE, actor="operator", reason="drill")
    assert halting.clear(desk, books.account).at_rest
    assert risk.trading_state(VENUE).cleared_at is not None
    assert any(overfilled.public_id in odd for odd in books.run().odd), "people are told"
    assert WorkItem.objects.filter(kind="odd_record").exists()


def test_neither_a_renewal_nor_a_decrease_without_proof_breaks_the_round(
    overfilled: Order, orders: Orders, books: Reconciler, renew: Renew
) -> None:
    request_decrease(order=overfilled, actor="operator", remaining=D(4))
    long_ago = timezone.now() - AGAIN
    Order.objects.update(renewal_until=timezone.now(), renewal_signed_at=long_ago, decrease_sent_at=long_ago)
    assert renew() == 0
    Decreases(VENUE, orders, books.account, Clock(), FAR_AHEAD).look(lambda: None)
    fresh = Order.objects.get()
    assert (fresh.renewal_until, fresh.decrease_sent_at) == (None, long_ago), "it is over: nothing is sent"
