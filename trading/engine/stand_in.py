"""The update loop without Celery: with Redis or the workers dead no task comes, and the comparison must go on.

The feed looks in every few seconds, for it has the key to read and a thread beside its books. While tasks come it does
nothing. What it does is what the task would have done: the same slot, the same lease, the same fence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Max
from django.utils import timezone

from approvals import proposals
from trading.engine.update_cycle import LOOP, update_cycle
from trading.exchange.errors import ExchangeError
from trading.execution.reconcile import Reconciler
from trading.models import Cycle

log = logging.getLogger(__name__)

MISSED: Final = timedelta(seconds=15)  # three rounds


@dataclass(slots=True)
class StandIn:
    """`look` compares and expires when nobody has for `missed`. Not thread-safe."""

    reconciler: Reconciler
    missed: timedelta = MISSED
    _since: datetime = field(default_factory=timezone.now)

    def look(self) -> bool:
        """True when it had to. An exchange out of reach is asked again at the next look."""
        newest = Cycle.objects.filter(loop=LOOP).aggregate(at=Max("started_at"))["at"]
        now = timezone.now()
        if now - max(newest or self._since, self._since) < self.missed:
            return False
        log.warning("update_cycle.stood_in", extra={"last": str(newest)})
        proposals.expire_due(now=now)
        try:
            update_cycle(reconciler=self.reconciler)
        except ExchangeError as error:
            log.warning("update_cycle.stand_in.failed", extra={"error": str(error)})
        return True
