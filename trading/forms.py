"""What the pages of trading may ask for in their address."""

from __future__ import annotations

from django import forms

from trading.domain.orders import OPEN, OrderState

_S = OrderState
# A tab of the orders page: its words and the states it holds. `unknown` counts as working until there is proof.
TABS: dict[str, tuple[str, frozenset[OrderState]]] = {
    "working": ("Working", OPEN),
    "filled": ("Filled", frozenset({_S.FILLED})),
    "canceled": ("Canceled", frozenset({_S.CANCELED, _S.EXPIRED})),
    "rejected": ("Rejected", frozenset({_S.REJECTED, _S.NOT_SENT, _S.ABSENT})),
}


class MarketFilter(forms.Form):
    """`?q=` finds in tickers and titles; `?category=` narrows."""

    q = forms.CharField(required=False, max_length=120)
    category = forms.CharField(required=False, max_length=80)
