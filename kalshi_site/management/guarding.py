"""When guards come and go: away before a migration is applied, anew after every `migrate` and every `flush`."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from kalshi_site import guards


def connect() -> None:
    """Listen for migrations, once for all apps."""
    sender = apps.get_app_config("kalshi_site")
    pre_migrate.connect(_take_away, sender=sender, dispatch_uid="guards")
    post_migrate.connect(_make_anew, sender=sender, dispatch_uid="guards")


def _take_away(*, using: str, plan: list[Any], **_: Any) -> None:
    if plan:
        guards.remove(connections[using])


def _make_anew(*, using: str, **_: Any) -> None:
    guards.install(connections[using])
