"""The execution process's main loop: hold the lease, look every second or when nudged, watch our own orders' stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import close_old_connections

from kalshi_site import locks
from trading.exchange.errors import ExchangeError
from trading.execution.own_stream import OwnStream
from trading.execution.reconcile import Reconciled, Reconciler, mark_overdue
from trading.execution.router import Router
from trading.execution.wake import nudges
from trading.models import Order

log = logging.getLogger(__name__)

LEASE = "execution"
LEASE_TTL = timedelta(seconds=10)
SCAN_EVERY = 1.0  # seconds
ASK_EVERY = 5.0  # seconds between questions about orders that are not over


@dataclass(slots=True)
class Execution:
    """One account's execution. `on_ready` is called once the first comparison with the exchange has succeeded."""

    router: Router
    reconciler: Reconciler
    news: OwnStream
    stop: threading.Event
    on_ready: Callable[[], None]
    lease_ttl: timedelta = LEASE_TTL
    _asked_at: float = float("-inf")

    def run(self) -> None:
        """Work until `stop`. Start-up and recovery are one path: cancel, compare, then claim."""
        while not self.stop.is_set():
            try:
                close_old_connections()  # a connection that the database hung up is never used again
                with locks.lease(LEASE, ttl=self.lease_ttl) as held:
                    self._work(held)
            except locks.Busy:
                self.stop.wait(SCAN_EVERY)
            except locks.Outrun:
                log.error("execution.outrun")
            except Exception:  # the database or the exchange is out of reach: nothing is sent, try again
                log.exception("execution.round.broke")
                self.stop.wait(SCAN_EVERY)

    def _work(self, held: locks.Held) -> None:
        self.router.call_off()
        self.barrier()
        self.news.start()  # not before the account is open: its first balance holds all earlier fills
        self.on_ready()
        for _ in nudges(SCAN_EVERY, self.stop):
            close_old_connections()
            held = held.renewed(self.lease_ttl)
            self.router.round(held)
            self._ask_about_open_orders()

    def barrier(self) -> None:
        """One clean look at the exchange before anything is claimed. Raises ExchangeError while it is out of reach."""
        mark_overdue(self.router.venue)
        self.reconciler.open_account()
        self.reconciler.orders(Reconciled())

    def _ask_about_open_orders(self) -> None:
        if time.monotonic() - self._asked_at < ASK_EVERY:
            return
        self._asked_at = time.monotonic()
        if not Order.objects.open().filter(venue=self.router.venue).exists():
            return
        try:
            self.reconciler.orders(Reconciled())
        except ExchangeError as error:  # cancels and claims go on; the next question comes in five seconds
            log.warning("execution.ask.failed", extra={"error": str(error)})
