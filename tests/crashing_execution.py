"""The real execution process, with a kill -9 of itself at a named point. Run by the crash tests as a process.

python -m tests.crashing_execution POINT    POINT: one of checkpoints.CRASH_POINTS, or never
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import timedelta


def main(point: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    import django

    django.setup()
    from dataclasses import replace

    from kalshi_site import wiring
    from trading.execution import checkpoints
    from trading.execution.reconcile import Evidence

    def die_at(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    execution = wiring.execution(stop, on_ready=lambda: print("ready", flush=True))
    checkpoints.observe(die_at)
    # Short waits: the suite has no ninety seconds. What counts as evidence stays the same.
    quick = Evidence(latest_arrival=timedelta(seconds=2), scan_gap=timedelta(seconds=0.1))
    execution.reconciler = replace(execution.reconciler, evidence=quick)
    execution.lease_ttl = timedelta(seconds=1.5)
    execution.run()


if __name__ == "__main__":
    main(sys.argv[1])
