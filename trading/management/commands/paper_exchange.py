"""`manage.py paper_exchange`: the paper exchange, which knows nothing of Django, in this process."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from trading.paper import cli


class Command(BaseCommand):
    help = "Run the paper exchange (the same as python -m trading.paper)."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(cli.serve(argparse.Namespace(**options)))
