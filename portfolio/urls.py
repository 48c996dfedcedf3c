"""Addresses of positions, limits, the trading state and the autonomy level."""

from django.urls import path

from portfolio.views import limits, positions, state

urlpatterns = [
    path("positions", positions.positions, name="positions"),
    path("trading/state", state.trading_state, name="trading-state"),
    path("trading/resume", state.resume, name="trading-resume"),
    path("trading/autonomy", state.autonomy, name="trading-autonomy"),
    path("trading/attend", state.attend, name="trading-attend"),
    path("risk/limits/<slug:name>", limits.edit, name="risk-limit"),
]
