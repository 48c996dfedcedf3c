"""`manage.py logs [NAME]`: the last lines of the processes' logs, in the order of time where one name is given."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from kalshi_site.management.supervisor.layout import Layout


class Command(BaseCommand):
    help = "Show the logs under var/log."
    requires_system_checks: list[str] = []  # noqa: RUF012  # as Django declares it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", help="processes, such as web or execution (default: all)")
        parser.add_argument("-n", "--lines", type=int, default=20)
        parser.add_argument("-f", "--follow", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        paths = _chosen(Layout(settings.VAR_DIR), options["names"])
        for path in paths:
            for line in _last_lines(path, options["lines"]):
                self._show(path, line)
        if options["follow"]:
            self._follow(paths)

    def _follow(self, paths: list[Path]) -> None:
        files = {path: path.open(encoding="utf-8", errors="replace") for path in paths}
        for file in files.values():
            file.seek(0, 2)
        try:
            while True:
                for path, file in files.items():
                    for line in _new_lines(file):
                        self._show(path, line)
                time.sleep(0.3)
        except KeyboardInterrupt:
            sys.exit(0)

    def _show(self, path: Path, line: str) -> None:
        self.stdout.write(f"{path.stem:<12} {line.rstrip()}")


def _chosen(layout: Layout, names: list[str]) -> list[Path]:
    known = sorted(layout.logs.glob("*.log"))
    if not names:
        return [path for path in known if path.stat().st_size]
    missing = set(names) - {path.stem for path in known}
    if missing:
        raise CommandError(
            f"no log of {', '.join(sorted(missing))}; there are {', '.join(p.stem for p in known)}"
        )
    return [path for path in known if path.stem in names]


def _last_lines(path: Path, count: int) -> list[str]:
    # 400 bytes hold an ordinary line; longer ones shorten the list, they do not load the file.
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400 * count))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return lines[-count:]


def _new_lines(file: TextIO) -> list[str]:
    if Path(file.name).stat().st_size < file.tell():
        file.seek(0)  # The supervisor has rotated it.
    return file.readlines()
