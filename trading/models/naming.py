"""Whether a scope of the trading state names something that this desk has ever heard of."""

from __future__ import annotations

from approvals.models import Proposal
from trading.models.market import Market
from trading.models.order import Order


def goes_by(scope: str) -> bool:
    """A market or series of the catalogue or of an order, or a strategy that has proposed. Everything always does."""
    kind, _, name = scope.partition(":")
    match kind:
        case "market":
            rows = Market.objects.filter(ticker=name), Order.objects.filter(ticker=name)
            return any(each.exists() for each in rows)
        case "series":
            known = Market.objects.filter(series_ticker=name), Proposal.objects.filter(series_ticker=name)
            return any(each.exists() for each in known)
        case "strategy":
            return Proposal.objects.filter(strategy=name).exists()
    return True
