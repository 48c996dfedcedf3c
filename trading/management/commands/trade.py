"""`manage.py trade status|pause|halt|resume`: the trading state from a terminal, without web, Redis or Celery."""

from __future__ import annotations

import getpass
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from portfolio import risk
from portfolio.models import TradingState
from trading.execution.wake import wake
from trading.models import Order


class Command(BaseCommand):
    help = "Show or change the trading state: pause (only exits pass), halt (cancels working orders), resume."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=["status", "pause", "halt", "resume"])
        parser.add_argument("--reason", default="", help="kept in the history and the audit trail")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, act: str, reason: str, **options: Any) -> None:
        """The same activities as the page's buttons, in the name of the terminal's user."""
        state = _act(act, f"{getpass.getuser()} at the terminal", reason)
        self.stdout.write(_as_json(state) if options["json"] else _as_text(state))


def _act(act: str, actor: str, reason: str) -> TradingState:
    venue = settings.KALSHI_PROFILE
    if act == "status":
        return risk.trading_state(venue)
    if act == "halt":
        state = risk.halt(venue=venue, actor=actor, reason=reason)
    elif act == "pause":
        state = risk.pause(venue=venue, actor=actor, reason=reason)
    else:
        state = risk.resume(venue=venue, actor=actor, reason=reason)
    wake()
    return state


def _as_text(state: TradingState) -> str:
    open_orders = Order.objects.open().filter(venue=state.venue).count()
    since = f"since {state.changed_at:%Y-%m-%d %H:%M:%S} UTC" if state.changed_by else "since the start"
    who = f" by {state.changed_by}" if state.changed_by else ""
    why = f": {state.reason}" if state.reason else ""
    return f"{state.venue} {state.mode} {since}{who}{why}; {open_orders} orders open"


def _as_json(state: TradingState) -> str:
    return json.dumps(
        {
            "venue": state.venue,
            "mode": state.mode,
            "version": state.version,
            "changed_at": state.changed_at.isoformat(),
            "changed_by": state.changed_by,
            "reason": state.reason,
            "open_orders": Order.objects.open().filter(venue=state.venue).count(),
        }
    )
