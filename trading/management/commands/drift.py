"""`manage.py drift list|acknowledge`: what changed at the exchange, from a terminal, without web, Redis or Celery."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from portfolio import risk
from trading.market_data import drift
from trading.models import DriftNote


class Command(BaseCommand):
    help = (
        "List what changed at the exchange and nobody has acknowledged; acknowledge by number, with a reason."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["list", "acknowledge"])
        parser.add_argument("numbers", nargs="*", type=int, help="of the lines to acknowledge")
        parser.add_argument("--reason", default="", help="why it is safe; kept in the audit trail")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, act: str, numbers: list[int], reason: str, **options: Any) -> None:
        """Acknowledging does not resume trading: `manage.py trade resume` does, afterwards."""
        if act == "acknowledge":
            _acknowledge(numbers, reason)
        standing = list(DriftNote.objects.standing(settings.KALSHI_PROFILE))
        if options["json"]:
            self.stdout.write(json.dumps([_as_json(note) for note in standing]))
            return
        for note in standing:
            touches = "MONEY" if note.is_money else "     "
            self.stdout.write(
                f"{note.pk:>5}  {touches}  {note}  {note.count}x, last {note.last_at:%d %b %H:%M:%S} UTC"
            )
        if not standing:
            self.stdout.write("nothing stands that nobody has acknowledged")


def _acknowledge(numbers: list[int], reason: str) -> None:
    found = DriftNote.objects.filter(venue=settings.KALSHI_PROFILE, pk__in=numbers)
    if not numbers or found.count() != len(set(numbers)):
        raise CommandError("name the lines by their numbers, as `list` shows them")
    if not reason.strip():
        raise CommandError("say why it is safe: --reason")
    for note in found:
        drift.acknowledge(note=note, actor=f"{getpass.getuser()}{risk.AT_TERMINAL}", reason=reason)


def _as_json(note: DriftNote) -> dict[str, Any]:
    return {
        "id": note.pk,
        "kind": note.kind,
        "place": note.place,
        "field": note.field,
        "found": note.found,
        "is_money": note.is_money,
        "count": note.count,
        "first_at": note.first_at.isoformat(),
        "last_at": note.last_at.isoformat(),
    }
