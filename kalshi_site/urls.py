"""Addresses of pages, API and health answers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.contrib import admin
from django.urls import include, path

from kalshi_site.views import health


def _of(app: str, prefix: str = "") -> list[Any]:
    module = f"{app}.urls"
    return [path(prefix, include(module))] if find_spec(module) else []


urlpatterns: list[Any] = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("tradez", health.tradez, name="tradez"),
    path("metrics", health.metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.account.urls")),
    *_of("trading"),
    *_of("approvals"),
    *_of("portfolio"),
]
