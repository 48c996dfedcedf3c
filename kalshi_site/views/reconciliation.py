"""The reconciliation page: what differs from the exchange, what to do about it, and what was compared last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from kalshi_site.versioning import StaleVersion
from portfolio import risk
from trading.engine.update_cycle import INTERVAL, last_comparison
from trading.execution import work_items
from trading.execution.work_kinds import Suggestion, rule_of, suggestion
from trading.models import Cycle, Order, WorkItem, WorkState
from trading.models.work_item import SHOWN

PAGE: Final = "kalshi_site/reconciliation.html"
PARTS: Final = frozenset({"items", "last"})
RESOLVED_SHOWN: Final = 20
OUTCOMES: Final = {
    "clean": "both sides agree",
    "drift": "something differs",
    "odd": "some records could not be taken in",
    "failed": "aborted: the exchange could not be read whole, and nothing was judged",
}
ACTS: Final = ("acknowledge", "resolve", "accept")


@dataclass(frozen=True, slots=True)
class Line:
    """One difference on the page."""

    item: WorkItem
    title: str
    told: Suggestion
    is_acceptable: bool


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The items that stand, the last comparison, and what was resolved lately."""
    part = request.GET.get("part", "")
    return render(request, f"{PAGE}#{part}" if part in PARTS else PAGE, _context(request))


@require_POST
def answer(request: HttpRequest, public_id: str, act: str) -> HttpResponse:
    """Acknowledge or resolve the item as the person saw it, with a reason."""
    if act not in ACTS:
        raise Http404
    _require_right(request, act)
    item = get_object_or_404(WorkItem, public_id=public_id, venue=settings.KALSHI_PROFILE)
    reason, version = request.POST.get("reason", "").strip(), request.POST.get("version", "")
    typed = {"answered": public_id, "reason": reason}
    if not reason or not version.isdigit():
        said = "Say why; it stands in the record."
        return render(request, PAGE, {**_context(request, error=said), **typed}, status=422)
    deed: dict[str, Any] = {
        "item": item,
        "actor": request.user.get_username(),
        "reason": reason,
        "version": int(version),
    }
    try:
        if act == "acknowledge":
            work_items.acknowledge(**deed)
        else:
            work_items.resolve(**deed, accept=act == "accept")
    except (StaleVersion, work_items.NotAcceptable) as refusal:
        said = f"{refusal.code} {refusal}. Look at it as it is now."
        status = 412 if isinstance(refusal, StaleVersion) else 409
        return render(request, PAGE, {**_context(request, error=said), **typed}, status=status)
    messages.success(request, _what_now(act))
    return redirect("reconciliation")


def _require_right(request: HttpRequest, act: str) -> None:
    if not request.user.has_perm("trading.handle_workitem"):
        raise PermissionDenied("Answering a difference needs the role approver, risk or admin.")
    if act == "accept" and not request.user.has_perm("trading.accept_workitem"):
        raise PermissionDenied("Booking the exchange's number needs the role risk or admin.")


def _what_now(act: str) -> str:
    done = {
        "acknowledge": "Acknowledged.",
        "resolve": "Resolved.",
        "accept": "The exchange's number is booked.",
    }[act]
    venue = settings.KALSHI_PROFILE
    if work_items.objection(venue):
        return f"{done} Another difference still keeps trading paused."
    if risk.trading_state(venue).mode == "ACTIVE":
        return done
    return f"{done} Trading stays as it is until somebody resumes it."


def _context(request: HttpRequest, *, error: str = "") -> dict[str, Any]:
    venue = settings.KALSHI_PROFILE
    resolved = WorkItem.objects.filter(venue=venue, state=WorkState.RESOLVED)
    standing = [_line(each) for each in WorkItem.objects.shown(venue)]
    last = last_comparison(venue)
    return {
        "lines": standing,
        "open": sum(line.item.state == WorkState.OPEN for line in standing),
        "resolved": [_line(each) for each in resolved.order_by("-resolved_at")[:RESOLVED_SHOWN]],
        "last": last,
        "outcome": "" if last is None else OUTCOMES.get(last.outcome, last.outcome),
        "areas": _areas(last),
        "every": INTERVAL,
        "elsewhere": Order.objects.open().filter(venue=venue, proposal=None).count(),
        "may_handle": request.user.has_perm("trading.handle_workitem"),
        "may_accept": request.user.has_perm("trading.accept_workitem"),
        "error": error,
    }


def _areas(last: Cycle | None) -> list[tuple[str, dict[str, int]]]:
    return [] if last is None else list(last.detail.get("areas", {}).items())


def _line(item: WorkItem) -> Line:
    rule = rule_of(item)
    return Line(item, rule.title, suggestion(item), rule.is_acceptable and item.state in SHOWN)
