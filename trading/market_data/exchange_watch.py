"""Asks the exchange whether it trades, and keeps its answer as a row for rules and pages."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from kalshi_site import audit, live
from kalshi_site.versioning import compare_and_set
from trading.domain.hours import words
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import MarketDataGateway
from trading.exchange.reports import ExchangeState as Told
from trading.exchange.reports import Maintenance
from trading.models import ExchangeState

log = logging.getLogger(__name__)

SCHEDULE_EVERY: Final = 600.0  # seconds; announced days ahead


@dataclass(slots=True)
class ExchangeWatch:
    """One look is one question, and every ten minutes a second one for the schedule. Not thread-safe.

    `weekly` says whether this exchange keeps Kalshi's weekly maintenance, which its schedule need not list.
    """

    venue: str
    exchange: MarketDataGateway
    weekly: bool
    _maintenance: tuple[Maintenance, ...] = ()
    _asked_at: float = field(default=float("-inf"))

    def look(self) -> None:
        """Ask and write. An exchange out of reach leaves the row as it is: it grows old, and old means unknown."""
        try:
            told = self.exchange.exchange_state()
        except ExchangeError as error:
            log.warning("exchange.state.unread", extra={"error": repr(error)})
            return
        self._read_schedule()
        write_state(venue=self.venue, told=told, maintenance=self._maintenance, weekly=self.weekly)

    def _read_schedule(self) -> None:
        if time.monotonic() - self._asked_at < SCHEDULE_EVERY:
            return
        try:
            self._maintenance = self.exchange.trading_hours().maintenance
            self._asked_at = time.monotonic()
        except ExchangeError as error:
            log.warning("exchange.schedule.unread", extra={"error": repr(error)})


@transaction.atomic
def write_state(
    *, venue: str, told: Told, maintenance: tuple[Maintenance, ...] = (), weekly: bool
) -> ExchangeState:
    """Keep what was told. What differs from before is audited and announced to the pages."""
    now = timezone.now()
    said: dict[str, Any] = {
        "is_active": told.is_active,
        "is_trading": told.is_trading,
        "resumes_at": told.resumes_at,
        "shards": [[shard.exchange_index, shard.is_active, shard.is_trading] for shard in told.shards],
        "maintenance": [
            [window.start_at.isoformat(), window.end_at.isoformat()]
            for window in maintenance
            if window.end_at > now
        ],
        "weekly": weekly,
    }
    row = ExchangeState.objects.select_for_update().filter(venue=venue).first()
    if row is None:
        row = ExchangeState.objects.create(venue=venue, as_of=now, **said)
        return _tell(row, "")
    if all(getattr(row, name) == value for name, value in said.items()):
        ExchangeState.objects.filter(pk=row.pk).update(as_of=now)
        row.as_of = now
        return row
    before = words(row.facts, row.as_of)
    return _tell(compare_and_set(row, as_of=now, **said), before)


def _tell(row: ExchangeState, before: str) -> ExchangeState:
    after = words(row.facts, row.as_of)
    if before and after != before:
        audit.record(
            actor="feed",
            actor_kind="system",
            verb="exchange.state",
            object_type="exchange",
            object_id=row.venue,
            reason=f"{after[0].upper()}{after[1:]}.",
            before=before,
        )
    live.changed("trading", key=f"{row.venue} exchange", version=row.version, kind="exchange")
    return row
