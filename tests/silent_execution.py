"""The real execution or watchdog process with short time constants. Run as a process by the tests of silence.

python -m tests.silent_execution execution ORDER_LIFE    seconds that an expiry lies ahead
python -m tests.silent_execution watchdog SILENT_AFTER   seconds without a heartbeat
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import timedelta


def main(what: str, seconds: float) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    import django

    django.setup()
    from dataclasses import replace

    from kalshi_site import wiring

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def ready() -> None:
        print("ready", flush=True)

    if what == "watchdog":
        dog = wiring.watchdog(stop, on_ready=ready)
        dog.silent_after, dog.look_every = seconds, 0.1
        dog.run()
        return
    execution = wiring.execution(stop, on_ready=ready)
    life = timedelta(seconds=seconds)
    execution.router.rules = replace(execution.router.rules, order_life=life, least_life=life)
    execution.lease_ttl = timedelta(seconds=2)
    execution.run()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
