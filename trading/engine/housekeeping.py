"""What is old enough to forget: announcements, rounds, answered keys, ended sessions. Never a trading fact."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.sessions.models import Session

from kalshi_site import fenced, heartbeat, idempotency
from kalshi_site.live import changes
from trading.market_data import charts
from trading.models import Cycle

CYCLES_KEPT = timedelta(days=7)


LOOP = "housekeeping"
TTL = timedelta(seconds=15)


def keep_house(now: datetime, *, ttl: timedelta = TTL) -> dict[str, int]:
    """Both of the below, by one process at a time and under its fence. Raises Busy, Outrun."""
    with fenced.work(LOOP, ttl=ttl, needs_redis=False):
        return {**look_after_charts(now), **forget(now)}


def look_after_charts(now: datetime) -> dict[str, int]:
    """Fold minutes into hours and days, and delete candles past their time."""
    return {"rolled up": charts.roll_up(now), "pruned": charts.prune(now)}


def forget(now: datetime) -> dict[str, int]:
    """Delete what is past its time; returns how many rows of each kind went."""
    return {
        "keys": idempotency.forget_old(now),
        "beats": heartbeat.forget(now),
        "changes": changes.cut(),
        "cycles": Cycle.objects.filter(started_at__lt=now - CYCLES_KEPT).delete()[0],
        "sessions": Session.objects.filter(expire_date__lt=now).delete()[0],
    }
