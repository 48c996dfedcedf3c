"""Parts that are reachable and silent, and writers that meet: neither holds up execution."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from kalshi_site import live
from portfolio import risk
from portfolio.models import Reservation
from tests import factories
from tests.exchanges import database_url
from tests.fakes import FakeExchange
from trading.execution import cancels, fills
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.execution.wake import nudges
from trading.models import Fill, Order

D = Decimal
ROOT = Path(settings.BASE_DIR)
VENUE = factories.VENUE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def test_a_redis_that_accepts_and_never_answers_delays_no_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        monkeypatch.setattr(settings, "REDIS_URL", f"unix://{path}")
        stop, looks = threading.Event(), list[bool]()

        def look() -> None:
            looks.append(next(iter(nudges(0.01, stop))))

        worker = threading.Thread(target=look, daemon=True)
        worker.start()
        worker.join(60)
    assert looks == [False]


class Mute:
    """A channel layer that takes a message and never comes back."""

    asked = 0

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.asked += 1
        await asyncio.Event().wait()


def test_a_channel_layer_that_hangs_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Mute()
    monkeypatch.setattr(live, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(live, "PATIENCE", 0.01)
    monkeypatch.setattr(live, "_silent_until", [float("-inf")])
    assert [live.publish("orders", {}) for _ in range(3)] == [False] * 3
    assert layer.asked == 1


def test_a_cancel_of_all_and_a_fill_do_not_lock_each_other_out() -> None:
    """A cancel-all in one transaction, as under an Idempotency-Key, while a fill of its last order is booked."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock")
    factories.funded()
    market = factories.quoted_market()
    for _ in range(2):
        factories.OrderFactory(proposal=factories.ProposalFactory(state="claimed", market=market))
    last = Order.objects.latest("pk")
    live.changed("orders", key="x", version=1)
    filling, faults = threading.Event(), list[Exception]()

    def book() -> None:
        exchange = FakeExchange()
        report = exchange.rest(
            {"client_order_id": "", "ticker": market.ticker, "side": "bid", "price": "0.5", "count": "10"}
        )
        news = exchange.execute(report.order_id, D(4))
        from dataclasses import replace

        try:
            with transaction.atomic():
                Order.objects.select_for_update().get(pk=last.pk)
                filling.set()
                threading.Event().wait(0.3)
                fills.record_fill(VENUE, replace(news, order_id=str(last.venue_order_id)))
        except Exception as error:
            faults.append(error)
        finally:
            connections.close_all()

    worker = threading.Thread(target=book)
    worker.start()
    assert filling.wait(30)
    with transaction.atomic():
        asked = cancels.request_cancel_all(venue=VENUE, actor="operator")
    worker.join(60)
    assert (faults, len(asked), Fill.objects.count()) == ([], 2, 1)


def test_an_order_found_on_the_exchange_counts_until_it_is_over() -> None:
    factories.funded()
    market = factories.quoted_market()
    exchange = FakeExchange()
    judge = Reconciler(VENUE, exchange, exchange)  # type: ignore[arg-type]
    exchange.rest(
        {"client_order_id": "by-hand", "ticker": market.ticker, "side": "ask", "price": "0.30", "count": "10"}
    )
    judge.run()
    facts = risk.portfolio_facts(VENUE, risk.facts_of(market.ticker))
    assert (facts.reserved_cash, facts.event_exposure, facts.pending) == (D(7), D(7), D(-10))
    exchange.execute("venue-1", D(4))
    judge.run()
    assert Reservation.objects.get().signed_quantity == D(-6)
    exchange.cancel("venue-1", market_ticker="")
    judge.orders(Reconciled())
    assert Reservation.objects.get().released_at is not None


_HOLDS = """
import django; django.setup()
from django.db import transaction
from portfolio import risk
with transaction.atomic():
    risk.trading_state("paper", lock=True)
    print("holds", flush=True)
    import time; time.sleep(60)
"""


def test_a_process_that_is_frozen_in_a_claim_does_not_keep_a_stop_waiting_for_ever() -> None:
    """Naive: PostgreSQL keeps the rows of a silent client locked until somebody kills it."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no client to give up on: see test_frozen_writer")
    risk.trading_state(VENUE)
    told = {**os.environ, "DATABASE_URL": database_url(), "KALSHI_PROCESS": "execution"}
    told["DJANGO_SETTINGS_MODULE"] = "kalshi_site.settings"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS], env=told, stdout=subprocess.PIPE, cwd=ROOT
    ) as frozen:
        assert frozen.stdout is not None and frozen.stdout.readline() == b"holds\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '25s'")
            assert risk.halt(venue=VENUE, actor="operator", reason="fire").mode == "HALTED"
        finally:
            frozen.kill()
            connection.close()
