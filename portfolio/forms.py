"""What the forms of the page Risk carry: a scope in two fields, a limit's new value, a level."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms

from portfolio.domain import scopes
from portfolio.domain.autonomy import AutonomyLevel

WHOLE: Final = "all"


class ScopeForm(forms.Form):
    """A scope, chosen by kind and name; `scope` itself where a link or a button knows it already."""

    scope = forms.CharField(required=False, max_length=scopes.LONGEST)
    kind = forms.ChoiceField(choices=[(kind, kind) for kind in (WHOLE, *scopes.KINDS)], required=False)
    name = forms.CharField(required=False, max_length=120)

    def clean(self) -> dict[str, Any]:
        """Sets `scope` as it stands in the database. Names nothing: an error, for a typo must not pass for a stop."""
        given = super().clean() or {}
        kind, name = given.get("kind") or WHOLE, (given.get("name") or "").strip()
        written = given.get("scope") or (WHOLE if kind == WHOLE and not name else f"{kind}:{name}")
        try:
            return {**given, "scope": scopes.parse(written)}
        except scopes.UnknownScope as error:
            raise forms.ValidationError(f"{error.code} {error}") from error


class LimitForm(forms.Form):
    """A new value in the limit's own unit, the version that was seen, and why."""

    value = forms.DecimalField(min_value=Decimal(0), max_digits=15, decimal_places=6)
    version = forms.IntegerField(min_value=1)
    reason = forms.CharField(max_length=200, required=False)


class AutonomyForm(forms.Form):
    level = forms.ChoiceField(choices=[(level.value, level.value) for level in AutonomyLevel])
    version = forms.IntegerField(min_value=1)
    reason = forms.CharField(max_length=300, required=False)
