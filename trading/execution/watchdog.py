"""The watchdog: when execution falls silent while orders may rest, it trips their order groups at the exchange.

It is a process of its own, so that it lives when execution is dead or frozen. It needs the database to hear execution's
lease being renewed, and the trading key to trip. A database that does not answer is silence too: the groups that it
knew last are tripped, and written down once the database is back. Only a person resets what it tripped (ADR 0010).
A process that is frozen inside a write keeps SQLite from everybody: it is ended, once the exchange has been told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db import Error, close_old_connections

from kalshi_site.frozen_writer import end_frozen_writer
from kalshi_site.models import Lease
from trading.exchange.gateway import GroupGateway
from trading.exchange.outcomes import Done
from trading.execution.nets import trip
from trading.execution.process import LEASE
from trading.models import Order, OrderGroup

log = logging.getLogger(__name__)

SILENT_AFTER: Final = 10.0  # seconds
LOOK_EVERY: Final = 1.0
WATCHDOG: Final = "watchdog"

Heartbeat = tuple[str, datetime]


@dataclass(slots=True)
class Watchdog:
    """One venue's. `on_ready` is called after the first look."""

    venue: str
    groups: GroupGateway
    stop: threading.Event
    on_ready: Callable[[], None]
    silent_after: float = SILENT_AFTER
    look_every: float = LOOK_EVERY
    monotonic: Callable[[], float] = time.monotonic
    _heartbeat: Heartbeat | None = None
    _heard_at: float | None = None
    _known: list[OrderGroup] = field(default_factory=list)
    _may_rest: bool = True
    _ended: set[str] = field(default_factory=set)  # groups that the exchange has confirmed, in this silence

    def run(self) -> None:
        """Look every second until `stop`."""
        self.look()
        self.on_ready()
        while not self.stop.wait(self.look_every):
            self.look()

    def look(self) -> bool:
        """One look: listen for execution, and trip when it has been silent for too long. True while it is silent."""
        try:
            close_old_connections()
            self._listen()
        except Error as error:  # whether execution lives cannot be heard: that is silence
            log.warning("watchdog.deaf", extra={"error": repr(error)})
        now = self.monotonic()
        if self._heard_at is None:
            self._heard_at = now  # whoever was silent before us gets its time from our start
        if now - self._heard_at <= self.silent_after:
            return False
        self._bite(now - self._heard_at)
        self._make_way()
        return True

    def _make_way(self) -> None:
        """Execution, or whoever keeps it from its heartbeat, may be frozen with SQLite's write lock in its hand."""
        try:
            end_frozen_writer(WATCHDOG)
        except Error as error:  # it is ended; the note of it is not written
            log.warning("watchdog.note.failed", extra={"error": repr(error)})

    def _listen(self) -> None:
        """A heartbeat is a lease that was renewed: by its change, not by anybody's clock."""
        lease = Lease.objects.filter(name=LEASE).exclude(holder="").first()
        heartbeat = None if lease is None else (lease.holder, lease.expires_at)
        if heartbeat is not None and heartbeat != self._heartbeat:
            self._heartbeat, self._heard_at = heartbeat, self.monotonic()
            self._ended.clear()
        self._known = list(OrderGroup.objects.standing(self.venue))
        self._may_rest = Order.objects.open().filter(venue=self.venue, proposal__isnull=False).exists()

    def _bite(self, silence: float) -> None:
        """Trip every group, again at each look until the exchange confirms and the database knows."""
        if not self._may_rest and not self._ended:
            return
        for group in self._known:
            if group.venue_group_id not in self._ended and not self._end(group):
                continue
            self._note(group, silence)

    def _end(self, group: OrderGroup) -> bool:
        if group.tripped_at is not None:
            return False
        outcome = self.groups.trigger(group.venue_group_id, exchange_index=group.exchange_index)
        if not isinstance(outcome, Done):
            log.error("watchdog.trigger.failed", extra={"group": group.venue_group_id, "why": repr(outcome)})
            return False
        log.error("watchdog.tripped", extra={"group": group.venue_group_id})
        self._ended.add(group.venue_group_id)
        return True

    def _note(self, group: OrderGroup, silence: float) -> None:
        try:
            trip(group, actor=WATCHDOG, reason=f"execution was not heard for {silence:.0f} seconds")
        except Error as error:  # the exchange has done it: the row follows when the database is back
            log.warning("watchdog.note.failed", extra={"error": repr(error)})
