"""Addresses of positions and of the trading state."""

from django.urls import path

from portfolio import views

urlpatterns = [
    path("positions", views.positions, name="positions"),
    path("trading/state", views.trading_state, name="trading-state"),
    path("trading/resume", views.resume, name="trading-resume"),
]
