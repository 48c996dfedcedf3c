"""The desk as it is wired stands behind its breakers, each by its own name; one that nobody calls says so.

What the breakers do where they stand is told in test_breakers_at_work; here, that the wiring puts them there.
"""

from __future__ import annotations

import ast
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings as django_settings
from django.test import Client

from kalshi_site import breakers, wiring
from kalshi_site.breakers import BREAKERS, Breaker, memories
from tests.callers import Caller
from tests.factories import member
from tests.scripted_exchange import ScriptedExchange, answers, serving
from trading import tasks
from trading.agent.guarded import Guarded
from trading.domain.orders import BookSide, TimeInForce
from trading.exchange.errors import ExchangeError, SwitchedOff
from trading.exchange.orders import create_body
from trading.execution.router import Router

Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]

IDLE = "Nothing yet: no message leaves the desk."


def wired() -> set[str]:
    """The names of the breakers that the wiring hands to anybody."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(wiring))) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Breaker"]
    return {str(ast.literal_eval(call.args[0])) for call in made}


@pytest.fixture
def exchange(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, clean_redis: str
) -> Iterator[ScriptedExchange]:
    """One that fails whatever it is asked, and the settings of a process that holds both keys for it."""
    key = tmp_path / "key.pem"
    made = Ed25519PrivateKey.generate()
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    monkeypatch.setattr(memories, "FRESH", 0.0)
    monkeypatch.setattr(wiring, "note_drift", lambda _: None)  # it writes from a thread of its own
    with serving(answers({"error": {"code": "internal_error", "message": "sorry"}}, 503)) as server:
        settings.KALSHI_REST_URL = server.url
        settings.KALSHI_READ_KEY_ID, settings.KALSHI_READ_KEY_FILE = "reads", key
        settings.KALSHI_TRADE_KEY_ID, settings.KALSHI_TRADE_KEY_FILE = "trades", key
        for shared in (wiring.budget, wiring.link):
            shared.cache_clear()
        yield server
        wiring.budget().close()
        for shared in (wiring.budget, wiring.link):
            shared.cache_clear()


def failures() -> dict[str, int]:
    return {each.name: each.failures for each in breakers.states() if each.failures}


@pytest.fixture
def router(exchange: ScriptedExchange) -> Iterator[Router]:
    """Execution's, which has warmed its connections."""
    made = wiring.execution(threading.Event(), on_ready=lambda: None).router
    yield made
    made.orders.close()


def trip(name: str) -> None:
    for _ in range(BREAKERS[name].rules.opens_after):
        Breaker(name).failed("no answer")


def test_a_breaker_that_nobody_calls_says_that_it_stops_nothing_yet() -> None:
    assert {name for name, kind in BREAKERS.items() if kind.stops == IDLE} == BREAKERS.keys() - wired()


def test_page_and_rest_say_so_too() -> None:
    trip("notifier")
    told = {each["name"]: each["stops"] for each in Caller.of("viewer").get("/breakers").json()["breakers"]}
    assert told["notifier"] == IDLE
    client = Client()
    client.force_login(member("viewer1", "viewer"))
    assert IDLE in client.get("/health").content.decode()


def test_the_reads_of_the_loops_are_counted_and_wait(exchange: ScriptedExchange) -> None:
    trip("exchange_read")
    loops = wiring.reconciler(wiring.loop_link())
    for ask in (loops.market_data.trading_hours, loops.account.balance, loops.account.positions):
        with pytest.raises(SwitchedOff):
            ask()
    assert not exchange.requests


def test_executions_own_reads_are_counted_and_do_not_wait(exchange: ScriptedExchange) -> None:
    trip("exchange_read")
    before = failures()["exchange_read"]
    quick = wiring.quick_reconciler()
    with closing(quick.account) as account, closing(quick.market_data) as public:
        for ask in (account.balance, public.user_data_as_of):
            with pytest.raises(ExchangeError):
                ask()
    assert len(exchange.requests) == 2
    assert failures() == {"exchange_read": before + 2}


def test_what_execution_writes_is_counted_by_what_it_is_and_not_held_back(
    router: Router, exchange: ScriptedExchange
) -> None:
    trip("exchange_cancel")
    trip("exchange_write")
    before = failures()
    body = create_body(
        ticker="SIMX-1",
        client_order_id="kp-1",
        book_side=BookSide.BID,
        quantity=Decimal(10),
        yes_price=Decimal("0.42"),
        time_in_force=TimeInForce.GTC,
    )
    router.orders.cancel("o-1", market_ticker="SIMX-1")
    router.orders.send_create(body, int(time.time() * 1000))
    assert {request.method for request in exchange.requests} == {"DELETE", "POST"}
    assert failures() == {name: failed + 1 for name, failed in before.items()}


def test_execution_asks_the_breaker_of_order_writes_before_it_claims(router: Router) -> None:
    assert router.breaker.allows()
    trip("exchange_write")
    assert not router.breaker.allows()


def test_the_worker_gets_its_model_and_its_reads_behind_breakers(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_parts", [])
    wiring.assemble_worker()
    (parts,) = tasks._parts
    assert isinstance(parts.analyst, Guarded)
    assert parts.reconciler is not None
    assert parts.analyst.breaker.allows()
    trip("model")
    assert not parts.analyst.breaker.allows()
    trip("exchange_read")
    for ask in (parts.public.trades, parts.reconciler.account.balance):
        with pytest.raises(SwitchedOff):
            ask()
    assert not exchange.requests
