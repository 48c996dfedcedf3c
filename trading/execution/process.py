"""The execution process's main loop: hold the lease, look every second or when nudged, watch our own orders' stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import close_old_connections, connection

from kalshi_site import guards, locks
from portfolio import risk
from trading.exchange.errors import ExchangeError
from trading.execution import differences, halting, liquidation
from trading.execution.barrier import Sight, lasting, objections
from trading.execution.comparison import Reconciled
from trading.execution.decreases import Decreases
from trading.execution.last_resort import LastResort
from trading.execution.own_stream import OwnStream
from trading.execution.reconcile import Reconciler, mark_overdue
from trading.execution.renewal import Between, Renewal
from trading.execution.router import Router
from trading.execution.wake import nudges
from trading.models import Order

log = logging.getLogger(__name__)

LEASE = "execution"
LEASE_TTL = timedelta(seconds=10)
SCAN_EVERY = 1.0  # seconds
CLEARING_LOOKS = 8
BARRIER_LOOKS = 3
BARRIER_PAUSE = 1.0  # seconds between them
PULSE_EVERY = 0.2  # seconds
URGENT_SHARE = (
    0.4  # of the lease's time: so old a renewal is made before approved orders are looked at, else after
)
RENEWED_SHARE = 0.05  # of the lease's time: as often it is renewed, not at each look, for that is a commit
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
    _resort: LastResort | None = None

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
        pulse = Pulse(self.router, held, self.lease_ttl)
        self.barrier(pulse.beat)  # it may take longer than the lease
        self.news.start()  # not before the account is open: its first balance holds all earlier fills
        self.on_ready()
        for _ in nudges(SCAN_EVERY, self.stop):
            while self._look(pulse) and not self.stop.is_set():
                pass  # where much waits there is more

    def _look(self, pulse: Pulse) -> int:
        """One look at the database and what goes with it. Returns how many orders were sent."""
        self._sell_out(pulse.renewed(URGENT_SHARE))
        sent = self.router.round(pulse.renewed(URGENT_SHARE))
        pulse.renewed()
        self._bring_stops_to_rest(pulse.beat)
        if self.router.nets is not None:
            self.router.nets.look()
        self._decreases.look(pulse.beat)
        self._renewal.look(pulse.beat)
        self._ask_about_open_orders(pulse.beat)
        # An old connection is exchanged here, when nothing waits, and not when an order does.
        close_old_connections()
        connection.ensure_connection()
        close_old_connections()  # closes nothing new, but lets the next look ask first whether it still lives
        return sent

    @property
    def _renewal(self) -> Renewal:
        router = self.router
        return Renewal(
            router.venue, router.orders, self.reconciler.account, router.clock, router.rules.order_life
        )

    @property
    def _decreases(self) -> Decreases:
        router = self.router
        return Decreases(
            router.venue, router.orders, self.reconciler.account, router.clock, router.rules.order_life
        )

    def barrier(self, between: Callable[[], object] | None = None) -> None:
        """One whole comparison with the exchange before anything is claimed; what differs at two looks pauses trading.

        `between` is called between two words with the exchange; without one only cancels go on there.
        Raises GuardsMissing, and ExchangeError while the exchange is out of reach: nothing is claimed then.
        """
        between = between or self.router.call_off
        guards.require(connection)
        risk.accept_build(venue=self.router.venue, build=self.router.build, actor="execution", is_first=True)
        mark_overdue(self.router.venue)
        opened_at = self.reconciler.open_account()
        before = None
        for look in range(BARRIER_LOOKS):
            if look:  # reads lag writes: what was booked a moment ago may be listed in a moment
                self.stop.wait(BARRIER_PAUSE)
            seen = objections(self.router.venue, self._compared(opened_at, between))
            if not seen:
                return
            remaining, before = lasting(seen, before), seen
        if remaining:
            self._pause_for(remaining)

    def _compared(self, opened_at: datetime, between: Callable[[], object]) -> Reconciled:
        """One look at everything."""
        venue, account, found = self.router.venue, self.reconciler.account, Reconciled()
        between()
        self.reconciler.orders(found, between=between)
        between()
        self.reconciler.fills(found, opened_at)
        between()
        self.reconciler.settlements(found, opened_at)
        between()
        differences.of_positions(venue, account.positions(), found)
        between()
        differences.of_cash(venue, account.balance(), found)
        return found

    def _pause_for(self, remaining: Mapping[Sight, str]) -> None:
        """Only exits pass until a person has compared: the desk is not dead, and cancels and exits go on."""
        words = sorted(remaining.values())
        log.error("execution.barrier.differs", extra={"differences": words})
        reason = f"at the start the exchange differs: {'; '.join(words[:3])}"
        risk.reduce(venue=self.router.venue, actor="execution", reason=reason[:300])

    def _sell_out(self, held: locks.Held) -> None:
        """One look at the liquidation that a person asked for. Its faults keep neither cancels nor claims waiting."""
        try:
            liquidation.step(self.router.venue, held, self.reconciler.market_data)
        except locks.Outrun:
            raise
        except Exception:
            log.exception("execution.liquidation.broke")

    def _bring_stops_to_rest(self, between: Callable[[], object]) -> None:
        """A few looks in a row: what was just canceled may still be listed for a moment. Cancels go on between them."""
        resort = self._resort or LastResort(self.router.venue, self.router.orders)
        self._resort = resort
        for look in range(CLEARING_LOOKS):
            if look:
                between()
            try:
                seen = halting.clear(self.router, self.reconciler.account)
            except ExchangeError as error:
                log.warning("execution.clear.failed", extra={"error": str(error)})
                resort.saw_nothing()
                return
            if seen.at_rest:
                return
            resort.saw(seen.left)
            self.stop.wait(0.1)

    def _ask_about_open_orders(self, between: Between) -> None:
        if time.monotonic() - self._asked_at < ASK_EVERY:
            return
        self._asked_at = time.monotonic()
        if not Order.objects.open().filter(venue=self.router.venue).exists():
            return
        try:
            self.reconciler.orders(Reconciled(), between=between)
        except ExchangeError as error:  # cancels and claims go on; the next question comes in five seconds
            log.warning("execution.ask.failed", extra={"error": str(error)})


@dataclass(slots=True)
class Pulse:
    """What must not wait while there is much to ask: our lease, and cancels."""

    router: Router
    held: locks.Held
    ttl: timedelta
    _beaten_at: float = float("-inf")
    _renewed_at: float = float("-inf")

    def beat(self) -> locks.Held:
        """Between two words with the exchange: look at the cancels, unless that was done a moment ago."""
        if time.monotonic() - self._beaten_at >= PULSE_EVERY:
            self.renewed()
            self.router.call_off()
            self._beaten_at = time.monotonic()
        return self.held

    def renewed(self, share: float = RENEWED_SHARE) -> locks.Held:
        """The lease, renewed unless that was done within this share of its time; each claim asks if it still stands.

        Raises Outrun when it is gone.
        """
        if time.monotonic() - self._renewed_at >= self.ttl.total_seconds() * share:
            self._renewed_at = time.monotonic()
            self.held = self.held.renewed(self.ttl)
        return self.held
