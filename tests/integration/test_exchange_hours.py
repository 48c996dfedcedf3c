"""Pauses and maintenance: asked for, kept as a row, told on every page, and no new risk while they last."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from approvals.models import Proposal
from kalshi_site import locks
from kalshi_site.models import AuditEntry, ChangeLog
from portfolio import risk
from tests import factories
from tests.factories import approved
from tests.fakes import FakeExchange
from trading.domain.hours import ShardState, Standing
from trading.domain.orders import OrderState
from trading.exchange.errors import Unreachable
from trading.exchange.reports import ExchangeState as Told
from trading.exchange.reports import Maintenance, TradingHours
from trading.execution import cancels
from trading.execution.router import Router
from trading.market_data.exchange_watch import ExchangeWatch
from trading.models import ExchangeState, Market, Order
from trading.models.exchange_state import exchange_facts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

OPEN = Told(is_active=True, is_trading=True, resumes_at=None, shards=(ShardState(0, True, True),))


class Asked:
    """An exchange that says what the test wants it to."""

    def __init__(self) -> None:
        self.told = OPEN
        self.hours = TradingHours((), ())
        self.is_down = False
        self.asked_for_hours = 0

    def exchange_state(self) -> Told:
        if self.is_down:
            raise Unreachable("no connection")
        return self.told

    def trading_hours(self) -> TradingHours:
        self.asked_for_hours += 1
        return self.hours


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def watch(asked: Asked) -> ExchangeWatch:
    return ExchangeWatch(venue=factories.VENUE, exchange=asked, weekly=False)  # type: ignore[arg-type]


def standing(index: int | None = None) -> Standing:
    return exchange_facts().standing(timezone.now(), index)


def desk(exchange: FakeExchange) -> Router:
    return Router(venue=factories.VENUE, orders=exchange, deployment=uuid.UUID(int=1))


def test_what_the_exchange_says_becomes_a_row_and_a_change_is_audited(
    watch: ExchangeWatch, asked: Asked
) -> None:
    assert standing() is Standing.UNKNOWN
    watch.look()
    first = ExchangeState.objects.get()
    watch.look()
    again = ExchangeState.objects.get()
    assert (again.version, again.as_of > first.as_of) == (first.version, True)
    asked.told = replace(OPEN, is_trading=False)
    watch.look()
    assert standing() is Standing.PAUSED
    assert ExchangeState.objects.get().version == first.version + 1
    last = AuditEntry.objects.filter(verb="exchange.state").latest("id")
    assert last.reason.startswith("The exchange has paused trading")
    assert last.detail["before"] == "the exchange is trading"
    assert ChangeLog.objects.filter(topic="trading", kind="exchange").count() == 2
    assert AuditEntry.objects.filter(verb="exchange.state").count() == 1


def test_an_exchange_out_of_reach_is_unknown_once_its_word_is_old(watch: ExchangeWatch, asked: Asked) -> None:
    watch.look()
    asked.is_down = True
    watch.look()
    assert standing() is Standing.TRADING
    ExchangeState.objects.update(as_of=timezone.now() - timedelta(minutes=2))
    assert standing() is Standing.UNKNOWN


def test_announced_maintenance_counts_by_the_clock_and_is_asked_for_seldom(
    watch: ExchangeWatch, asked: Asked
) -> None:
    now = timezone.now()
    asked.hours = TradingHours((), (Maintenance(now - timedelta(minutes=1), now + timedelta(minutes=1)),))
    for _ in range(5):
        watch.look()
    assert asked.asked_for_hours == 1
    assert exchange_facts().standing(now) is Standing.MAINTENANCE
    later = now + timedelta(minutes=2)
    assert replace(exchange_facts(), as_of=later).standing(later) is Standing.TRADING


def test_an_approval_in_a_pause_is_denied_with_its_code() -> None:
    factories.quoted_market(ticker="SIMTEST-1")
    factories.exchange_says(is_trading=False)
    with pytest.raises(risk.Denied) as refused:
        approved(market=factories.quoted_market())
    assert refused.value.code == "E607"
    assert "has paused trading" in str(refused.value)


def test_a_pause_after_the_approval_is_found_at_the_claim(held: locks.Held) -> None:
    approved()
    factories.exchange_says(is_trading=False)
    exchange = FakeExchange()
    assert desk(exchange).round(held) == 0
    proposal = Proposal.objects.get()
    assert (proposal.state, exchange.sent) == ("voided", [])
    assert "E607 Exchange: the exchange has paused trading" in proposal.events.latest("id").reason


def test_only_the_orders_of_a_paused_shard_are_stopped(held: locks.Held) -> None:
    approved(market=factories.quoted_market(ticker="SIMTEST-A", exchange_index=0))
    approved(market=factories.quoted_market(ticker="SIMTEST-B", exchange_index=3))
    factories.exchange_says(shards=[[0, True, True], [3, True, False]])
    exchange = FakeExchange()
    assert desk(exchange).round(held) == 1
    assert [order["ticker"] for order in exchange.sent] == ["SIMTEST-A"]


def test_what_works_can_be_canceled_in_a_pause(held: locks.Held) -> None:
    approved()
    exchange = FakeExchange()
    router = desk(exchange)
    router.round(held)
    factories.exchange_says(is_trading=False)
    cancels.request_cancel(order=Order.objects.get(), actor="someone", reason="out")
    router.round(held)
    assert exchange.book["venue-1"].state is OrderState.CANCELED


@pytest.mark.parametrize("path", ["/", "/orders", "/markets"])
def test_every_page_says_in_plain_words_that_nothing_goes_out(path: str) -> None:
    factories.exchange_says(is_trading=False, resumes_at=timezone.now() + timedelta(hours=1))
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    assert "The exchange has paused trading, expected back at" in client.get(path).content.decode()
    factories.exchange_says()
    assert "has paused trading" not in client.get(path).content.decode()


def test_a_paused_shard_is_named_on_every_page() -> None:
    factories.exchange_says(shards=[[0, True, True], [3, False, False]])
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    part = client.get("/frame/exchange").content.decode()
    assert "The exchange takes no orders in shard 3." in part


def test_machines_and_the_health_page_are_told() -> None:
    factories.exchange_says(is_active=False)
    told = Client().get("/tradez").json()["checks"]["exchange"]
    assert told == "E607 the exchange is closed: neither orders nor cancels work"
    client = Client()
    client.force_login(factories.member("viewer1", "viewer"))
    page = client.get("/health").content.decode()
    assert "neither orders nor cancels work" in page


def test_a_proposal_off_the_new_bands_is_stopped_at_the_claim_with_its_reason(held: locks.Held) -> None:
    approved(limit_price=Decimal("0.4900"))
    Market.objects.update(price_ranges=[{"start": "0.00", "end": "1.00", "step": "0.02"}])
    exchange = FakeExchange()
    assert desk(exchange).round(held) == 0
    proposal = Proposal.objects.get()
    assert (proposal.state, exchange.sent) == ("voided", [])
    assert "E014 Price grid: 49¢ is off the price grid" in proposal.events.latest("id").reason


def test_what_rests_survives_a_finer_tick(held: locks.Held) -> None:
    approved()
    exchange = FakeExchange()
    router = desk(exchange)
    router.round(held)
    Market.objects.update(price_ranges=[{"start": "0.00", "end": "1.00", "step": "0.001"}])
    router.round(held)
    assert Order.objects.get().state == "resting"
    assert exchange.book["venue-1"].state is OrderState.RESTING
