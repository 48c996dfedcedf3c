"""The desk's own metrics, read from the database when they are asked for: they survive every restart and need no bus.

Label values are states and loops, never tickers or people. Gauges under `kops_broken_` must be zero at all times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Max, Min, Sum
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from approvals.domain.lifecycle import ProposalState
from approvals.models import Proposal
from kalshi_site import breakers, heartbeat
from kalshi_site.locks import silent
from kalshi_site.models import Lease
from portfolio import ledger, risk
from portfolio.models import TradingState
from trading.domain.orders import OrderState
from trading.engine.invariants import INVARIANTS, broken
from trading.engine.update_cycle import BY_HAND, standing_drift
from trading.exchange.conformity import DriftKind
from trading.execution.process import LEASE, LEASE_TTL
from trading.models import Cycle, DriftNote, Fill, Listener, Order, Quote, WorkItem, WorkKind

BREAKER_VALUES = {breakers.State.CLOSED: 0, breakers.State.HALF_OPEN: 1, breakers.State.OPEN: 2}


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
        yield from _unproven(venue, now)
        yield from _broken(venue, now)
        yield from _contract(venue)
        yield from _breakers()
        yield from _processes(now)


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


def _unproven(venue: str, now: datetime) -> Iterable[Metric]:
    oldest = Order.objects.unproven(venue, signed_before=now).aggregate(at=Min("signed_at"))["at"]
    age = (now - oldest).total_seconds() if oldest else 0.0
    yield _gauge(
        "kops_unproven_order_age_seconds", "Since the oldest send without an outcome; 0 for none", age
    )


def _counted(found: Iterable[tuple[str, int]], states: Iterable[str]) -> list[tuple[str, int]]:
    """Every state with its count, zero where there is none: an absent series cannot be alarmed on."""
    known = dict(found)
    return [(str(state), known.get(state, 0)) for state in states]


def _ages(now: datetime) -> Iterable[Metric]:
    loops = GaugeMetricFamily("kops_loop_age_seconds", "Since a loop last finished a round", labels=["loop"])
    rounds = Cycle.objects.exclude(loop=BY_HAND)  # nobody waits for the next comparison by command
    for loop, at in rounds.values_list("loop").annotate(Max("finished_at")):
        if at is not None:
            loops.add_metric([loop], (now - at).total_seconds())
    yield loops
    newest = Quote.objects.filter(trusted=True).aggregate(at=Max("verified_at"))["at"]
    if newest is not None:
        yield _gauge(
            "kops_quote_age_seconds", "Age of the newest proven quote", (now - newest).total_seconds()
        )
    held = Lease.objects.filter(name=LEASE).exclude(silent(LEASE_TTL, unheard_for=LEASE_TTL)).exists()
    yield _gauge("kops_execution_lease_held", "1 while an execution process holds its lease", float(held))


def _money(venue: str) -> Iterable[Metric]:
    value = ledger.valuation(venue)
    yield _gauge("kops_cash_dollars", "Cash", float(value.cash))
    yield _gauge("kops_realized_dollars", "Realized profit and loss before fees", float(value.realized))
    yield _gauge("kops_fees_dollars", "Fees paid", float(value.fees))
    if value.equity is not None:
        yield _gauge("kops_equity_dollars", "Cash and positions at their bids", float(value.equity))


def _broken(venue: str, now: datetime) -> Iterable[Metric]:
    drift = float(standing_drift() or 0)
    yield _gauge("kops_broken_cash_drift_dollars", "Exchange minus ours, seen twice", drift)
    work = GaugeMetricFamily(
        "kops_work_items", "Differences with the exchange that nobody has answered", labels=["kind"]
    )
    unanswered = WorkItem.objects.unanswered(venue).values_list("kind").annotate(Count("id"))
    for kind, count in _counted(unanswered, WorkKind.values):
        work.add_metric([kind], count)
    yield work
    found = {breach.name: breach.count for breach in broken(venue, now)}
    for each in INVARIANTS:
        yield _gauge(f"kops_broken_{each.name}", f"Breaches of: {each.promise}", found.get(each.name, 0))


def _contract(venue: str) -> Iterable[Metric]:
    """How much of what the exchange says was compared with what was agreed, and what was not as agreed."""
    standing = GaugeMetricFamily(
        "kops_exchange_drift",
        "Departures from the agreed contract that nobody acknowledged",
        labels=["money"],
    )
    notes = DriftNote.objects.filter(venue=venue)
    for is_money, name in ((True, "yes"), (False, "no")):
        standing.add_metric([name], notes.filter(acknowledged_at=None, is_money=is_money).count())
    seen = CounterMetricFamily("kops_exchange_drift_seen", "Departures seen, by kind", labels=["kind"])
    for kind, count in _counted(notes.values_list("kind").annotate(Sum("count")), DriftKind):
        seen.add_metric([kind], count)
    compared = CounterMetricFamily("kops_exchange_compared", "Answers and frames compared", labels=["what"])
    sums = Listener.objects.filter(venue=venue).aggregate(answers=Sum("answers"), frames=Sum("frames"))
    for what, count in sums.items():
        compared.add_metric([what], count or 0)
    yield from (standing, seen, compared)


def _breakers() -> Iterable[Metric]:
    state = GaugeMetricFamily("kops_breaker", "0 closed, 1 half open, 2 open", labels=["breaker"])
    failures = GaugeMetricFamily("kops_breaker_failures", "Failures in a row", labels=["breaker"])
    for each in breakers.states():
        state.add_metric([each.name], BREAKER_VALUES[each.state])
        failures.add_metric([each.name], each.failures)
    yield from (state, failures)


def _processes(now: datetime) -> Iterable[Metric]:
    """Of each name the one that was silent for longest; a name that nobody bears any more has no series."""
    found = heartbeat.signs(now)
    ages = GaugeMetricFamily("kops_process_beat_age_seconds", "Since a process last beat", labels=["process"])
    for name in sorted({each.row.name for each in found}):
        ages.add_metric([name], max(each.age.total_seconds() for each in found if each.row.name == name))
    yield ages
    yield _gauge("kops_processes_silent", "Processes that fell silent", sum(each.is_silent for each in found))
    expected = risk.trading_state(settings.KALSHI_PROFILE).expected_build
    others = heartbeat.builds_of("execution", now) - {expected}
    yield _gauge(
        "kops_broken_build", "Execution processes' builds that may not claim", len(others) if expected else 0
    )
    yield _gauge("kops_builds", "Different builds that run", len({each.row.build for each in found}))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
