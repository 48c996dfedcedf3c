"""`manage.py stop`: end the running desk in order; end what a killed one left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.leftovers import end_leftovers
from kalshi_site.management.supervisor.state import AlreadyRunning, RunLock, running_state

PATIENCE_SECONDS = 8.0


class Command(BaseCommand):
    help = "Stop the desk started by make run."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(0 if self.stop(Layout(settings.VAR_DIR)) else 1)

    def stop(self, layout: Layout) -> bool:
        """Whether nothing runs any more."""
        layout.make()
        state = running_state(layout)
        if state is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGTERM)
        lock = RunLock(layout)
        try:
            lock.take(patience=PATIENCE_SECONDS if state else 0)
        except AlreadyRunning:
            self.stderr.write(
                f"The supervisor (pid {state.pid if state else 'unknown'}) does not end. See make logs."
            )
            return False
        gone = end_leftovers(layout.run)
        layout.runtime.unlink(missing_ok=True)
        lock.release()
        if gone:
            self.stdout.write(f"Ended what a killed run had left: {', '.join(gone)}.")
        self.stdout.write("Stopped." if state else "The desk was not running.")
        return True
