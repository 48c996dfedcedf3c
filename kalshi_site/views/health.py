"""Answers for machines: alive, ready, fit to trade, and the metrics."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from ipaddress import ip_address

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import CollectorRegistry, generate_latest

from kalshi_site import breakers, guards, heartbeat
from kalshi_site.locks import silent
from kalshi_site.models import Lease
from kalshi_site.views.metrics import DeskCollector
from portfolio.models import TradingState
from trading.domain.hours import Standing, words
from trading.domain.prices import dollars_text
from trading.engine.update_cycle import standing_drift
from trading.exchange.drift import CODE as CONTRACT_DRIFT
from trading.execution import nets, work_items
from trading.execution.differences import URGENT_AFTER
from trading.execution.process import LEASE as EXECUTION_LEASE
from trading.execution.process import LEASE_TTL
from trading.market_data.clock_note import clock_fault
from trading.models import DriftNote, Order, Quote
from trading.models.exchange_state import exchange_facts

# The feed proves a quiet book current every few seconds; older than this, it is not following the exchange.
OLDEST_QUOTE = timedelta(seconds=30)

# A registry of its own: under the supervisor, where several processes count, the package's own one is not asked.
DESK = CollectorRegistry()
DESK.register(DeskCollector())

Check = Callable[[], str]
"""Returns "" when all is well, else one sentence saying what is not."""


@require_safe
@never_cache
@login_not_required
def livez(request: HttpRequest) -> HttpResponse:
    """200 while this process answers at all. Touches nothing."""
    return JsonResponse({"status": "alive"})


@require_safe
@never_cache
@login_not_required
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when pages can be served: database reachable and migrated, both Redis servers there; else 503."""
    return _answer(READY)


@require_safe
@never_cache
@login_not_required
def tradez(request: HttpRequest) -> HttpResponse:
    """200 when an approved order would go out now, else 503.

    Ready, trading ACTIVE, an execution process that holds its lease, fresh quotes, a clock that is the exchange's, an
    exchange that speaks as agreed, every process of the desk up.
    """
    return _answer({**READY, **TRADING})


@require_safe
@never_cache
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text for loopback callers or the bearer of METRICS_TOKEN; 403 for others."""
    if not (_holds_token(request) or _is_loopback(request)):
        return HttpResponse("E104 loopback or METRICS_TOKEN only\n", status=403, content_type="text/plain")
    answer: HttpResponse = ExportToDjangoView(request)
    answer.content += generate_latest(DESK)
    return answer


def _answer(checks: dict[str, Check]) -> JsonResponse:
    results = {name: check() for name, check in checks.items()}
    failed = {name: reason for name, reason in results.items() if reason}
    status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
    body = {
        "status": "unavailable" if failed else "ok",
        "profile": settings.KALSHI_PROFILE,
        "checks": {name: reason or "ok" for name, reason in results.items()},
    }
    return JsonResponse(body, status=status)


def _database() -> str:
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"E803 {len(pending)} migrations are pending" if pending else ""


def _redis(url: str) -> str:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client:
            client.ping()
    except redis.RedisError as error:
        return f"Redis does not answer ({type(error).__name__})"
    return ""


def _trading_state() -> str:
    state = TradingState.objects.filter(venue=settings.KALSHI_PROFILE, scope="").first()
    mode = state.mode if state else TradingState.Mode.ACTIVE
    return "" if mode == TradingState.Mode.ACTIVE else f"trading is {mode}"


def _execution() -> str:
    unheard = silent(LEASE_TTL, unheard_for=LEASE_TTL)
    if not Lease.objects.filter(name=EXECUTION_LEASE).exclude(unheard).exists():
        return "no execution process holds the lease"
    return ""


def _books() -> str:
    drift, waiting = standing_drift(), work_items.pausing(settings.KALSHI_PROFILE).count()
    if waiting:
        return f"{work_items.CODE} {waiting} difference{'s wait' if waiting > 1 else ' waits'} for somebody to look"
    return "" if drift is None else f"cash differs from the exchange by {dollars_text(drift, signed=True)}"


def _contract() -> str:
    standing = DriftNote.objects.alarming(settings.KALSHI_PROFILE).count()
    if not standing:
        return ""
    if standing == 1:
        return f"{CONTRACT_DRIFT} 1 change at the exchange touches money and nobody has acknowledged it"
    return f"{CONTRACT_DRIFT} {standing} changes at the exchange touch money and nobody has acknowledged them"


def _groups() -> str:
    return nets.objection(settings.KALSHI_PROFILE)


def _exchange() -> str:
    now, facts = timezone.now(), exchange_facts()
    return "" if facts.standing(now) is Standing.TRADING else f"E607 {words(facts, now)}"


def _breakers() -> str:
    """Of what an order and the way out of it need."""
    needed = ("exchange_write", "exchange_cancel")
    open_ones = [each.label for each in breakers.states() if each.is_open and each.name in needed]
    return f"E605 failed in a row: {', '.join(open_ones).lower()}" if open_ones else ""


def _quotes() -> str:
    newest = Quote.objects.filter(trusted=True).aggregate(newest=Max("verified_at"))["newest"]
    if newest is None:
        return "E312 no quote yet"
    age = timezone.now() - newest
    return "" if age <= OLDEST_QUOTE else f"E312 the newest quote is {age.total_seconds():.0f} s old"


def _heartbeats() -> str:
    return heartbeat.fault(timezone.now())


def _outcomes() -> str:
    """No order has been without an outcome for so long that a person must look."""
    late = Order.objects.unproven(
        settings.KALSHI_PROFILE, signed_before=timezone.now() - URGENT_AFTER
    ).count()
    minutes = URGENT_AFTER.total_seconds() / 60
    what = "1 order has" if late == 1 else f"{late} orders have"
    return f"E610 {what} had no known outcome for more than {minutes:.0f} minutes" if late else ""


def _build() -> str:
    """The execution process runs the code that may claim."""
    state = TradingState.objects.filter(venue=settings.KALSHI_PROFILE, scope="").first()
    expected = state.expected_build if state else ""
    others = heartbeat.builds_of("execution", timezone.now()) - {expected}
    return (
        f"E807 execution runs build {', '.join(sorted(others))}, accepted is {expected}"
        if expected and others
        else ""
    )


def _guards() -> str:
    lacks = guards.missing(connection)
    return f"{guards.GuardsMissing.code} {guards.GuardsMissing(lacks)}" if lacks else ""


def _guarded(check: Check) -> Check:
    def answer() -> str:
        try:
            return check()
        except DatabaseError as error:
            return f"E801 the database does not answer ({type(error).__name__})"

    return answer


def _processes() -> str:
    try:
        state = json.loads((settings.VAR_DIR / "run" / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Started by another process manager, which then watches them itself.
        return ""
    down = sorted(name for name, child in state.get("processes", {}).items() if child.get("state") != "ready")
    return f"not ready: {', '.join(down)}" if down else ""


def _holds_token(request: HttpRequest) -> bool:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return bool(settings.METRICS_TOKEN) and hmac.compare_digest(
        given.encode(), settings.METRICS_TOKEN.encode()
    )


def _is_loopback(request: HttpRequest) -> bool:
    # A reverse proxy on this host would make every caller look local.
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


READY: dict[str, Check] = {
    "database": _guarded(_database),
    "redis": lambda: _redis(settings.REDIS_URL),
    "cache": lambda: _redis(settings.REDIS_CACHE_URL),
}
TRADING: dict[str, Check] = {
    "trading": _guarded(_trading_state),
    "execution": _guarded(_execution),
    "outcomes": _guarded(_outcomes),
    "build": _guarded(_build),
    "guards": _guarded(_guards),
    "groups": _guarded(_groups),
    "exchange": _guarded(_exchange),
    "clock": clock_fault,
    "breakers": _breakers,
    "quotes": _guarded(_quotes),
    "books": _guarded(_books),
    "contract": _guarded(_contract),
    "processes": _processes,
    "heartbeats": _guarded(_heartbeats),
}
