"""`manage.py status`: what runs now. Exit status 0 when the desk is ready, else 1."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.state import ChildState, running_state


class Command(BaseCommand):
    help = "Show the processes of the running desk."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        state = running_state(Layout(settings.VAR_DIR))
        if options["json"]:
            self.stdout.write(json.dumps(asdict(state) if state else {"phase": "stopped"}, indent=2))
        elif state is None:
            self.stdout.write("The desk is not running. Start it with: make run")
        else:
            self.stdout.write(f"{state.phase}: {state.url} (profile {state.profile}, supervisor {state.pid})")
            for child in state.processes.values():
                self.stdout.write(_line(child))
            for name in state.degraded:
                self.stdout.write(f"  degraded: {name} is the pure-Python stand-in")
        sys.exit(0 if state is not None and state.phase == "ready" else 1)


def _line(child: ChildState) -> str:
    sign = {"ready": "✓", "starting": "…", "restarting": "!"}.get(child.state, "✗")
    age = f"{time.time() - child.since:.0f} s" if child.since else ""
    restarts = f"{child.restarts} restarts" if child.restarts else ""
    words = (
        f"{child.title:<15}",
        f"{child.state:<10}",
        f"{age:>8}",
        f"{child.pid or '':>7}",
        restarts,
        child.detail,
    )
    return f"  {sign} {' '.join(str(word) for word in words)}".rstrip()
