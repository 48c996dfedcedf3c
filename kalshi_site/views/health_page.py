"""The health page: whether an approved order would go out now, and whether the exchange speaks as agreed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Max, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from kalshi_site import breakers, heartbeat
from kalshi_site.errors import REGISTRY
from kalshi_site.versioning import StaleVersion
from kalshi_site.views.breakers import RIGHT as RESET
from kalshi_site.views.health import READY, TRADING
from portfolio import risk
from trading.market_data import drift
from trading.models import DriftNote, Listener
from trading.models.exchange_state import exchange_facts

PAGE = "kalshi_site/health.html"
# What refreshes by itself; what a person is ticking does not.
PARTS = frozenset({"summary", "parts"})
STANDING_SHOWN = 100
ACKNOWLEDGED_SHOWN = 20
# What a check looks at, in the reader's words.
LABELS = {
    "database": "Database",
    "redis": "Redis for live pages and tasks",
    "cache": "Redis for the cache",
    "trading": "Trading state",
    "execution": "Execution process",
    "outcomes": "Outcome of every order",
    "build": "Accepted build",
    "guards": "Guards of the database",
    "groups": "Order groups",
    "exchange": "The exchange's hours",
    "clock": "This machine's clock",
    "breakers": "Breakers of orders and cancels",
    "quotes": "Quotes",
    "books": "Books against the exchange",
    "contract": "What the exchange says",
    "processes": "Processes",
    "heartbeats": "Heartbeats and builds",
}
# A departure in a sentence; `{found}` is what came.
TOLD = {
    "unknown_field": "is a new field",
    "missing_field": "is missing",
    "wrong_type": "came as {found}",
    "unknown_word": "has a new word: “{found}”",
    "unreadable": "cannot be true",
    "unknown_code": "a new error code: {found}",
    "unexpected_status": "answered {found}",
    "retired_endpoint": "is gone ({found})",
    "unknown_frame": "a new type of message: {found}",
    "unknown_stream_error": "a new error number: {found}",
}


@dataclass(frozen=True, slots=True)
class Look:
    """One check and its answer. `code` links to the error's page where the answer begins with one."""

    name: str
    label: str
    fault: str
    code: str


@dataclass(frozen=True, slots=True)
class Line:
    """One departure on the page."""

    note: DriftNote
    told: str

    @property
    def seen(self) -> str:
        """What a tick says: this one, as it stood."""
        return f"{self.note.pk}:{self.note.version}"


@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """The checks behind `/readyz` and `/tradez` in words, and every departure that nobody has acknowledged."""
    part = request.GET.get("part", "")
    return render(request, f"{PAGE}#{part}" if part in PARTS else PAGE, _context(request))


@require_POST
def acknowledge(request: HttpRequest) -> HttpResponse:
    """Acknowledge the ticked departures, all or none, with one reason."""
    if not request.user.has_perm("trading.acknowledge_drift"):
        raise PermissionDenied("Acknowledging needs the role approver, risk or admin.")
    reason, picked = request.POST.get("reason", "").strip()[:300], request.POST.getlist("note")
    seen = [each.partition(":") for each in picked]
    readable = all(pk.isdigit() and version.isdigit() for pk, _, version in seen)
    if not seen or not reason or not readable:
        said = "Tick what you have looked at and say why it is safe; both stand in the record."
        return render(request, PAGE, _context(request, error=said, reason=reason, ticked=picked), status=422)
    try:
        _acknowledge({int(pk): int(version) for pk, _, version in seen}, request.user.get_username(), reason)
    except StaleVersion:
        said = "E204 Somebody else was quicker; look again."
        return render(request, PAGE, _context(request, error=said, reason=reason, ticked=picked), status=412)
    messages.success(request, _what_now(len(seen)))
    return redirect("health")


@transaction.atomic
def _acknowledge(versions: dict[int, int], actor: str, reason: str) -> None:
    for note in DriftNote.objects.filter(venue=settings.KALSHI_PROFILE, pk__in=versions):
        drift.acknowledge(note=note, actor=actor, reason=reason, version=versions[note.pk])


def _what_now(count: int) -> str:
    done = f"{count} change{'s' if count > 1 else ''} acknowledged."
    if drift.objection(settings.KALSHI_PROFILE):
        return f"{done} Others that money depends on still stand."
    if risk.trading_state(settings.KALSHI_PROFILE).mode == "ACTIVE":
        return done
    return f"{done} Trading stays as it is until somebody resumes it."


def _context(
    request: HttpRequest, *, error: str = "", reason: str = "", ticked: Collection[str] = ()
) -> dict[str, Any]:
    venue = settings.KALSHI_PROFILE
    looks = [_look(name, check) for name, check in {**READY, **TRADING}.items()]
    standing = DriftNote.objects.standing(venue)
    done = DriftNote.objects.filter(venue=venue).exclude(acknowledged_at=None).order_by("-acknowledged_at")
    listeners = Listener.objects.filter(venue=venue)
    return {
        "looks": looks,
        "faults": [look for look in looks if look.fault],
        "standing": [_line(note) for note in standing[:STANDING_SHOWN]],
        "standing_count": standing.count(),
        "money_count": DriftNote.objects.alarming(venue).count(),
        "acknowledged": [_line(note) for note in done[:ACKNOWLEDGED_SHOWN]],
        "listeners": list(listeners.order_by("process")),
        "heard": listeners.aggregate(answers=Sum("answers"), frames=Sum("frames"), last=Max("last_at")),
        "beyond": listeners.aggregate(all=Sum("beyond"))["all"] or 0,
        "signs": heartbeat.signs(timezone.now()),
        "exchange_at": exchange_facts(venue).as_of,
        "breakers": breakers.states(),
        "may_reset": request.user.has_perm(RESET),
        "may_acknowledge": request.user.has_perm("trading.acknowledge_drift"),
        "error": error,
        "reason": reason,
        "ticked": ticked,
    }


def _look(name: str, check: Callable[[], str]) -> Look:
    fault = check()
    code, _, rest = fault.partition(" ")
    return (
        Look(name, LABELS.get(name, name), rest, code)
        if code in REGISTRY
        else Look(name, LABELS.get(name, name), fault, "")
    )


def _line(note: DriftNote) -> Line:
    return Line(note, TOLD.get(note.kind, note.kind).format(found=note.found or "nothing"))
