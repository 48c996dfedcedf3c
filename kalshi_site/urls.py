"""Addresses of pages, API and health answers."""

from __future__ import annotations

from typing import Any

from allauth.account import views as account
from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from kalshi_site.views import dashboard, door, faults, frame, health
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
    path("help/errors", pages.errors, name="help-errors"),
    path("help/errors/<str:code>", pages.error, name="help-error"),
    path("help/keys", pages.keys, name="help-keys"),
    path("api/", include("kalshi_site.api.urls")),
    path("", include("trading.urls")),
    path("", include("approvals.urls")),
    path("", include("portfolio.urls")),
]
