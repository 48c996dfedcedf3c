"""The API's description as a file."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.api.schema import openapi_text


class Command(BaseCommand):
    help = "Print the OpenAPI description, or write docs/reference/openapi.json with --write."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One switch."""
        parser.add_argument("--write", action="store_true", help="write the file instead of printing it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print or write."""
        if not options["write"]:
            self.stdout.write(openapi_text(), ending="")
            return
        path = settings.BASE_DIR / "docs" / "reference" / "openapi.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(openapi_text(), encoding="utf-8")
        self.stdout.write(f"wrote {path.relative_to(settings.BASE_DIR)}")
