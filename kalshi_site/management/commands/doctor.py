"""`manage.py doctor`: what is wrong with this machine or this clone, and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from kalshi_site.management.supervisor.doctor import examine, examine_exchange
from kalshi_site.management.supervisor.modes import MODES, enter_mode

SIGNS = {"ok": "✓", "warning": "!", "failure": "✗"}


class Command(BaseCommand):
    help = (
        "Look at Python, packages, settings, files, database, Redis, ports, exchange, clock; say what to do."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")
        parser.add_argument(
            "--exchange",
            action="store_true",
            help="look at the connection instead: address, TLS, clock, keys, scopes, limits, stream",
        )
        parser.add_argument(
            "--mode", choices=MODES, help="the profile to look at (default: the running desk's)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        enter_mode(options["mode"])
        findings = examine_exchange() if options["exchange"] else examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            for finding in findings:
                self.stdout.write(f"  {SIGNS[finding.verdict]} {finding.name:<18} {finding.detail}")
                if finding.verdict != "ok":
                    self.stdout.write(f"    {'':<18} → {finding.fix}")
        # 0: nothing, or warnings only; 1: something does not work.
        sys.exit(1 if any(finding.verdict == "failure" for finding in findings) else 0)
