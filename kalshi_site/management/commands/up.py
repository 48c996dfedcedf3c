"""`manage.py up`: everything, by one command."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kalshi_site.env import ConfigError
from kalshi_site.management.supervisor import start
from kalshi_site.management.supervisor.children import ChildFailed
from kalshi_site.management.supervisor.layout import UnsafeDirectory
from kalshi_site.management.supervisor.modes import MODES, enter_mode
from kalshi_site.management.supervisor.ports import NoPort


class Command(BaseCommand):
    help = "Start the whole desk on this machine, and stop it with Ctrl+C."
    # Refusals are printed with their codes below; an unreachable database must not hide them.
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, help="web port; a busy one moves on (default: PORT, else 8000)"
        )
        parser.add_argument("--detach", action="store_true", help="return when everything is ready")
        parser.add_argument("--open", action="store_true", help="open the browser when ready")
        parser.add_argument(
            "--mode", choices=MODES, help="paper, or Kalshi's demo exchange (default: KALSHI_PROFILE)"
        )
        parser.add_argument("--no-demo", action="store_true", help="make no demo logins")

    def handle(self, *args: Any, **options: Any) -> None:
        enter_mode(options["mode"] or settings.STATED_PROFILE)
        wishes = start.Wishes(
            port=options["port"] or settings.PORT, demo=not options["no_demo"], browse=options["open"]
        )
        try:
            code = start.detached(wishes) if options["detach"] else start.foreground(wishes)
        except ConfigError as refused:
            self.stderr.write(str(refused))
            code = 3
        except KeyboardInterrupt:
            code = 130
        except (UnsafeDirectory, NoPort) as refused:
            self.stderr.write(str(refused))
            code = 1
        except ChildFailed as failed:
            self.stderr.write(f"\n{failed}. Its last lines:\n{failed.tail}\n\nmake doctor tells more.")
            code = 1
        sys.exit(code)
