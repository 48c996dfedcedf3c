"""One host's execution: the real one, at the suite's tempo. It leaves its ready file when it leads.

python -m tests.reliability.host_execution
"""

from __future__ import annotations

import os
import threading
from pathlib import Path


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    import django

    django.setup()
    from django.conf import settings

    from kalshi_site import wiring
    from tests.reliability.hosts import TEMPO
    from trading.execution import restored

    restored.look(settings.KALSHI_PROFILE)
    execution = wiring.execution(threading.Event(), on_ready=Path(settings.KALSHI_READY_FILE).touch)
    TEMPO.set(execution).run()


if __name__ == "__main__":
    main()
