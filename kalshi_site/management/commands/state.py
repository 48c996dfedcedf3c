"""`manage.py state status|begin-anew`: the numbered state that pages and scripts follow, and its new beginning."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from kalshi_site.live import witness
from kalshi_site.models import TopicHead
from portfolio import risk
from trading.execution import restored

REFUSED = 3


class Command(BaseCommand):
    help = (
        "Show where every topic stands. After a restore or a repair by hand: begin a new numbering, so that every"
        " client takes the state afresh; pause, and void what was approved and not sent."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["status", "begin-anew"])
        parser.add_argument("--reason", default="", help="kept in the audit trail; begin-anew needs it")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        """Exit code 3 when begin-anew is given no reason."""
        told = _status() if act == "status" else _begin_anew(options["reason"].strip())
        self.stdout.write(json.dumps(told) if options["json"] else _as_text(told))


def _status() -> dict[str, Any]:
    return {"topics": _topics(), "went_back": witness.went_back()}


def _begin_anew(reason: str) -> dict[str, Any]:
    if not reason:
        raise CommandError("E010 say why with --reason; it stands in the record", returncode=REFUSED)
    actor = f"{getpass.getuser()}{risk.AT_TERMINAL}"
    done = restored.begin_anew(venue=settings.KALSHI_PROFILE, actor=actor, reason=reason)
    return {"topics": _topics(), "voided": done.voided}


def _topics() -> dict[str, dict[str, Any]]:
    rows = TopicHead.objects.order_by("topic")
    return {row.topic: {"epoch": row.epoch, "version": row.version} for row in rows}


def _as_text(told: dict[str, Any]) -> str:
    lines = [f"{name:<10} {row['epoch']}:{row['version']}" for name, row in told["topics"].items()]
    if "voided" in told:
        voided = ", ".join(told["voided"]) or "none"
        lines.append(f"A new numbering has begun. Approvals voided: {voided}.")
        lines.append("Next: compare with the exchange (manage.py trade status), then resume with a reason.")
    elif told["went_back"]:
        lines.append(f"The database went back in time ({', '.join(told['went_back'])}): state begin-anew.")
    return "\n".join(lines) or "Nothing has been numbered yet."
