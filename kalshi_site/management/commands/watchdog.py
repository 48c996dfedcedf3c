"""`manage.py watchdog`: trips the order groups when execution falls silent."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site import heartbeat, wiring


class Command(BaseCommand):
    help = "Watch the execution process, and have the exchange end our orders when it falls silent for ten seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        heartbeat.begin("watchdog")
        wiring.watchdog(stop, on_ready=_tell_ready).run()


def _tell_ready() -> None:
    """Leave the file that the supervisor waits for."""
    if settings.KALSHI_READY_FILE is not None:
        Path(settings.KALSHI_READY_FILE).write_text(str(os.getpid()), encoding="utf-8")
