"""kill -9 of the execution process around the send, with the real exchange answering, dropping and delaying.

Five orders, each in a market of its own, each with its own crash; then one restart, which must find out about all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import urllib3
from django.conf import settings
from django.utils import timezone

from approvals import decisions
from portfolio import risk
from portfolio.models import Reservation
from tests import factories
from tests.exchanges import ROOT, PaperExchange, database_url, paper_exchange
from trading.domain.orders import ON_EXCHANGE, OrderState
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.market_data import open_market_data
from trading.exchange.orders import open_orders
from trading.exchange.reports import OrderReport
from trading.models import Market, Order

D = Decimal
WAITING = {OrderState.SENDING, OrderState.UNKNOWN}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
    pytest.mark.slow,
]


@dataclass(frozen=True)
class Crash:
    """Where execution dies (`point`; `sent`: while it waits for the answer) and what the exchange does meanwhile."""

    point: str
    fault: str | None
    seconds: float = 0.0


# One of each kind; `tests/reliability/test_crash_matrix.py` has all points and behaviours.
CRASHES = [
    Crash("claimed", None),
    Crash("answered", "drop_after"),
    Crash("recorded", "delay_after", 0.3),
    Crash("sent", "delay_before", 1.5),
    Crash("sent", "delay_after", 1.5),
]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with paper_exchange(tmp_path / "paper", "--simulate", "--faults") as running:
        yield running


def markets(exchange: PaperExchange, count: int) -> list[Market]:
    """Rows for open markets of the exchange, those with the highest bids: an order far below rests for long."""
    with closing(open_market_data(exchange.rest_url)) as public:
        found = public.markets(status="open")
    late = timezone.now() + timedelta(minutes=4)
    good = [m for m in found if m.close_at > late and m.quote.mid and (m.quote.yes_bid or D(0)) > D("0.06")]
    good.sort(key=lambda market: market.quote.yes_bid or D(0), reverse=True)
    rows = []
    for market in good[:count]:
        row = factories.MarketFactory(
            ticker=market.ticker,
            event_ticker=market.event_ticker,
            close_at=market.close_at,
            price_ranges=list(market.price_ranges),
        )
        factories.QuoteFactory(market=row, yes_bid=market.quote.yes_bid, yes_ask=market.quote.yes_ask)
        rows.append(row)
    assert len(rows) == count
    risk.set_limit(name="data_age", value=Decimal(600), actor="test")
    return rows


def child(exchange: PaperExchange, point: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        **exchange.environment(),
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
    }
    command = [sys.executable, "-m", "tests.crashing_execution", point]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)


def happened(exchange: PaperExchange) -> bool:
    """Whether the newest of the planned faults has met its request."""
    origin = exchange.rest_url.removesuffix("/trade-api/v2")
    answer = urllib3.request("GET", f"{origin}/__faults", retries=False, timeout=20.0)
    return bool(answer.json()["faults"][-1]["happened"])


def crash(exchange: PaperExchange, market: Market, how: Crash) -> Order:
    """Approve one order and let execution die on it."""
    if how.fault:
        exchange.faults({"endpoint": "create", "kind": how.fault, "seconds": how.seconds})
    proposal = factories.ProposalFactory(market=market, limit_price=D("0.02"))
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="page",
    )
    process = child(exchange, how.point)
    try:
        if how.point == "sent":
            wait_for(lambda: Order.objects.filter(proposal=proposal).exists(), "the claim")
            wait_for(lambda: happened(exchange), "the request, on which the exchange sleeps")
            process.kill()
            # Else the fault that is planned next may meet this request, which is still under way.
            sent = Order.objects.get(proposal=proposal).client_order_id
            wait_for(
                lambda: sent in {report.client_order_id for report in listed(exchange)}, "its acceptance"
            )
        process.wait(120)
        assert process.returncode == -9
    finally:
        process.kill()
        process.communicate(timeout=10)
    return Order.objects.get(proposal=proposal)


def wait_for(look: Any, what: str, within: float = 40.0) -> Any:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"no sight of {what} in {within} s")


def listed(exchange: PaperExchange) -> list[OrderReport]:
    with closing(open_account(exchange.rest_url, open_signer(*exchange.key("desk-read")))) as account:
        return account.orders()


def each_order_is_there_once(exchange: PaperExchange, orders: list[Order]) -> None:
    """The check: what we call sent stands on the exchange exactly once, what we call absent not at all."""
    counts = Counter(report.ticker for report in listed(exchange))
    assert counts == {order.ticker: 1 for order in orders if order.state in ON_EXCHANGE}


def test_no_order_is_lost_or_doubled(exchange: PaperExchange) -> None:
    factories.funded()
    for market, how in zip(markets(exchange, len(CRASHES)), CRASHES, strict=True):
        crash(exchange, market, how)
    assert Order.objects.count() == len(CRASHES)
    process = child(exchange, "never")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_for(lambda: not Order.objects.filter(state__in=WAITING).exists(), "proof for every order")
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0
    orders = list(Order.objects.order_by("id"))
    states = [OrderState(order.state) for order in orders]
    assert states == [OrderState.ABSENT if how.point == "claimed" else OrderState.RESTING for how in CRASHES]
    each_order_is_there_once(exchange, orders)
    assert {order.attempts for order in orders} == {1}
    standing = set(Reservation.objects.filter(released_at=None).values_list("ticker", flat=True))
    assert standing == {order.ticker for order in orders if order.is_open}


def test_the_same_check_catches_a_sender_that_tries_again_with_a_new_id(exchange: PaperExchange) -> None:
    factories.funded()
    order = crash(exchange, markets(exchange, 1)[0], Crash("answered", "drop_after"))
    body = json.loads(order.body) | {"client_order_id": "drawn-anew"}
    with closing(open_orders(exchange.rest_url, open_signer(*exchange.key("desk-trade")))) as sender:
        sender.send_create(json.dumps(body).encode(), int(time.time() * 1000))
    order.state = OrderState.RESTING.value
    with pytest.raises(AssertionError):
        each_order_is_there_once(exchange, [order])
