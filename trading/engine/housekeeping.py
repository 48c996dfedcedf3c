"""What is old enough to forget: announcements, rounds, answered keys, ended sessions. Never a trading fact."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.sessions.models import Session

from kalshi_site import idempotency
from kalshi_site.models import ChangeLog
from trading.models import Cycle

CHANGES_KEPT = timedelta(hours=24)  # RELIABILITY.md 3.3: pages that were away for longer take a snapshot
CYCLES_KEPT = timedelta(days=7)


def forget(now: datetime) -> dict[str, int]:
    """Delete what is past its time; returns how many rows of each kind went."""
    return {
        "keys": idempotency.forget_old(now),
        "changes": ChangeLog.objects.filter(at__lt=now - CHANGES_KEPT).delete()[0],
        "cycles": Cycle.objects.filter(started_at__lt=now - CYCLES_KEPT).delete()[0],
        "sessions": Session.objects.filter(expire_date__lt=now).delete()[0],
    }
