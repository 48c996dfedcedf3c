"""What machines are told: alive, ready, fit to trade, and who may read the metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from kalshi_site.models import Lease
from portfolio.models import TradingState
from tests.factories import QuoteFactory
from trading.market_data.clock_note import clock_fault, note_skew, noted_skew
from trading.models import Quote

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk_state(settings: Any, tmp_path: Path) -> Path:
    """Where the supervisor's state would be; nothing there yet."""
    settings.VAR_DIR = tmp_path
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "state.json"


def checks(client: Client, path: str) -> tuple[int, dict[str, str]]:
    answer = client.get(path)
    return answer.status_code, answer.json()["checks"]


def test_alive_is_answered_without_signing_in_and_without_redis(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_ready_when_database_and_both_redis_servers_answer(client: Client, redis_server: str) -> None:
    assert checks(client, "/readyz") == (200, {"database": "ok", "redis": "ok", "cache": "ok"})


def test_not_ready_without_redis_and_it_says_which(client: Client, redis_server: str, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    status, found = checks(client, "/readyz")
    assert status == 503
    assert (found["cache"], found["redis"]) == ("ok", "Redis does not answer (ConnectionError)")


def test_not_ready_while_a_migration_is_pending(
    client: Client, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "django.db.migrations.executor.MigrationExecutor.migration_plan", lambda *_: [("approvals", False)]
    )
    status, found = checks(client, "/readyz")
    assert (status, found["database"]) == (503, "E803 1 migrations are pending")


@pytest.fixture
def working(desk_state: Path) -> None:
    """An execution process with its lease, and a quote of this moment."""
    now = timezone.now()
    Lease.objects.create(name="execution", holder="h", fence=1, expires_at=now + timedelta(seconds=10))
    QuoteFactory(verified_at=now, as_of=now, trusted=True)


@pytest.mark.parametrize(("mode", "status"), [("ACTIVE", 200), ("REDUCING", 503), ("HALTED", 503)])
def test_fit_to_trade_only_while_trading_is_active(
    client: Client, redis_server: str, working: None, mode: str, status: int
) -> None:
    TradingState.objects.update_or_create(venue="paper", defaults={"mode": mode})
    assert client.get("/tradez").status_code == status
    assert client.get("/readyz").status_code == 200


@pytest.fixture
def forgotten_clock(redis_server: str) -> Iterator[None]:
    """What is noted of the clock in this test is forgotten after it."""
    yield
    note_skew(lambda: 0.0)


@pytest.mark.parametrize(("skew_ms", "status"), [(0, 200), (-900, 200), (1_400, 503), (-61_000, 503)])
def test_not_fit_to_trade_while_this_machines_clock_is_off(
    client: Client, forgotten_clock: None, working: None, skew_ms: int, status: int
) -> None:
    note_skew(lambda: skew_ms)
    got, found = checks(client, "/tradez")
    told = (
        "ok" if status == 200 else f"E611 this machine's clock is {skew_ms / 1000:+.1f} s off the exchange's"
    )
    assert (got, found["clock"]) == (status, told)


def test_a_skew_that_nobody_can_note_or_read_says_nothing(settings: Any) -> None:
    caches = {**settings.CACHES["default"], "LOCATION": "unix:///nowhere/redis.sock"}
    settings.CACHES = {"default": caches}
    note_skew(lambda: 61_000.0)
    assert (noted_skew(), clock_fault()) == (None, "")


def test_not_fit_to_trade_while_a_process_is_down(
    client: Client, redis_server: str, desk_state: Path
) -> None:
    processes = {"execution": {"state": "restarting"}, "feed": {"state": "ready"}}
    desk_state.write_text(json.dumps({"processes": processes}), encoding="utf-8")
    status, found = checks(client, "/tradez")
    assert (status, found["processes"]) == (503, "not ready: execution")


def test_not_fit_to_trade_without_an_execution_process_or_fresh_quotes(
    client: Client, redis_server: str, working: None
) -> None:
    past = timezone.now() - timedelta(minutes=2)
    Lease.objects.update(expires_at=past)
    Quote.objects.update(verified_at=past)
    status, found = checks(client, "/tradez")
    assert (status, found["execution"]) == (503, "no execution process holds the lease")
    assert found["quotes"].startswith("E312 the newest quote is 12")


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("192.0.2.7", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 403),
        ("192.0.2.7", {"Authorization": "Bearer scraper-token"}, 200),
        ("192.0.2.7", {"Authorization": "Bearer another"}, 403),
        ("192.0.2.7", {"Authorization": ""}, 403),
    ],
)
def test_metrics_are_for_loopback_or_the_bearer_of_the_token(
    client: Client, settings: Any, address: str, headers: dict[str, str], status: int
) -> None:
    settings.METRICS_TOKEN = "scraper-token"
    assert client.get("/metrics", headers=headers, REMOTE_ADDR=address).status_code == status


def test_without_a_token_set_no_bearer_is_let_in(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    answer = client.get("/metrics", headers={"Authorization": "Bearer "}, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 403


def test_every_answer_carries_a_request_id_and_a_fit_one_is_kept(client: Client) -> None:
    assert (
        client.get("/livez", headers={"Request-Id": "from-the-caller-1"})["Request-Id"] == "from-the-caller-1"
    )
    assert client.get("/livez", headers={"Request-Id": "<script>"})["Request-Id"] != "<script>"
    assert len(client.get("/livez")["Request-Id"]) == 26


def test_the_browser_is_told_to_run_nothing_but_ours(client: Client) -> None:
    policy = client.get("/accounts/login/")["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
