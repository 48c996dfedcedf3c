"""One comparison with the exchange, under the update lease; it goes on under the database lease when Redis is dead."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from kalshi_site import locks
from portfolio import ledger
from trading.execution.reconcile import Reconciled, Reconciler
from trading.models import Cycle
from trading.models.cycle import UPDATE, slot_of

log = logging.getLogger(__name__)

LOOP = UPDATE
TTL = timedelta(seconds=60)
INTERVAL = timedelta(seconds=5)


def update_cycle(*, reconciler: Reconciler, interval: timedelta = INTERVAL) -> Reconciled | None:
    """Run this time slot's comparison, once. None when the slot is taken or the loop is held elsewhere.

    Raises ExchangeError when the exchange cannot be read: what was booked before that stands.
    """
    now = timezone.now()
    try:
        with locks.hold(LOOP, ttl=TTL, needs_redis=False) as held:
            cycle, is_ours = Cycle.objects.get_or_create(
                loop=LOOP, slot=slot_of(now, interval), defaults={"fence": held.fence, "started_at": now}
            )
            if is_ours:
                return _compare(reconciler, cycle)
            reason = "this slot has been looked at"
    except locks.Busy as error:
        reason = str(error)
    log.info("update_cycle.skipped", extra={"reason": reason})
    return None


def _compare(reconciler: Reconciler, cycle: Cycle) -> Reconciled:
    outcome = "failed"
    detail: dict[str, Any] = {"venue": reconciler.venue}
    try:
        found = reconciler.run()
        outcome = "odd" if found.odd else "clean" if found.is_clean else "drift"
        detail |= {"drift": str(found.drift), "positions": found.position_drift, "fills": found.fills}
        detail |= {"odd": found.odd}
        ledger.record_equity(venue=reconciler.venue, at=timezone.now())
        return found
    finally:
        Cycle.objects.filter(pk=cycle.pk).update(finished_at=timezone.now(), outcome=outcome, detail=detail)


def standing_drift() -> Decimal | None:
    """The cash difference that two comparisons in a row have seen, in dollars; None while it is clean or only lag."""
    last = list(Cycle.objects.filter(loop=LOOP, finished_at__isnull=False).order_by("-slot")[:2])
    drifts = [Decimal(cycle.detail.get("drift", "0")) for cycle in last]
    return drifts[0] if len(drifts) == 2 and drifts[0] == drifts[1] != 0 else None
