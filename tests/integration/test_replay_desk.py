"""The desk trades through a whole recorded market: real book, real settlement, profit and loss to the cent."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from approvals import decisions, proposals
from approvals.domain.policy import Origin
from kalshi_site import locks
from portfolio import ledger, risk
from portfolio.models import Position
from tests import factories
from tests.exchanges import ROOT, PaperExchange, database_url, paper_exchange
from trading.domain.orders import Action, Side, Terms
from trading.exchange.account import open_account
from trading.exchange.auth import open_signer
from trading.exchange.errors import ExchangeError
from trading.exchange.market_data import open_market_data
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router, open_order_gateway
from trading.models import Fill, Market, Order

D = Decimal
VENUE = factories.VENUE
TICKER = "KXGOLD15M-26AUG101800-00"
SPEED = 20
TRADES = 3
RECORDINGS = os.environ.get("KALSHI_RECORDINGS", "")

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.slow,
    pytest.mark.skipif(not RECORDINGS, reason="KALSHI_RECORDINGS is not set"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def recorded_result() -> Decimal:
    """Dollars per YES contract, as the exchange settled it."""
    with (Path(RECORDINGS) / "MARKETS.csv").open(encoding="utf-8") as table:
        row = next(r for r in csv.DictReader(table) if TICKER.startswith(r["event_ticker"]))
    return D(row["settlement_value_dollars"])


@contextmanager
def feed(exchange: PaperExchange) -> Iterator[None]:
    environment = {
        **os.environ,
        **exchange.environment(),
        "DJANGO_SETTINGS_MODULE": "kalshi_site.settings",
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
    }
    process = subprocess.Popen([sys.executable, "manage.py", "feed"], cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def until(look: Any, what: str, within: float = 45.0) -> Any:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"no sight of {what} in {within} s")


def buy(side: Side) -> bool:
    """Propose and approve 20 contracts at a cent above the touch; False while there is no price to trade at."""
    touch = risk.facts_of(TICKER).book.ask(side)
    if touch is None or not D("0.05") < touch < D("0.90"):
        return False
    draft = proposals.Draft(
        venue=VENUE,
        terms=Terms(TICKER, Action.BUY, side, D(20), touch + D("0.01")),
        origin=Origin.AGENT,
        proposer="replay",
        time_to_decide=timedelta(minutes=1),
    )
    proposal = proposals.submit(draft)
    if proposal.state != "pending":
        return False
    decisions.approve(
        proposal=proposal,
        terms_hash=proposal.terms_hash,
        version=1,
        actor=factories.approver(),
        method="page",
    )
    return True


def test_a_whole_market_is_traded_to_its_real_settlement(tmp_path: Path) -> None:
    options = (
        *("--replay", RECORDINGS, "--speed", str(SPEED), "--market", TICKER),
        *("--tier", "unlimited"),  # these clients share no budget
    )
    with paper_exchange(tmp_path / "paper", *options) as exchange, feed(exchange):
        read = open_signer(*exchange.key("desk-read"))
        with (
            closing(open_account(exchange.rest_url, read)) as account,
            closing(open_market_data(exchange.rest_url)) as public,
            closing(
                open_order_gateway(exchange.rest_url, open_signer(*exchange.key("desk-trade")))
            ) as orders,
        ):
            desk = Reconciler(VENUE, account, public)
            desk.open_account()
            for name in ("time_to_close", "data_age"):
                risk.set_limit(name=name, value=D(0 if name == "time_to_close" else 30), actor="test")
            router = Router(VENUE, orders, uuid.UUID(int=5))
            until(lambda: Market.objects.filter(ticker=TICKER, status="active").exists(), "the market")
            with locks.lease("execution", ttl=timedelta(minutes=2)) as held:
                until(lambda: traded(router, held) or closed(), "three trades, or the close", within=90.0)
            until(lambda: settled(desk), "the settlement", within=300.0)
            judge(account.balance().cash)


def traded(router: Router, held: locks.Held) -> bool:
    """Buy the side that has a price; True once enough orders went out."""
    if buy(Side.YES) or buy(Side.NO):
        router.round(held)
    return Order.objects.count() >= TRADES


def closed() -> bool:
    return not Market.objects.filter(ticker=TICKER, status="active").exists()


def settled(desk: Reconciler) -> bool:
    with suppress(ExchangeError):  # what was booked before a read failed stands
        desk.run()
    return Position.objects.filter(ticker=TICKER, settled_at__isnull=False).exists()


def judge(balance: Decimal) -> None:
    """Everything must follow from the fills and the recorded result alone."""
    fills = list(Fill.objects.all())
    assert fills, "nothing was traded"
    assert {order.state for order in Order.objects.all()} <= {"filled", "canceled", "rejected"}
    position = Position.objects.get(ticker=TICKER)
    value = recorded_result()
    assert position.settlement_value == value
    paid = sum((f.quantity * (f.yes_price if f.book_side == "bid" else 1 - f.yes_price) for f in fills), D(0))
    won = sum((f.quantity * (value if f.book_side == "bid" else 1 - value) for f in fills), D(0))
    fees = sum((f.fee for f in fills), D(0))
    assert position.realized == won - paid
    assert position.fees == fees > 0
    assert ledger.cash(VENUE) == balance == D(10_000) + won - paid - fees
