"""Doing what execution should do when it is dead or frozen: cancel, and sell out when a person asked for that.

Whoever stops takes its lease over (`manage.py trade halt`): the fence then keeps a frozen one from sending anything.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from kalshi_site import locks
from kalshi_site.models import Lease
from portfolio import risk
from trading.exchange.errors import ExchangeError
from trading.exchange.gateway import AccountGateway
from trading.execution import liquidation
from trading.execution.comparison import Reconciled
from trading.execution.halting import clear
from trading.execution.last_resort import LastResort
from trading.execution.process import LEASE, LEASE_TTL
from trading.execution.reconcile import Reconciler
from trading.execution.router import Router

log = logging.getLogger(__name__)

HEARTBEAT_LATE: Final = timedelta(seconds=5)
LOOK_EVERY: Final = 0.2  # seconds


def is_execution_alive() -> bool:
    """Whether an execution process renewed its lease within the last five seconds."""
    silent = locks.silent(LEASE_TTL, unheard_for=HEARTBEAT_LATE)
    return Lease.objects.filter(name=LEASE).exclude(silent).exists()


def execution_heard_at() -> datetime | None:
    """When execution last renewed its lease, or gave it back; None before the first time, or if its clock was wrong."""
    lease = Lease.objects.filter(name=LEASE).first()
    if lease is None or lease.expires_at > locks.furthest_end(LEASE_TTL):
        return None
    return lease.expires_at - LEASE_TTL if lease.holder else lease.expires_at


def bring_to_rest(
    venue: str,
    open_parts: Callable[[], tuple[Router, AccountGateway]],
    *,
    within: float,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until every stop is at rest; do it ourselves as soon as execution does not live. False after `within` s.

    `open_parts` makes a router and an account with the trading key; called once, when they are needed.
    """
    deadline, opened = time.monotonic() + within, functools.cache(open_parts)
    while risk.uncleared(venue):
        if time.monotonic() > deadline:
            return False
        if is_execution_alive():
            pause(0.1)
            continue
        try:
            _do_it_ourselves(opened, deadline, pause)
        except (
            locks.Busy,
            locks.Outrun,
        ) as error:  # somebody has the lease: execution again, or another stop
            log.warning("halt.lease.taken", extra={"error": str(error)})
            pause(0.1)
    return True


def sell_out(
    venue: str, open_parts: Callable[[], tuple[Router, Reconciler]], *, pause: Callable[[float], None]
) -> None:
    """One look at a liquidation: wait a moment while execution lives, else take its lease and do one round of it.

    The round is execution's own: cancel, compare with the exchange, put the exits, send them, book what filled.
    Raises ExchangeError while the exchange is out of reach, Busy when somebody else took the lease.
    """
    if is_execution_alive():
        pause(LOOK_EVERY)
        return
    router, reconciler = open_parts()
    with locks.take_over(LEASE, ttl=LEASE_TTL, unheard_for=HEARTBEAT_LATE) as held:
        router.call_off()
        _compare(reconciler)
        clear(router, reconciler.account)
        if liquidation.step(venue, held.renewed(LEASE_TTL), reconciler.market_data):
            router.round(held.renewed(LEASE_TTL))
            _compare(reconciler)
    pause(LOOK_EVERY)


def _compare(reconciler: Reconciler) -> None:
    found = Reconciled()
    opened_at = reconciler.open_account()
    reconciler.orders(found)
    reconciler.fills(found, opened_at)


def _do_it_ourselves(
    open_parts: Callable[[], tuple[Router, AccountGateway]], deadline: float, pause: Callable[[float], None]
) -> None:
    router, account = open_parts()
    resort = LastResort(router.venue, router.orders)
    with locks.take_over(LEASE, ttl=LEASE_TTL, unheard_for=HEARTBEAT_LATE) as taken:
        held = taken
        while time.monotonic() < deadline:
            held = held.renewed(LEASE_TTL)
            router.call_off()
            try:
                look = clear(router, account)
                if look.at_rest:
                    return
                resort.saw(look.left)
            except ExchangeError as error:
                resort.saw_nothing()
                log.warning("halt.unproven", extra={"error": str(error)})
            pause(0.2)
