"""Celery's way in. A task carries no order and no truth: it says "look now", and the database says at what."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from kalshi_site import locks
from trading.agent.schemas import Analyst
from trading.engine.decision_cycle import PublicTrades, decision_cycle
from trading.engine.housekeeping import keep_house
from trading.engine.ideas import Appetite
from trading.engine.update_cycle import update_cycle
from trading.execution.reconcile import Reconciler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loops work with; chosen in kalshi_site.wiring and handed in at start."""

    analyst: Analyst
    public: PublicTrades
    reconciler: Reconciler | None  # None where the process was given no key


_parts: list[Parts] = []


def use(parts: Parts) -> None:
    """Hand in the parts, once per process, before the first task."""
    _parts[:] = [parts]


@shared_task(name="trading.tasks.decision_cycle")
def look_for_trades() -> None:
    parts = _parts[0]
    decision_cycle(
        venue=settings.KALSHI_PROFILE,
        analyst=parts.analyst,
        public=parts.public,
        appetite=Appetite(time_to_decide=settings.PROPOSAL_TTL),
    )


@shared_task(name="trading.tasks.update_cycle")
def compare_with_exchange() -> None:
    reconciler = _parts[0].reconciler
    if reconciler is None:
        raise RuntimeError("this worker was given no read key; the queue `update` needs one")
    update_cycle(reconciler=reconciler)


@shared_task(name="trading.tasks.housekeeping")
def housekeeping() -> None:
    try:
        keep_house(timezone.now())
    except (locks.Busy, locks.Outrun) as error:
        log.info("housekeeping.skipped", extra={"reason": str(error)})
