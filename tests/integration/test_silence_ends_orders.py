"""Silence ends our orders at the real exchange: killed, its expiries run out; frozen, the watchdog trips its groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from approvals import decisions
from approvals.models import Proposal
from portfolio import risk
from tests import factories
from tests.exchanges import ROOT, PaperExchange, database_url, paper_exchange
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.market_data import open_market_data
from trading.execution.nets import ask_to_reset
from trading.models import Market, Order, OrderGroup

D = Decimal
ORDERS = 5
LIFE = 15.0  # seconds; 120 in the product
SILENT = 10.0  # seconds without a sign of life

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.slow,
]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with paper_exchange(tmp_path / "paper", "--simulate") as running:
        yield running


@contextmanager
def process(
    exchange: PaperExchange, what: str, seconds: float, **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One of our processes, ready; killed after the block, frozen or not."""
    environment = {
        **os.environ,
        **exchange.environment(),
        **changes,
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
    }
    command = [sys.executable, "-m", "tests.silent_execution", what, str(seconds)]
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


def approved(exchange: PaperExchange, count: int, *, crossing: bool = False) -> list[Proposal]:
    """Proposals in markets of the exchange, far below their bids: what comes of them rests; or through the asks."""
    with closing(open_market_data(exchange.rest_url)) as public:
        found = public.markets(status="open")
    late = timezone.now().timestamp() + 400
    open_long = [m for m in found if m.close_at.timestamp() > late]
    good = [m for m in open_long if m.quote.mid and (m.quote.yes_bid or D(0)) > D("0.06")]
    assert len(good) >= count
    factories.funded()
    risk.set_limit(name="data_age", value=D(600), actor="test")
    if not crossing:
        return [_approve(market, D("0.02")) for market in good[:count]]
    # Through the ask by twelve cents: it has moved on by the time that the order is there.
    risk.set_limit(name="price_collar", value=D("0.15"), actor="test")
    crossable = [(m, m.quote.yes_ask) for m in good if m.quote.yes_ask and m.quote.yes_ask < D("0.85")]
    return [_approve(m, ask.quantize(D("0.01")) + D("0.12")) for m, ask in crossable[:count]]


def _approve(market: Any, price: Decimal) -> Proposal:
    row = Market.objects.filter(ticker=market.ticker).first() or factories.MarketFactory(
        ticker=market.ticker,
        event_ticker=market.event_ticker,
        close_at=market.close_at,
        price_ranges=list(market.price_ranges),
        exchange_index=market.exchange_index,
    )
    if not hasattr(row, "quote"):
        factories.QuoteFactory(market=row, yes_bid=market.quote.yes_bid, yes_ask=market.quote.yes_ask)
    proposal = factories.ProposalFactory(market=row, limit_price=price)
    return decisions.approve(
        proposal=proposal,
        version=1,
        terms_hash=proposal.terms_hash,
        actor=factories.approver(),
        method="page",
    )


def listed(exchange: PaperExchange) -> int:
    """How many orders rest, by the exchange's own list."""
    with closing(open_account(exchange.rest_url, open_signer(*exchange.key("desk-read")))) as account:
        return len(account.orders(status="resting"))


def until(look: Callable[[], Any], within: float = 30.0) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not look():
        assert time.monotonic() - began < within, "it did not come"
        time.sleep(0.05)
    return time.monotonic() - began


def test_orders_outlive_their_expiry_while_execution_lives_and_end_by_it_when_all_is_killed(
    exchange: PaperExchange,
) -> None:
    with process(exchange, "execution", LIFE) as execution:
        approved(exchange, ORDERS)
        until(lambda: Order.objects.filter(state="resting").count() == ORDERS)
        first = {order.pk: order.expires_at for order in Order.objects.all()}
        ended = max(moment for moment in first.values() if moment is not None) + timedelta(seconds=1)
        until(lambda: timezone.now() > ended, within=LIFE + 30)
        assert listed(exchange) == ORDERS  # naive: an expiry that nobody moves on would have ended them
        assert all(order.expires_at > first[order.pk] for order in Order.objects.all())
        execution.kill()
        execution.wait(10)
    until(lambda: listed(exchange) == 0, within=LIFE + 30)


def test_a_frozen_execution_has_its_orders_ended_by_the_watchdog_and_a_person_starts_again(
    exchange: PaperExchange,
) -> None:
    with ExitStack() as stack:
        execution = stack.enter_context(process(exchange, "execution", 100))
        stack.enter_context(process(exchange, "watchdog", SILENT))
        approved(exchange, ORDERS)
        until(lambda: Order.objects.filter(state="resting").count() == ORDERS)
        time.sleep(SILENT + 1)
        assert listed(exchange) == ORDERS  # heard, the watchdog leaves it alone
        execution.send_signal(signal.SIGSTOP)
        until(lambda: listed(exchange) == 0, within=SILENT + 50)
        until(lambda: risk.trading_state(factories.VENUE).mode == "REDUCING")
        assert OrderGroup.objects.tripped(factories.VENUE).count() == OrderGroup.objects.count()
        execution.send_signal(signal.SIGCONT)
        until(lambda: not Order.objects.open().exists())
        with pytest.raises(risk.ResumeRefused):
            risk.resume(venue=factories.VENUE, actor="operator", reason="it is back")
        ask_to_reset(venue=factories.VENUE, actor="operator", reason="found why")
        until(lambda: not OrderGroup.objects.tripped(factories.VENUE).exists())
        risk.resume(venue=factories.VENUE, actor="operator", reason="found why")
        approved(exchange, 1)
        until(lambda: listed(exchange) == 1)


def test_without_the_watchdog_the_orders_of_a_frozen_execution_stay(exchange: PaperExchange) -> None:
    with process(exchange, "execution", 100) as execution:
        approved(exchange, 2)
        until(lambda: Order.objects.filter(state="resting").count() == 2)
        execution.send_signal(signal.SIGSTOP)
        time.sleep(SILENT + 5)
        assert listed(exchange) == 2


def test_with_the_throttle_taken_away_the_exchanges_own_net_stops_a_runaway_strategy(
    exchange: PaperExchange,
) -> None:
    venue = factories.VENUE
    with process(exchange, "execution", 100, ORDER_GROUP_CONTRACTS="15", ORDERS_PER_MINUTE="100000"):
        approved(exchange, 1)
        until(lambda: listed(exchange) == 1)
        with transaction.atomic():  # a runaway is quicker than the pause that its net brings
            approved(exchange, 6, crossing=True)
        until(lambda: OrderGroup.objects.tripped(venue).exists())
        assert listed(exchange) == 0  # what the runaway had resting is gone with it
        until(lambda: risk.trading_state(venue).mode == "REDUCING")
        until(lambda: not Proposal.objects.filter(state="approved").exists())
        filled = sum(order.filled_quantity for order in Order.objects.all())
        assert 15 < filled <= 15 + 10, "the match that passes the limit happens whole, and no other after it"
        with pytest.raises(risk.ResumeRefused):
            risk.resume(venue=venue, actor="operator", reason="again")
