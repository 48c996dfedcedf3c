"""`manage.py check_invariants`: whether everything that must always hold does hold, now."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from trading.engine.invariants import INVARIANTS, Breach, broken


class Command(BaseCommand):
    help = "Check what must hold at every moment. Exit code 0 when it does, 1 when something is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the verdict; the exit code repeats it for scripts."""
        found = broken(settings.KALSHI_PROFILE)
        self.stdout.write(_as_json(found) if options["json"] else _as_text(found))
        if found:
            sys.exit(1)


def _as_json(found: list[Breach]) -> str:
    return json.dumps({"checked": len(INVARIANTS), "broken": [asdict(each) for each in found]})


def _as_text(found: list[Breach]) -> str:
    if not found:
        return f"All {len(INVARIANTS)} invariants hold."
    lines = [f"✗ {each.promise} ({each.name}: {each.count}) {', '.join(each.examples)}" for each in found]
    return "\n".join(
        [*lines, f"{len(found)} of {len(INVARIANTS)} invariants are broken: pause and look before trading."]
    )
