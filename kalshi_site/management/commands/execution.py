"""`manage.py execution`: claims approved proposals and sends each order once."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site import heartbeat, live, wiring
from trading.execution import restored


class Command(BaseCommand):
    help = "Run the execution process of this account: the only one that sends orders."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        heartbeat.begin("execution")
        live.announce_in_background()
        restored.look(
            settings.KALSHI_PROFILE
        )  # before anything that a backup calls approved could be claimed
        wiring.execution(stop, on_ready=_tell_ready).run()


def _tell_ready() -> None:
    """Leave the file that the supervisor waits for."""
    gc.collect()
    gc.freeze()  # a whole collection of what stands for good takes as long as several orders
    if settings.KALSHI_READY_FILE is not None:
        Path(settings.KALSHI_READY_FILE).write_text(str(os.getpid()), encoding="utf-8")
