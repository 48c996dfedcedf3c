"""The books in the admin: positions, cash, the trading state read-only; limits may be set by those who may."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from kalshi_site.readonly import ReadOnly, ReadOnlyInline
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain.limits import PAPER_LIMITS
from portfolio.models import (
    Autonomy,
    AutonomyEvent,
    CashEntry,
    Position,
    PositionEvent,
    RiskLimit,
    TradingState,
    TradingStateEvent,
)


class PositionEventInline(ReadOnlyInline):
    """A position's history."""

    model = PositionEvent
    fields = ("at", "to_state", "quantity", "cash", "actor", "version")
    readonly_fields = fields


@admin.register(Position)
class PositionAdmin(ReadOnly):
    """Holdings, kept by the ledger alone."""

    list_display = ("ticker", "quantity", "cost", "realized", "fees", "settled_at", "updated_at")
    list_filter = ("venue",)
    search_fields = ("ticker", "event_ticker", "title")
    inlines = (PositionEventInline,)


@admin.register(CashEntry)
class CashEntryAdmin(ReadOnly):
    """Each change of cash."""

    list_display = ("at", "kind", "amount", "fee", "realized", "ticker", "reference")
    list_filter = ("kind", "venue")
    search_fields = ("ticker", "reference")
    date_hierarchy = "at"
    ordering = ("-id",)


class TradingStateEventInline(ReadOnlyInline):
    """Who paused, stopped and resumed, and why."""

    model = TradingStateEvent


@admin.register(TradingState)
class TradingStateAdmin(ReadOnly):
    """Whether trading is on; changed by the buttons of every page."""

    list_display = ("venue", "mode", "reason", "changed_by", "changed_at", "kill_epoch")
    inlines = (TradingStateEventInline,)


class AutonomyEventInline(ReadOnlyInline):
    """Who gave the analyst more or less room, and why."""

    model = AutonomyEvent


@admin.register(Autonomy)
class AutonomyAdmin(ReadOnly):
    """How much the analyst may do by itself; changed on the page Risk."""

    list_display = ("venue", "level", "reason", "changed_by", "changed_at")
    inlines = (AutonomyEventInline,)


class RiskLimitForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A limit that a rule reads, its value in the limit's own unit, and why it is what it is."""

    name = forms.ChoiceField(
        choices=[
            (name, f"{limit.label} ({limit.unit}, built-in {limit.value})")
            for name, limit in PAPER_LIMITS.items()
        ]
    )
    value = forms.DecimalField(min_value=Decimal(0), max_digits=15, decimal_places=6)
    note = forms.CharField(label="Why", max_length=200)
    # Not `version`: the model's own field of that name is not for forms.
    seen = forms.IntegerField(min_value=1, widget=forms.HiddenInput)

    class Meta:
        model = RiskLimit
        fields = ("name", "value", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen"].initial = self.instance.version
        self.fields["seen"].required = self.instance.pk is not None

    def clean(self) -> dict[str, Any]:
        """What was seen must be what stands. What was typed stays, and a second press is about what stands now."""
        given: dict[str, Any] = super().clean() or {}
        row = self.instance
        if row.pk is not None and "seen" in given and given["seen"] != row.version:
            self.data = {**dict(self.data.items()), self.add_prefix("seen"): str(row.version)}
            raise forms.ValidationError(
                f"{StaleVersion.code} It is {row.value.normalize():f} since {row.updated_at:%H:%M:%S} UTC"
                f" ({row.note or 'no reason given'}): look again; saving once more overwrites that."
            )
        return given


@admin.register(RiskLimit)
class RiskLimitAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Limits; saving goes through `risk.set_limit`, which keeps history and audit."""

    form = RiskLimitForm
    list_display = ("name", "value", "note", "updated_at", "version")

    def get_readonly_fields(self, request: HttpRequest, obj: RiskLimit | None = None) -> tuple[str, ...]:
        """A limit keeps its name."""
        return ("name",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        """Set the limit by its activity. What it refuses is told, and nothing else is: see `_is_refused`."""
        try:
            row = risk.set_limit(
                name=obj.name,
                value=obj.value,
                actor=request.user.get_username(),
                reason=obj.note,
                version=form.cleaned_data["seen"] if change else None,
            )
        except (risk.SecondPersonNeeded, StaleVersion) as refused:
            # Told, not raised: raising would roll back the wish that the second person confirms.
            messages.error(request, f"{refused.code} {refused}. Nothing was changed.")
            request.limit_refused = True  # type: ignore[attr-defined]
            obj.pk = risk.limit_row(obj.name).pk
            return
        obj.pk = row.pk
        messages.info(request, f"{obj.name} is {row.value.normalize():f} from now on.")

    def log_addition(self, request: HttpRequest, obj: RiskLimit, message: Any) -> Any:
        """Only what happened."""
        return None if _is_refused(request) else super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: RiskLimit, message: Any) -> Any:
        """Only what happened."""
        return None if _is_refused(request) else super().log_change(request, obj, message)

    def response_add(self, request: HttpRequest, obj: RiskLimit, post_url_continue: Any = None) -> Any:
        """After a refusal the limit as it stands, without a word of success."""
        if _is_refused(request):
            return _as_it_stands(obj)
        return super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: RiskLimit) -> Any:
        """After a refusal the limit as it stands, without a word of success."""
        return _as_it_stands(obj) if _is_refused(request) else super().response_change(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: RiskLimit | None = None) -> bool:
        """A limit is set back, not deleted: its history stays."""
        return False


def _is_refused(request: HttpRequest) -> bool:
    """Whether the limit of this request was not set after all: Django says the opposite when nothing is raised."""
    return getattr(request, "limit_refused", False)


def _as_it_stands(row: RiskLimit) -> HttpResponse:
    return redirect("admin:portfolio_risklimit_change", row.pk)
