"""A feed that stands by is a process like any other: seen while it beats, and gone when it is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from django.conf import settings

from kalshi_site import fenced, locks
from kalshi_site.models import ProcessBeat
from tests.exchanges import ROOT, database_url
from trading.market_data.feed import LEASE, LEASE_TTL

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def until(look: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_feed_that_is_ended_while_it_stands_by_leaves_no_heartbeat_behind() -> None:
    """Naive: the signal ends it at once, and Health tells of a feed that fell silent."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(settings.VAR_DIR),
        "REDIS_URL": "unix:///nowhere/redis.sock",
        "REDIS_CACHE_URL": "unix:///nowhere/redis.sock",
        "KALSHI_PROCESS": "feed",
    }
    ours = ProcessBeat.objects.filter(name="feed")
    with locks.lease(LEASE, ttl=LEASE_TTL) as held, fenced.kept(held, LEASE_TTL):
        process = subprocess.Popen([sys.executable, "manage.py", "feed"], cwd=ROOT, env=environment)
        try:
            until(ours.exists)
            time.sleep(0.5)  # it looks for the lease by now
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait(10)
    assert not ours.exists()
