"""The reference page of errors, from the registry."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.errors import as_markdown


class Command(BaseCommand):
    help = "Print docs/reference/errors.md, or write it with --write."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One switch."""
        parser.add_argument("--write", action="store_true", help="write the file instead of printing it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print or write."""
        if not options["write"]:
            self.stdout.write(as_markdown(), ending="")
            return
        path = settings.BASE_DIR / "docs" / "reference" / "errors.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_markdown(), encoding="utf-8")
        self.stdout.write(f"wrote {path.relative_to(settings.BASE_DIR)}")
