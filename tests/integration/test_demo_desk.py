"""The whole desk in the profile demo, against a second paper exchange that plays Kalshi's demo over TLS."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import urllib3

from tests.authorities import Authority
from tests.exchanges import ROOT, PaperExchange, paper_exchange
from trading.domain.hours import weekly_window

pytestmark = pytest.mark.slow
Found = TypeVar("Found")
PASSED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "VIRTUAL_ENV")
MAKE_APPROVER = (
    "from kalshi_site.identity import ensure_roles; from kalshi_site.models import User;"
    "from django.contrib.auth.models import Group; ensure_roles();"
    "user = User.objects.create_user('someone', password='correct horse battery');"
    "user.groups.add(Group.objects.get(name='approver'))"
)


@dataclass
class DemoDesk:
    """A running desk: its state directory, its environment, its exchange."""

    var: Path
    environment: dict[str, str]
    exchange: PaperExchange
    authority: Authority

    def pull(self, lever: dict[str, object]) -> None:
        """One of the exchange's own levers."""
        origin = self.exchange.rest_url.removesuffix("/trade-api/v2")
        with urllib3.PoolManager(ca_certs=str(self.authority.file)) as pool:
            answer = pool.request("POST", f"{origin}/__control", json=lever, retries=False, timeout=5.0)
        assert answer.status < 300, answer.data

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def one(self, query: str) -> Any:
        """The first column of the first row of the desk's own database, or None."""
        with sqlite3.connect(f"file:{self.var / 'db.sqlite3'}?mode=ro", uri=True) as database:
            row = database.execute(query).fetchone()
        return None if row is None else row[0]

    @property
    def url(self) -> str:
        return str(json.loads((self.var / "run" / "state.json").read_text(encoding="utf-8"))["url"])

    def tradez(self) -> dict[str, str]:
        answer = urllib3.request("GET", f"{self.url}/tradez", retries=False, timeout=10.0)
        checks: dict[str, str] = answer.json()["checks"]
        return checks


def until(look: Callable[[], Found | None], what: str, within: float = 120.0) -> Found:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"no sight of {what} in {within:.0f} s")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DemoDesk]:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue()
    doors = ("--identity", "demo", "--tls-cert", str(cert), "--tls-key", str(key))
    var = tmp_path / "var"
    with paper_exchange(tmp_path / "demo", "--simulate", "--faults", *doors) as exchange:
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= {"VAR_DIR": str(var), "KALSHI_ENV_FILE": "", **exchange.environment()}
        environment |= {"KALSHI_CA_FILE": str(authority.file), "KALSHI_PROFILE": "demo"}
        running = DemoDesk(var, environment, exchange, authority)
        try:
            started = running.manage("up", "--mode", "demo", "--detach", "--port", "8460")
            assert started.returncode == 0, started.stdout + started.stderr
            yield running
        finally:
            running.manage("stop")


@pytest.fixture
def open_hours() -> None:
    """As long as the test may take nothing keeps our orders in."""
    now = datetime.now(UTC)
    if any(weekly_window(at).holds(at) for at in (now, now + timedelta(minutes=30))):
        pytest.skip("Kalshi's weekly maintenance: nothing goes out")


@pytest.mark.usefixtures("open_hours")
def test_a_proposal_that_is_approved_in_the_demo_fills_there(desk: DemoDesk) -> None:
    looked = desk.manage("doctor", "--exchange", "--json")
    assert looked.returncode == 0, looked.stdout
    assert {finding["verdict"] for finding in json.loads(looked.stdout)} == {"ok"}
    made = desk.manage("shell", "-c", MAKE_APPROVER)
    assert made.returncode == 0, made.stderr

    def approve_one() -> str | None:
        pending = desk.one(
            "select public_id || ' ' || version || ' ' || terms_hash from approvals_proposal where state = 'pending'"
        )
        if pending:
            name, seen, terms = pending.split()
            desk.manage("proposals", "approve", name, "--seen", seen, "--terms", terms, "--as", "someone")
        return desk.one("select public_id from trading_order where state in ('filled', 'partially_filled')")

    until(approve_one, "a fill", within=600)
    assert desk.one("select count(*) from trading_fill where venue = 'demo'") >= 1
    assert desk.one("select count(*) from trading_order where venue != 'demo'") == 0
    assert desk.tradez()["exchange"] == "ok"
    assert b"DEMO" in urllib.request.urlopen(f"{desk.url}/accounts/login/", timeout=10).read()
    _pause(desk)


def _pause(desk: DemoDesk) -> None:
    """The same desk sees the exchange pause, and trade again."""
    desk.pull({"act": "pause", "what": "trading", "active": False})
    told = until(lambda: (said := desk.tradez()["exchange"]) != "ok" and said, "the pause", 90)
    assert told.startswith("E607 the exchange has paused trading")
    desk.pull({"act": "pause", "what": "trading", "active": True})
    until(lambda: desk.tradez()["exchange"] == "ok", "the end of the pause", 90)
