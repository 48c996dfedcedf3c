"""A real desk for the journeys: all processes, the paper exchange, a real browser. Nothing is faked but the market."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent.parent
HEARTBEAT = 5  # seconds: a change that a page lost without a successor is noticed by then
PORT = 8400 + 40 * int(
    os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
)  # two do not race for one
ARTIFACTS = ROOT / "var" / "test-artifacts"
_PASSED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "VIRTUAL_ENV")
PROPOSE = """
from datetime import timedelta
from decimal import Decimal
from django.utils import timezone
from approvals.domain.policy import Origin
from approvals.proposals import Draft, submit
from trading.domain.orders import Action, Side, Terms
from trading.models import Market
soon = timezone.now() + timedelta(minutes=10)
rows = Market.objects.open(timezone.now()).filter(close_at__gt=soon).select_related("quote").order_by("?")
for row in rows:
    price = row.quote.top.yes_ask
    if price is None or not Decimal("0.3") <= price <= Decimal("0.7"):
        continue
    terms = Terms(row.ticker, Action.BUY, Side.YES, Decimal(int({dollars} / price)), price)
    draft = Draft(
        venue="paper",
        terms=terms,
        origin=Origin.PERSON,
        proposer="journey",
        time_to_decide=timedelta(seconds={seconds}),
    )
    made = submit(draft)
    if made.risk_level == "{level}":
        print("id=" + made.public_id)
        break
"""


@dataclass(frozen=True)
class RunningDesk:
    """A desk that runs, and how to speak to it as somebody."""

    base_url: str
    passwords: dict[str, str]
    tokens: dict[str, str]
    var: Path

    def api(
        self, method: str, path: str, *, role: str, body: dict[str, Any] | None = None, **headers: str
    ) -> dict[str, Any]:
        """One call of `/api/v1` with the token of `role`; header names with `_` for `-`. Raises on 4xx and 5xx."""
        request = urllib.request.Request(
            f"{self.base_url}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.tokens[role]}",
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def manage(var: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with an environment of its own: nothing of the suite's."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**passed, "VAR_DIR": str(var), "KALSHI_ENV_FILE": "", **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def propose(desk: RunningDesk, dollars: int, level: str = "LOW", seconds: int = 120) -> str:
    """A person's proposal of about this cost and this risk on a market that is open now; returns its id."""
    script = PROPOSE.format(dollars=dollars, level=level, seconds=seconds)
    done = manage(desk.var, "shell", "-v", "0", "-c", script)
    found = re.search(r"id=(prop_\w+)", done.stdout)
    assert found, done.stdout + done.stderr
    return found[1]


def decline(desk: RunningDesk, proposal: str) -> None:
    """Somebody declines it, elsewhere than on the page under test."""
    shown = desk.api("GET", f"/proposals/{proposal}", role="approver")
    desk.api(
        "POST",
        f"/proposals/{proposal}/decline",
        role="approver",
        body={"reason": "not this one"},
        If_Match=f'"v{shown["version"]}"',
        Idempotency_Key=uuid.uuid4().hex,
    )


def sign_in(page: Page, desk: RunningDesk, role: str) -> None:
    """Through the sign-in page, as everybody."""
    page.goto(f"{desk.base_url}/accounts/login/")
    page.get_by_label("User name").fill(role)
    page.get_by_label("Password").fill(desk.passwords[role])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{desk.base_url}/")


def start_desk(var: Path, **settings: str) -> RunningDesk:
    """Start everything and wait until it is ready."""
    done = manage(var, "up", "--detach", "--port", str(PORT), **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((var / "demo-credentials.json").read_text(encoding="utf-8"))
    return RunningDesk(
        base_url=found["base_url"],
        passwords={user["role"]: user["password"] for user in found["users"]},
        tokens={user["role"]: user["api_token"] for user in found["users"]},
        var=var,
    )


def stop_desk(var: Path) -> None:
    """Stop it and keep its logs with the artefacts."""
    manage(var, "stop")
    shutil.copytree(var / "log", ARTIFACTS / "log" / f"{var.parent.name} {PORT}", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDesk]:
    """One desk for all journeys, in a path with a space. Proposals wait long enough for a slow machine."""
    var = tmp_path_factory.mktemp("a desk") / "var"
    try:
        yield start_desk(var, PROPOSAL_TTL_SECONDS="120", LIVE_HEARTBEAT_SECONDS=str(HEARTBEAT))
    finally:
        stop_desk(var)


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("E2E_CHROMIUM") or next(
        (path for name in names if (path := shutil.which(name))), None
    )


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """The machine's own Chromium; without its sandbox only where one is root."""
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium: sudo apt-get install chromium, or set E2E_CHROMIUM")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {**browser_type_launch_args, "executable_path": path, "args": options}


@pytest.fixture
def trading(desk: RunningDesk) -> None:
    """Every journey begins with trading on, whatever the one before did."""
    if desk.api("GET", "/trading/state", role="approver")["mode"] != "ACTIVE":
        done = manage(desk.var, "trade", "resume", "--reason", "the next journey")
        assert done.returncode == 0, done.stderr
