"""Our own throttle on orders that open something: beyond it trading is paused, and a person lets it go on."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, QuerySet
from django.utils import timezone

from kalshi_site.prepared import prepared
from portfolio import risk
from portfolio.models import TradingState
from trading.models import Order

log = logging.getLogger(__name__)

CODE: Final = "E316"
WINDOW: Final = timedelta(minutes=1)


def too_many(state: TradingState, limit: int | None) -> str:
    """Why no further order may go out, after trading was paused for it; "" below the limit.

    Call with the state's row locked. Orders from before the last change of the state do not count: whoever resumed has
    seen them.
    """
    since = max(timezone.now() - WINDOW, state.changed_at)
    if limit is None or orders_since(state.venue, since) < limit:
        return ""
    reason = f"{CODE} {limit} orders in a minute: a strategy may run away"
    log.error("execution.throttle.tripped", extra={"limit": limit})
    risk.reduce(venue=state.venue, actor="execution", reason=reason)
    return reason


def orders_since(venue: str, at: datetime) -> int:
    """How many orders that open something were claimed since then."""
    return _opened_since.first(venue, at) or 0


@prepared
def _opened_since(venue: str, at: datetime) -> QuerySet[Order, int]:
    rows = Order.objects.filter(venue=venue, proposal__isnull=False, reduce_only=False, created_at__gt=at)
    return rows.order_by().values("venue").annotate(count=Count("pk")).values_list("count", flat=True)
