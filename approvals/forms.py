"""What a decision carries: the version and the terms that the person saw, and a second yes where the risk asks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from approvals.models import Proposal
from portfolio.domain.limits import RiskLevel
from trading.domain.prices import count_text

REASONS = (
    "Price moved",
    "Too large",
    "Edge too small",
    "Reasons are weak",
    "Rules unclear",
    "Not today",
)


class ApproveForm(forms.Form):
    """LOW needs nothing more; MEDIUM a second press (`confirmed`); HIGH the typed quantity."""

    version = forms.IntegerField(min_value=1)
    terms_hash = forms.CharField(max_length=64)
    confirmed = forms.CharField(required=False)
    quantity = forms.DecimalField(required=False, max_digits=14, decimal_places=2)

    def __init__(self, *args: Any, proposal: Proposal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.proposal = proposal

    @property
    def asks_again(self) -> bool:
        """True while the second yes is missing and nothing wrong was typed: ask, do not scold."""
        level = self.proposal.risk_level
        if level == RiskLevel.HIGH:
            return not self.data.get("quantity")
        return level == RiskLevel.MEDIUM and self.data.get("confirmed") != "yes"

    def clean_quantity(self) -> Decimal | None:
        """HIGH: the number typed must be the number approved."""
        typed: Decimal | None = self.cleaned_data["quantity"]
        if self.proposal.risk_level == RiskLevel.HIGH and typed != self.proposal.quantity:
            raise forms.ValidationError(
                f"Type {count_text(self.proposal.quantity)}, the quantity of this proposal."
            )
        return typed


class DeclineForm(forms.Form):
    """A reason by choice, by words, or both; it goes back to the proposer."""

    version = forms.IntegerField(min_value=1)
    terms_hash = forms.CharField(max_length=64)
    why = forms.ChoiceField(choices=[(reason, reason) for reason in REASONS], required=False)
    words = forms.CharField(max_length=400, required=False)

    @property
    def reason(self) -> str:
        chosen, words = self.cleaned_data["why"], self.cleaned_data["words"].strip()
        return ": ".join(part for part in (chosen, words) if part) or "no reason given"
