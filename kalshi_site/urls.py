"""Addresses of pages, API and health answers."""

from __future__ import annotations

from typing import Any

from allauth.account import views as account
from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from kalshi_site.views import (
    breakers,
    connect,
    dashboard,
    door,
    faults,
    frame,
    health,
    health_page,
    liquidate,
    reconciliation,
    risk_page,
)
from kalshi_site.views import help as pages

# The admin's own sign-in form would be a second door with weaker locks.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = "Kalshi Ops"
admin.site.index_title = "Records"

handler400 = faults.bad_request
handler403 = faults.forbidden
handler404 = faults.not_found
handler500 = faults.broken


urlpatterns: list[Any] = [
    path("", dashboard.dashboard, name="dashboard"),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("tradez", health.tradez, name="tradez"),
    path("metrics", health.metrics, name="metrics"),
    path("risk/liquidate", liquidate.liquidate, name="risk-liquidate"),
    path("risk", risk_page.risk_page, name="risk"),
    path("health", health_page.health, name="health"),
    path("health/acknowledge", health_page.acknowledge, name="health-acknowledge"),
    path("health/breakers", breakers.panel, name="health-breakers"),
    path("health/breakers/<slug:name>/reset", breakers.reset, name="health-breaker-reset"),
    path("reconciliation", reconciliation.page, name="reconciliation"),
    path("reconciliation/<str:public_id>/<str:act>", reconciliation.answer, name="work-item-answer"),
    path("admin/", admin.site.urls),
    # Of allauth only what the desk uses: nobody signs himself up, and there is no mail to reset a password by.
    path("accounts/login/", account.login, name="account_login"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/signup/", account.signup, name="account_signup"),
    path("accounts/inactive/", account.account_inactive, name="account_inactive"),
    path("accounts/reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("accounts/password/change/", account.password_change, name="account_change_password"),
    path("enter/<str:code>", door.enter, name="enter"),
    path("appearance", door.appearance, name="appearance"),
    path("frame/<str:name>", frame.part, name="frame-part"),
    path("help", pages.index, name="help"),
    path("help/connect", connect.connect, name="help-connect"),
    path("help/guides/<slug:name>", pages.guide, name="help-guide"),
    path("help/errors", pages.errors, name="help-errors"),
    path("help/errors/<str:code>", pages.error, name="help-error"),
    path("help/keys", pages.keys, name="help-keys"),
    path("api/", include("kalshi_site.api.urls")),
    path("", include("trading.urls")),
    path("", include("approvals.urls")),
    path("", include("portfolio.urls")),
]
