"""Portfolio: keeps the books and guards the limits."""

from django.apps import AppConfig


class PortfolioConfig(AppConfig):
    name = "portfolio"
