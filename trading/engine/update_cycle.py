"""One comparison with the exchange, under the update lease; it goes on under the database lease when Redis is dead."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from kalshi_site import fenced, locks
from portfolio import ledger
from trading.engine.invariants import Breach, broken
from trading.execution import restored
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.models import Cycle
from trading.models.cycle import UPDATE, slot_of

log = logging.getLogger(__name__)

LOOP = UPDATE
BY_HAND = "reconcile"
TTL = timedelta(seconds=15)
INTERVAL = timedelta(seconds=5)


def update_cycle(
    *, reconciler: Reconciler, interval: timedelta = INTERVAL, ttl: timedelta = TTL
) -> Reconciled | None:
    """Run this time slot's comparison, once. None when the slot is taken or the loop is held elsewhere.

    Everything it writes is under its fence: once somebody else has taken over, the rest of the work is dropped.
    Raises ExchangeError when the exchange cannot be read: what was booked before that stands.
    """
    now = timezone.now()
    try:
        with fenced.work(LOOP, ttl=ttl, needs_redis=False) as held:
            cycle, is_ours = Cycle.objects.get_or_create(
                loop=LOOP, slot=slot_of(now, interval), defaults={"fence": held.fence, "started_at": now}
            )
            if is_ours:
                with restored.watched(reconciler.venue):
                    return _compare(reconciler, cycle)
            reason = "this slot has been looked at"
    except (locks.Busy, locks.Outrun) as error:
        reason = str(error)
    log.info("update_cycle.skipped", extra={"reason": reason})
    return None


def compare_by_hand(reconciler: Reconciler) -> Reconciled:
    """One comparison now, beside the loop: each booking is guarded by itself, so both may look at the same time.

    Raises ExchangeError when the exchange cannot be read.
    """
    now = timezone.now()
    cycle = Cycle.objects.create(loop=BY_HAND, slot=int(now.timestamp() * 1_000_000), started_at=now)
    return _compare(reconciler, cycle)


def last_comparison(venue: str) -> Cycle | None:
    """The newest one that has ended, whoever asked for it."""
    ended = Cycle.objects.filter(finished_at__isnull=False, detail__venue=venue).order_by("-started_at")
    # One question for each, so that the index gives the newest without sorting a day of rounds.
    newest = [cycle for loop in (LOOP, BY_HAND) if (cycle := ended.filter(loop=loop).first())]
    return max(newest, key=lambda cycle: cycle.started_at, default=None)


def _compare(reconciler: Reconciler, cycle: Cycle) -> Reconciled:
    outcome = "failed"
    detail: dict[str, Any] = {"venue": reconciler.venue}
    try:
        found = reconciler.run()
        outcome = "odd" if found.odd else "clean" if found.is_clean else "drift"
        detail |= {"drift": str(found.drift), "positions": found.position_drift, "fills": found.fills}
        detail |= {"odd": found.odd, "areas": found.areas}
        ledger.record_equity(venue=reconciler.venue, at=timezone.now())
        return found
    finally:  # our own books can be judged while the exchange cannot be read
        detail |= {"broken": {breach.name: breach.count for breach in _checked(reconciler.venue)}}
        Cycle.objects.filter(pk=cycle.pk).update(finished_at=timezone.now(), outcome=outcome, detail=detail)


def _checked(venue: str) -> list[Breach]:
    """Ask every invariant; a breach is an error in the log each time it is seen."""
    breaches = broken(venue)
    for breach in breaches:
        log.error("invariant.broken", extra={"invariant": breach.name, "rows": breach.count})
    return breaches


def standing_drift() -> Decimal | None:
    """The cash difference that two comparisons in a row have seen, in dollars; None while it is clean or only lag."""
    last = list(Cycle.objects.filter(loop=LOOP, finished_at__isnull=False).order_by("-slot")[:2])
    drifts = [Decimal(cycle.detail.get("drift", "0")) for cycle in last]
    return drifts[0] if len(drifts) == 2 and drifts[0] == drifts[1] != 0 else None
