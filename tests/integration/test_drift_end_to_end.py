"""One change of the exchange, from its socket to a person: the feed hears it, trading reduces, a person ends it.

The paper exchange is a process that no longer sends a price; the feed is our real process. Redis is not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from django.conf import settings
from django.test import Client

from portfolio import risk
from tests.exchanges import ROOT, PaperExchange, database_url, paper_exchange
from tests.factories import member
from trading.models import DriftNote, Listener, Quote

# WhiteNoise warns while nothing was collected, and warnings are errors here.
Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with paper_exchange(tmp_path / "paper", "--simulate", "--faults") as running:
        yield running


@pytest.fixture
def feed(exchange: PaperExchange, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The feed process, when it has written its first quotes."""
    ready = tmp_path / "feed.ready"
    environment = {
        **os.environ,
        **exchange.environment(),
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
        "REDIS_URL": "unix:///nowhere/redis.sock",
        "REDIS_CACHE_URL": "unix:///nowhere/redis.sock",
        "KALSHI_READY_FILE": str(ready),
        "KALSHI_PROCESS": "feed",
    }
    process = subprocess.Popen([sys.executable, "manage.py", "feed"], cwd=ROOT, env=environment)
    try:
        until(ready.exists, "the first quotes")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def until(look: Any, what: str, within: float = 60.0) -> Any:
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"no sight of {what} in {within} s"
        time.sleep(0.05)
    return found


def forget_faults(exchange: PaperExchange) -> None:
    origin = exchange.rest_url.removesuffix("/trade-api/v2")
    assert urllib3.request("DELETE", f"{origin}/__faults", retries=False, timeout=5.0).status < 300


def mode() -> str:
    return str(risk.trading_state("paper").mode)


def test_a_price_that_is_no_longer_sent_reduces_trading_until_a_person_has_looked(
    exchange: PaperExchange, feed: subprocess.Popen[bytes]
) -> None:
    until(Listener.objects.filter(process="feed").exists, "the feed's count")
    assert (mode(), DriftNote.objects.count()) == ("ACTIVE", 0)
    risk_officer = Client(raise_request_exception=False)
    risk_officer.force_login(member("risk1", "risk"))
    assert "The exchange speaks as agreed" in risk_officer.get("/health").content.decode()

    exchange.faults(
        [
            {
                "kind": "frame_missing_field",
                "frame": "ticker",
                "field": "msg.yes_bid_dollars",
                "times": None,
            },
            {"kind": "frame_extra_field", "frame": "trade", "field": "msg.yes_bid_usd", "times": None},
        ]
    )
    until(lambda: mode() == "REDUCING", "the reduction")
    note = until(DriftNote.objects.filter(kind="missing_field").first, "the note")
    assert (note.place, note.field, note.is_money) == ("stream ticker", "msg.yes_bid_dollars", True)
    state = risk.trading_state("paper")
    assert (state.changed_by, state.reason[:4]) == ("drift sentinel", "E606")
    page = risk_officer.get("/health").content.decode()
    assert "<code>msg.yes_bid_dollars</code> is missing" in page
    assert "1 change at the exchange touches money" in page
    # The books come from another channel: what is shown is still real, and no price was made up.
    assert not Quote.objects.filter(trusted=True, yes_bid=0).exists()

    refused = risk_officer.post("/trading/resume", {"reason": "try", "version": state.version})
    assert (refused.status_code, mode()) == (409, "REDUCING")

    forget_faults(exchange)
    until(lambda: _is_quiet(note), "the end of it")
    note.refresh_from_db()
    given = {"note": f"{note.pk}:{note.version}", "reason": "the exchange has put it back"}
    assert risk_officer.post("/health/acknowledge", given, follow=True).status_code == 200
    version = risk.trading_state("paper").version
    risk_officer.post("/trading/resume", {"reason": "acknowledged", "version": version})
    assert mode() == "ACTIVE"


def _is_quiet(note: DriftNote) -> bool:
    """No further sighting within two rounds of the feed's writing."""
    before = DriftNote.objects.get(pk=note.pk).count
    time.sleep(2.5)
    return DriftNote.objects.get(pk=note.pk).count == before
