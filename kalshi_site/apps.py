"""The project as an app: its models, its checks, its task queue."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class KalshiSiteConfig(AppConfig):
    """Registers the checks and makes the Celery application the current one."""

    name = "kalshi_site"
    verbose_name = "Desk"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import for effect: checks register themselves, tasks find the Celery application. Trust the named CA."""
        from kalshi_site import celery, checks  # noqa: F401
        from kalshi_site.management import guarding
        from trading.exchange import tls

        tls.trust_also(settings.KALSHI_CA_FILE)
        guarding.connect()
