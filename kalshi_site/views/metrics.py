"""The desk's own metrics, read from the database when they are asked for: they survive every restart and need no bus.

Label values are states and loops, never tickers or people. Gauges under `kops_broken_` must be zero at all times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Max, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from approvals.domain.lifecycle import ProposalState
from approvals.models import Proposal
from kalshi_site.models import Lease
from kalshi_site.models.fields import CountField
from portfolio import ledger, risk
from portfolio.models import Position, Reservation, TradingState
from trading.domain.orders import OPEN, OrderState
from trading.engine.update_cycle import standing_drift
from trading.execution.process import LEASE
from trading.models import Cycle, Fill, Order, Quote

CLAIM_WITHIN = timedelta(seconds=30)


class DeskCollector(Collector):
    """What stands in the books now."""

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registering must not read the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        now, venue = timezone.now(), settings.KALSHI_PROFILE
        yield from _states(venue)
        yield from _ages(now)
        yield from _money(venue)
        yield from _broken(venue, now)


def _states(venue: str) -> Iterable[Metric]:
    proposals = GaugeMetricFamily("kops_proposals", "Proposals by state", labels=["state"])
    orders = GaugeMetricFamily("kops_orders", "Orders by state", labels=["state"])
    mode = GaugeMetricFamily("kops_trading_mode", "1 for the mode in force", labels=["mode"])
    found = Proposal.objects.filter(venue=venue)
    for name, count in _counted(found.values_list("state").annotate(Count("id")), ProposalState):
        proposals.add_metric([name], count)
    for name, count in _counted(
        Order.objects.filter(venue=venue).values_list("state").annotate(Count("id")), OrderState
    ):
        orders.add_metric([name], count)
    current = risk.trading_state(venue).mode
    for each in TradingState.Mode.values:
        mode.add_metric([each], float(each == current))
    yield from (proposals, orders, mode)
    yield _gauge("kops_fills", "Fills booked", Fill.objects.filter(venue=venue).count())


def _counted(found: Iterable[tuple[str, int]], states: Iterable[str]) -> list[tuple[str, int]]:
    """Every state with its count, zero where there is none: an absent series cannot be alarmed on."""
    known = dict(found)
    return [(str(state), known.get(state, 0)) for state in states]


def _ages(now: datetime) -> Iterable[Metric]:
    loops = GaugeMetricFamily("kops_loop_age_seconds", "Since a loop last finished a round", labels=["loop"])
    for loop, at in Cycle.objects.values_list("loop").annotate(Max("finished_at")):
        if at is not None:
            loops.add_metric([loop], (now - at).total_seconds())
    yield loops
    newest = Quote.objects.filter(trusted=True).aggregate(at=Max("verified_at"))["at"]
    if newest is not None:
        yield _gauge(
            "kops_quote_age_seconds", "Age of the newest proven quote", (now - newest).total_seconds()
        )
    held = Lease.objects.filter(name=LEASE, expires_at__gt=now).exclude(holder="").exists()
    yield _gauge("kops_execution_lease_held", "1 while an execution process holds its lease", float(held))


def _money(venue: str) -> Iterable[Metric]:
    value = ledger.valuation(venue)
    yield _gauge("kops_cash_dollars", "Cash", float(value.cash))
    yield _gauge("kops_realized_dollars", "Realized profit and loss before fees", float(value.realized))
    yield _gauge("kops_fees_dollars", "Fees paid", float(value.fees))
    if value.equity is not None:
        yield _gauge("kops_equity_dollars", "Cash and positions at their bids", float(value.equity))


def _broken(venue: str, now: datetime) -> Iterable[Metric]:
    orders = Order.objects.filter(venue=venue)
    overdue = Proposal.objects.unclaimed().filter(venue=venue, decided_at__lt=now - CLAIM_WITHIN).count()
    booked = orders.annotate(booked=Coalesce(Sum("fills__quantity"), 0, output_field=CountField()))
    closed = orders.exclude(state__in=OPEN).exclude(proposal=None)
    left_over = Reservation.objects.standing(venue).filter(
        key__in=closed.filter(filled_quantity=0).values("proposal__public_id")
    )
    yield _gauge(
        "kops_broken_cash_drift_dollars", "Exchange minus ours, seen twice", float(standing_drift() or 0)
    )
    yield _gauge("kops_broken_unclaimed", "Approved and unclaimed for 30 s", overdue)
    yield _gauge(
        "kops_broken_overbooked",
        "Orders with more fills than filled",
        booked.filter(booked__gt=F("filled_quantity")).count(),
    )
    yield _gauge(
        "kops_broken_reservations", "Reservations of closed orders that never filled", left_over.count()
    )
    unpriced = Position.objects.filter(venue=venue, quantity=0).exclude(cost=0).count()
    yield _gauge("kops_broken_positions", "Flat positions with a cost left", unpriced)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
