"""The baseline of `orders.py`: the whole desk, but its execution sends each order the usual way (`usual_execution`).

python -m benchmarks.usual_desk --port 8000
"""

from __future__ import annotations

import argparse
import os
import sys
from unittest import mock

import django


def main() -> int:
    """What `manage.py up` does, with one process exchanged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.usual_desk")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kalshi_site.settings")
    django.setup()
    from kalshi_site.management.supervisor import start
    from kalshi_site.management.supervisor.children import ChildSpec
    from kalshi_site.management.supervisor.plan import Plan

    class UsualPlan(Plan):
        def _command(self, name: str, title: str, keys: tuple[str, ...]) -> ChildSpec:
            if name != "execution":
                return super()._command(name, title, keys)
            return self._django(name, title, [sys.executable, "-m", "benchmarks.usual_execution"], keys)

    with mock.patch.object(start, "Plan", UsualPlan):
        return start.foreground(start.Wishes(port=port))


if __name__ == "__main__":
    sys.exit(main())
