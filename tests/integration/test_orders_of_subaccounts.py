"""Orders of another subaccount against the paper exchange: each write must say which one is meant (API.md 12)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from decimal import Decimal

import pytest

from kalshi_site import locks
from tests import factories
from tests.exchanges import PaperExchange, paper_exchange
from tests.integration.test_paper_account import owner_home
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.market_data import open_market_data
from trading.exchange.orders import Orders, create_body, open_orders
from trading.exchange.outcomes import Accepted, Done, SubaccountCreated
from trading.exchange.transfers import open_transfers
from trading.exchange.venue_clock import VenueClock
from trading.execution.cancels import request_cancel
from trading.execution.decreases import Decreases, request_decrease
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router
from trading.models import Order

D = Decimal
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    with paper_exchange(
        owner_home(tmp_path_factory.mktemp("paper")), "--simulate", "--tier", "prime"
    ) as started:
        yield started


@pytest.fixture
def orders(paper: PaperExchange) -> Iterator[Orders]:
    with closing(open_orders(paper.rest_url, open_signer(*paper.key("desk-trade")))) as opened:
        yield opened
        opened.cancel_all()


@pytest.fixture
def books(paper: PaperExchange) -> Iterator[Reconciler]:
    with ExitStack() as opened:
        account = opened.enter_context(
            closing(open_account(paper.rest_url, open_signer(*paper.key("desk-read"))))
        )
        public = opened.enter_context(closing(open_market_data(paper.rest_url)))
        yield Reconciler(VENUE, account, public)


@pytest.fixture
def adopted(paper: PaperExchange, orders: Orders, books: Reconciler) -> list[Order]:
    """Two orders that rest in a new subaccount, found by the comparison."""
    with closing(open_transfers(paper.rest_url, open_signer(*paper.key("desk-trade")))) as cash:
        made = cash.create_subaccount()
        assert isinstance(made, SubaccountCreated), made
        moved = cash.between_subaccounts(
            amount=D(50), from_subaccount=0, to_subaccount=made.number, transfer_id=uuid.uuid4()
        )
        assert moved == Done()
    quoted = [each for each in books.market_data.markets(status="open") if each.quote.mid is not None]
    ticker = max(quoted, key=lambda each: each.close_at).ticker
    for _ in range(2):
        body = create_body(
            ticker=ticker,
            client_order_id=f"hand-{uuid.uuid4()}",
            book_side=BookSide.BID,
            quantity=D(5),
            yes_price=D("0.01"),
            time_in_force=TimeInForce.GTC,
            subaccount=made.number,
        )
        assert isinstance(orders.send_create(body, time.time_ns() // 1_000_000), Accepted)
    books.run()
    found = list(Order.objects.filter(origin="external", state="resting"))
    assert [order.subaccount for order in found] == [made.number] * 2
    return found


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_it_is_canceled_when_a_person_asks_for_that(
    adopted: list[Order], orders: Orders, books: Reconciler, together: bool
) -> None:
    """Naive: without its number the exchange knows no such order, and the cancel is sent again for ever."""
    wanted = adopted if together else adopted[:1]
    for order in wanted:
        request_cancel(order=order, actor="operator")
    with locks.lease("execution", ttl=timedelta(minutes=1)) as held:
        Router(VENUE, orders, uuid.UUID(int=1)).round(held)
    assert {books.account.order(order.venue_order_id or "").state for order in wanted} == {"canceled"}
    books.run()
    assert not Order.objects.cancel_wanted().exists()


def test_it_is_decreased_when_a_person_asks_for_that(
    adopted: list[Order], orders: Orders, books: Reconciler
) -> None:
    request_decrease(order=adopted[0], actor="operator", remaining=D(2))
    looks = Decreases(VENUE, orders, books.account, VenueClock(), timedelta(seconds=120))
    for _ in range(2):
        looks.look(lambda: None)
    fresh = Order.objects.get(pk=adopted[0].pk)
    assert (fresh.remaining_quantity, fresh.decrease_to) == (D(2), None)
