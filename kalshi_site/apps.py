"""The project as an app: its models, its checks, its task queue."""

from __future__ import annotations

from django.apps import AppConfig


class KalshiSiteConfig(AppConfig):
    """Registers the checks and makes the Celery application the current one."""

    name = "kalshi_site"
    verbose_name = "Desk"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import for effect: checks register themselves, tasks find the Celery application."""
        from kalshi_site import celery, checks  # noqa: F401
