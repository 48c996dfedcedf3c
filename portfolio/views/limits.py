"""Editing one limit: a tighter one holds at once, a looser one asks why, and on a live desk for a second person."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.limits import PAPER_LIMITS
from portfolio.forms import LimitForm

TEMPLATE = "portfolio/limit.html"


@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """The limit with its value, its meaning and its history; saving binds to the version that was seen."""
    if not request.user.has_perm("portfolio.change_risklimit"):
        raise PermissionDenied("Limits are edited by the roles risk and admin.")
    limit = PAPER_LIMITS.get(name)
    if limit is None:
        raise Http404
    row = risk.limit_row(name)
    context: dict[str, Any] = {"limit": limit, "row": row, "value": row.value, "reason": "", "error": ""}
    if request.method == "GET":
        return render(request, TEMPLATE, context)
    form = LimitForm(request.POST)
    context |= {"value": request.POST.get("value", ""), "reason": request.POST.get("reason", "")}
    if not form.is_valid():
        context["error"] = f"E012 A number of {limit.unit} from 0 on, with at most six decimals."
        return render(request, TEMPLATE, context, status=422)
    given = form.cleaned_data
    if limit.is_looser(row.value, given["value"]) and not given["reason"].strip():
        context["error"] = "E010 Say why it is safe to allow more; it stands in the record."
        return render(request, TEMPLATE, context, status=422)
    try:
        fresh = risk.set_limit(
            name=name,
            value=given["value"],
            actor=request.user.get_username(),
            reason=given["reason"].strip(),
            version=given["version"],
        )
    except StaleVersion:
        context |= {"row": risk.limit_row(name), "error": "E204 The limit changed meanwhile; look again."}
        return render(request, TEMPLATE, context, status=412)
    except risk.SecondPersonNeeded as wanted:
        context["error"] = f"{wanted.code} {wanted}."
        return render(request, TEMPLATE, context, status=409)
    messages.success(request, f"{limit.label} is {limit.in_words(fresh.value)} from now on.")
    return redirect("risk")
