"""Addresses of the API, without trailing slash. Everything below `/api/` that is not here is a problem document too."""

from __future__ import annotations

from csp.decorators import csp_update
from django.contrib.auth.decorators import login_required
from django.urls import include, path, re_path, register_converter

from approvals import api as approvals
from kalshi_site.api.breakers import BreakerList, BreakerReset
from kalshi_site.api.docs import Docs, OpenApi, Unknown
from kalshi_site.api.door import door
from kalshi_site.api.health import Health
from kalshi_site.api.sync import StateSync
from portfolio import api as portfolio
from trading.api import (
    autonomy,
    drifts,
    history,
    liquidations,
    markets,
    orders,
    reconciliation,
    repeats,
    state,
)


class Name:
    """An id or a ticker: one part of a path, without the NUL that no database takes."""

    regex = r"[^/\x00]{1,120}"

    def to_python(self, value: str) -> str:
        """As it stands."""
        return value

    def to_url(self, value: str) -> str:
        """As it stands."""
        return value


register_converter(Name, "name")

# Swagger UI carries its icons inside its style sheet.
_with_icons = csp_update({"img-src": ["data:"]})

v1 = [
    path("proposals", door(approvals.ProposalList)),
    path("proposals/<name:public_id>", door(approvals.ProposalDetail)),
    path("proposals/<name:public_id>/approve", door(approvals.ProposalApprove)),
    path("proposals/<name:public_id>/decline", door(approvals.ProposalDecline)),
    path("proposals/<name:public_id>/repeat", door(repeats.ProposalRepeat)),
    path("orders", door(orders.OrderList)),
    path("orders/cancel-all", door(orders.OrderCancelAll)),
    path("orders/<name:public_id>", door(orders.OrderDetail)),
    path("orders/<name:public_id>/cancel", door(orders.OrderCancel)),
    path("orders/<name:public_id>/decrease", door(orders.OrderDecrease)),
    path("fills", door(orders.FillList)),
    path("positions", door(portfolio.PositionList)),
    path("positions/<name:ticker>", door(portfolio.PositionDetail)),
    path("positions/<name:ticker>/close", door(orders.PositionClose)),
    path("portfolio", door(portfolio.Portfolio)),
    path("markets", door(markets.MarketList)),
    path("markets/<name:ticker>", door(markets.MarketDetail)),
    path("markets/<name:ticker>/orderbook", door(markets.MarketBook)),
    path("markets/<name:ticker>/history", door(history.MarketHistory)),
    path("trading/state", door(state.State)),
    path("trading/pause", door(state.Pause)),
    path("trading/resume", door(state.Resume)),
    path("trading/halt", door(state.Halt)),
    path("trading/liquidate", door(liquidations.Liquidate)),
    path("trading/order-groups/reset", door(state.ResetNets)),
    path("trading/autonomy", door(autonomy.AutonomyLevelDoor)),
    path("exchange/drifts", door(drifts.DriftList)),
    path("exchange/drifts/<name:pk>/acknowledge", door(drifts.DriftAcknowledge)),
    path("breakers", door(BreakerList)),
    path("breakers/<name:name>/reset", door(BreakerReset)),
    path("reconciliation", door(reconciliation.WorkItemList)),
    path("reconciliation/last", door(reconciliation.LastComparison)),
    path("reconciliation/<name:public_id>", door(reconciliation.WorkItemDetail)),
    path("reconciliation/<name:public_id>/acknowledge", door(reconciliation.WorkItemAcknowledge)),
    path("reconciliation/<name:public_id>/resolve", door(reconciliation.WorkItemResolve)),
    path("state", door(StateSync)),
    path("health", door(Health)),
    path("openapi.json", door(OpenApi), name="openapi"),
]

urlpatterns = [
    path("v1/", include(v1)),
    path("docs", login_required(_with_icons(Docs.as_view())), name="api-docs"),
    re_path(r"^.*$", door(Unknown)),
]
