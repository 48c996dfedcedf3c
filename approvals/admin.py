"""Proposals in the admin: read-only with their history; approve and decline ask once more, then call the activities."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from approvals import decisions
from approvals.domain.lifecycle import DeadlinePassed, TermsChanged, WrongState
from approvals.forms import ApproveForm
from approvals.models import Decision, Proposal, ProposalEvent
from kalshi_site.errors import kind_of
from kalshi_site.models import User
from kalshi_site.readonly import ReadOnly, ReadOnlyInline
from kalshi_site.versioning import StaleVersion
from portfolio.domain.limits import RiskLevel
from portfolio.risk import Denied, UnknownMarket

REFUSALS = (
    *(StaleVersion, TermsChanged, WrongState, DeadlinePassed, Denied, UnknownMarket),
    *(decisions.OwnProposal, decisions.MayNotDecide),
)


class ProposalEventInline(ReadOnlyInline):
    """A proposal's history."""

    model = ProposalEvent


class DecisionInline(ReadOnlyInline):
    """Who said what about it."""

    model = Decision
    fields = ("at", "actor_name", "verdict", "method", "reason", "version")
    readonly_fields = fields


@admin.register(Proposal)
class ProposalAdmin(ReadOnly):
    """Ideas and what became of them."""

    list_display = (
        *(
            "created_at",
            "public_id",
            "state",
            "risk_level",
            "__str__",
            "limit_price",
            "proposer",
            "decided_by",
        ),
    )
    list_filter = ("state", "risk_level", "origin", "venue")
    search_fields = ("public_id", "ticker", "title", "proposer")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    readonly_fields = ("clone_of",)
    inlines = (DecisionInline, ProposalEventInline)
    actions = ("approve_selected", "decline_selected")

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Only those who may decide see the actions."""
        return request.user.has_perm("approvals.decide_proposal")

    @admin.action(description="Approve…", permissions=["decide"])
    def approve_selected(self, request: HttpRequest, rows: QuerySet[Proposal]) -> HttpResponse | None:
        """Show the cards, then approve the versions that were shown."""
        return self._decide(request, rows, "approve")

    @admin.action(description="Decline…", permissions=["decide"])
    def decline_selected(self, request: HttpRequest, rows: QuerySet[Proposal]) -> HttpResponse | None:
        """Show the cards, then decline the versions that were shown."""
        return self._decide(request, rows, "decline")

    def _decide(self, request: HttpRequest, rows: QuerySet[Proposal], answer: str) -> HttpResponse | None:
        chosen = self._approvable(request, list(rows)) if answer == "approve" else list(rows)
        if not chosen:
            return None
        typed = self._typed(request, chosen[0]) if answer == "approve" and _is_high(chosen[0]) else None
        if request.POST.get("confirmed") != "yes" or (typed is not None and "quantity" in typed.errors):
            return self._ask(request, chosen, answer, typed)
        for proposal in chosen:
            seen = request.POST.get(f"version-{proposal.pk}", "")
            terms = request.POST.get(f"terms-{proposal.pk}", "")
            if seen.isdigit() and isinstance(request.user, User):
                self._one(request, proposal, (int(seen), terms), request.user, answer)
        return None

    def _approvable(self, request: HttpRequest, rows: list[Proposal]) -> list[Proposal]:
        """One alone, whatever its risk; of several those of LOW risk, and why not the others."""
        if len(rows) == 1:
            return rows
        for row in rows:
            if row.risk_level != RiskLevel.LOW:
                messages.error(
                    request,
                    f"Left out: {row.public_id} is {row.risk_level} risk, and several at once are for LOW only;"
                    " decide it on its page, or choose it alone.",
                )
        return [row for row in rows if row.risk_level == RiskLevel.LOW]

    def _typed(self, request: HttpRequest, proposal: Proposal) -> ApproveForm:
        """The quantity that HIGH wants typed, as the page asks for it; nothing is wrong before it was asked."""
        if request.POST.get("confirmed") != "yes":
            return ApproveForm(proposal=proposal)
        return ApproveForm({"quantity": request.POST.get("quantity", "")}, proposal=proposal)

    def _ask(
        self, request: HttpRequest, rows: list[Proposal], answer: str, typed: ApproveForm | None
    ) -> HttpResponse:
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"{answer.capitalize()} {len(rows)} proposal{'' if len(rows) == 1 else 's'}?",
            "answer": answer,
            "proposals": rows,
            "typed": typed,
            "reason": request.POST.get("reason", ""),
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/approvals/decide.html", context)

    def _one(
        self, request: HttpRequest, proposal: Proposal, seen: tuple[int, str], actor: User, answer: str
    ) -> None:
        version, terms = seen
        reason = request.POST.get("reason", "").strip()[:400]
        try:
            if answer == "approve":
                decisions.approve(
                    proposal=proposal,
                    version=version,
                    terms_hash=terms,
                    actor=actor,
                    method="admin",
                    note=reason,
                )
            else:
                decisions.decline(
                    proposal=proposal,
                    version=version,
                    terms_hash=terms,
                    actor=actor,
                    method="admin",
                    reason=reason or "no reason given",
                )
        except REFUSALS as refusal:
            messages.error(request, f"{kind_of(refusal).code} {proposal.public_id}: {refusal}")
        else:
            messages.success(request, f"{proposal.public_id}: {answer}d.")


def _is_high(proposal: Proposal) -> bool:
    return proposal.risk_level == RiskLevel.HIGH
