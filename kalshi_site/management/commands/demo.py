"""`manage.py demo reset` and `demo credentials`: the paper desk's own data."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection

from kalshi_site import guards
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.state import AlreadyRunning, RunLock


class Command(BaseCommand):
    help = "Show the demo logins, or start over with an empty paper desk."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", choices=["reset", "credentials"])
        parser.add_argument("--yes", action="store_true", help="reset without asking")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        layout = Layout(settings.VAR_DIR)
        if settings.KALSHI_PROFILE != "paper":
            self.stderr.write("E953 demo data exist in the profile paper only.")
            sys.exit(3)
        if options["what"] == "credentials":
            self._credentials(layout, as_json=options["json"])
        else:
            self._reset(layout, asked=options["yes"])

    def _credentials(self, layout: Layout, *, as_json: bool) -> None:
        if not layout.credentials.exists():
            self.stderr.write("There are none yet. Run: make run")
            sys.exit(1)
        text = layout.credentials.read_text(encoding="utf-8")
        if as_json:
            self.stdout.write(text)
            return
        for login in json.loads(text)["users"]:
            self.stdout.write(f"{login['username']:<9} {login['password']}")

    def _reset(self, layout: Layout, *, asked: bool) -> None:
        layout.make()
        question = f"Delete all proposals, orders, positions and logins of {layout.var}? [y/N] "
        if not asked and (not sys.stdin.isatty() or input(question).strip().lower() != "y"):
            self.stderr.write("Nothing was deleted. Say --yes, or answer y.")
            sys.exit(3)
        lock = RunLock(layout)
        try:
            lock.take()
        except AlreadyRunning:
            self.stderr.write("The desk is running. Stop it first: make stop")
            sys.exit(3)
        empty(layout)
        lock.release()
        self.stdout.write("The paper desk is empty. Start it with: make run")


def empty(layout: Layout) -> None:
    """Remove the paper desk's rows, exchange and logins. Backups, logs and the secret stay."""
    if connection.vendor == "sqlite":
        connection.close()
        for path in layout.var.glob("db.sqlite3*"):
            path.unlink()
    else:
        call_command("migrate", interactive=False, verbosity=0)
        guards.remove(connection)  # flush makes them anew
        call_command("flush", interactive=False, verbosity=0)
    shutil.rmtree(layout.paper, ignore_errors=True)
    for path in (layout.credentials, layout.var / "deployment_id", layout.state, layout.runtime):
        path.unlink(missing_ok=True)
