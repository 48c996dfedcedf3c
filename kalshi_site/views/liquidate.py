"""Emergency liquidation as a page: what it would bring, the typed word, then the progress. No script is needed."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from trading.execution import liquidation, liquidation_plan
from trading.execution.stand_in import is_execution_alive
from trading.execution.wake import wake
from trading.models import Liquidation

TEMPLATE: Final = "trading/liquidate.html"
WORD: Final = "LIQUIDATE"
SLIPPAGE: Final = "0.05"


@require_http_methods(["GET", "POST"])
def liquidate(request: HttpRequest) -> HttpResponse:
    """The plan with its form; while one works, and after it, its steps (`?part=progress` alone)."""
    venue = settings.KALSHI_PROFILE
    row = Liquidation.objects.filter(venue=venue).order_by("-id").first()
    context: dict[str, Any] = {"row": row, "alive": is_execution_alive(), "word": WORD}
    if request.GET.get("part") == "progress":
        return render(request, f"{TEMPLATE}#progress", context)
    if request.method == "POST" and "again" not in request.POST:
        return _ask(request, venue, context)
    return _page(request, venue, context, slippage=request.POST.get("slippage", SLIPPAGE))


def _ask(request: HttpRequest, venue: str, context: dict[str, Any]) -> HttpResponse:
    if not request.user.has_perm("portfolio.close_position"):
        raise PermissionDenied("Liquidating needs the role approver.")
    written = request.POST.get("slippage", SLIPPAGE)
    if request.POST.get("word", "").strip() != WORD:
        error = f"E010 Nothing was done. Type {WORD} to sell everything."
        return _page(request, venue, context, slippage=written, error=error, status=422)
    try:
        liquidation.request(
            venue=venue,
            actor=request.user.get_username(),
            reason=request.POST.get("reason", "").strip()[:300] or "liquidation asked for on the page",
            slippage=_amount(written),
        )
    except liquidation.SlippageOutOfRange as refused:
        bad = f"{refused.code} Nothing was done: {refused}."
        return _page(request, venue, context, slippage=written, bad_slippage=bad, status=422)
    wake()
    return redirect("risk-liquidate")


def _page(
    request: HttpRequest,
    venue: str,
    context: dict[str, Any],
    *,
    slippage: str,
    error: str = "",
    bad_slippage: str = "",
    status: int = 200,
) -> HttpResponse:
    try:
        plan = liquidation_plan.plan(venue, _amount(slippage))
    except liquidation.SlippageOutOfRange as refused:
        bad_slippage = bad_slippage or f"{refused.code} {refused}; worked out for {SLIPPAGE}"
        plan = liquidation_plan.plan(venue, Decimal(SLIPPAGE))
    context |= {
        "plan": plan,
        "slippage": slippage,
        "error": error,
        "bad_slippage": bad_slippage,
        "reason": request.POST.get("reason", ""),
        "may_sell": request.user.has_perm("portfolio.close_position"),
    }
    return render(request, TEMPLATE, context, status=status)


def _amount(written: str) -> Decimal:
    """Dollars as typed. Raises SlippageOutOfRange on anything that is no amount within the bounds."""
    try:
        amount = Decimal(written.strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    liquidation.require_slippage(amount)
    return amount
