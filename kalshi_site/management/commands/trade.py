"""`manage.py trade`: trading state, liquidation and autonomy from a terminal, without web, Redis or Celery."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from kalshi_site import locks, wiring
from kalshi_site.build import build_id
from kalshi_site.env import ConfigError
from kalshi_site.frozen_writer import end_frozen_writer
from kalshi_site.versioning import StaleVersion
from portfolio import risk
from portfolio.domain import scopes
from portfolio.domain.autonomy import MEANINGS, AutonomyLevel
from portfolio.models import TradingState
from trading.exchange.errors import ExchangeError, KeyFileRefused
from trading.execution import liquidation, nets, stand_in
from trading.execution.wake import wake
from trading.models import Liquidation, Order

Row = TypeVar("Row")
WITHIN = 30.0  # seconds to wait for the proof that a stop is at rest
GRACE = 5.0  # seconds beyond it for the last word
UNPROVEN = 1  # exit code: the stop stands, but the exchange's list has not shown it at rest


class Command(BaseCommand):
    help = (
        "Show or change the trading state: pause (only exits pass), halt (cancels working orders and waits until the"
        " exchange lists none), resume; reset lets an order group that has tripped take orders again; liquidate also"
        " sells what is held; autonomy shows or changes how much the analyst may do by itself;"
        " accept-build lets the code of this directory send orders, and no other."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "act",
            choices=["status", "pause", "halt", "resume", "reset", "liquidate", "autonomy", "accept-build"],
        )
        parser.add_argument(
            "level", nargs="?", choices=list(AutonomyLevel), help="autonomy: show it, or off, propose, auto"
        )
        parser.add_argument(
            "--scope", default="all", help="all, strategy:NAME, series:TICKER or market:TICKER"
        )
        parser.add_argument("--reason", default="", help="kept in the history and the audit trail")
        parser.add_argument(
            "--within",
            type=float,
            help=f"seconds to wait for a stop to be at rest ({WITHIN:.0f}), or for a liquidation"
            f" ({liquidation.WITHIN.total_seconds():.0f})",
        )
        parser.add_argument("--slippage", default="0.05", help="liquidate: most dollars below the best bid")
        parser.add_argument("--yes", action="store_true", help="liquidate without the question")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        """The same activities as the page's buttons, in the name of the terminal's user."""
        try:
            scope = scopes.parse(options["scope"])
        except scopes.UnknownScope as error:
            raise CommandError(f"{error.code} {error}", returncode=2) from error
        if act != "status" and (ended := end_frozen_writer(_actor(), person=True)):
            self.stderr.write(
                f"process {ended} was frozen inside a write and kept the database: it was ended"
            )
        others: dict[str, Callable[[], None]] = {
            "liquidate": lambda: self._liquidate(options),
            "autonomy": lambda: self._autonomy(options),
            "accept-build": lambda: self._accept_build(options["reason"]),
            "reset": lambda: self._reset(options["reason"]),
        }
        others.get(act, lambda: self._show_or_change(act, scope, options))()

    def _show_or_change(self, act: str, scope: str, options: dict[str, Any]) -> None:
        state = _act(act, scope, _actor(), options["reason"])
        if doubt := risk.doubt_of(scope):
            self.stderr.write(doubt)
        at_rest = act != "halt" or self._wait(WITHIN if options["within"] is None else options["within"])
        if at_rest:
            state.refresh_from_db()
        if act == "pause" and state.mode == TradingState.Mode.HALTED:
            self.stderr.write("already stopped: a pause loosens no stop; resume it with a reason")
        self.stdout.write(_as_json(state) if options["json"] else _as_text(state))
        if not at_rest:
            sys.exit(UNPROVEN)

    def _autonomy(self, options: dict[str, Any]) -> None:
        """Show the level, or change it in the name of the terminal's user."""
        venue = settings.KALSHI_PROFILE
        row = risk.autonomy(venue)
        if options["level"] is not None:
            row = _refused_as_command_error(
                lambda: risk.set_autonomy(
                    venue=venue,
                    level=AutonomyLevel(options["level"]),
                    actor=_actor(),
                    reason=options["reason"],
                )
            )
        said = {
            "venue": venue,
            "autonomy": row.level,
            "version": row.version,
            "changed_by": row.changed_by,
            "reason": row.reason,
        }
        meaning = MEANINGS[AutonomyLevel(row.level)]
        who = f", by {row.changed_by}: {row.reason or '–'}" if row.changed_by else ""
        self.stdout.write(json.dumps(said) if options["json"] else f"{venue} {row.level}: {meaning}{who}")

    def _accept_build(self, reason: str) -> None:
        """Let the code of this directory claim; an execution that runs another claims nothing more."""
        if not reason.strip():
            raise CommandError("E010 say why: it stands in the record", returncode=2)
        risk.accept_build(venue=settings.KALSHI_PROFILE, build=build_id(), actor=_actor(), reason=reason)
        self.stdout.write(f"build {build_id()} may send orders; restart execution where it runs another")

    def _wait(self, within: float) -> bool:
        """Wait for the proof. The stop itself stands already, whatever comes of this."""
        try:
            at_rest = stand_in.bring_to_rest(settings.KALSHI_PROFILE, wiring.stand_in, within=within)
        except KeyFileRefused as error:
            self.stderr.write(f"{error.code} {error}; start execution: it cancels what works")
            return False
        if not at_rest:
            self.stderr.write(
                "E610 stopped, but orders are still listed or under way: look at the exchange now"
            )
        return at_rest

    def _reset(self, reason: str) -> None:
        try:
            asked = nets.ask_to_reset(venue=settings.KALSHI_PROFILE, actor=_actor(), reason=reason)
        except risk.ReasonMissing as refused:
            raise CommandError(f"{refused.code} {refused}", returncode=3) from refused
        wake()
        told = (
            f"{asked} order groups: execution resets them; then resume"
            if asked
            else "no order group has tripped"
        )
        self.stdout.write(told)

    def _liquidate(self, options: dict[str, Any]) -> None:
        try:
            slippage = Decimal(options["slippage"])
        except InvalidOperation as error:
            raise CommandError(
                f"E011 {options['slippage']!r} is no amount of dollars", returncode=2
            ) from error
        if not options["yes"] and input("Sell everything that is held? Type LIQUIDATE: ") != "LIQUIDATE":
            raise CommandError("nothing was done", returncode=3)
        given = options["within"]
        within = liquidation.WITHIN if given is None else timedelta(seconds=given)
        try:
            row = liquidation.request(
                venue=settings.KALSHI_PROFILE,
                actor=_actor(),
                reason=options["reason"] or "liquidation",
                slippage=slippage,
                within=within,
            )
        except liquidation.SlippageOutOfRange as error:
            raise CommandError(f"{error.code} {error}", returncode=2) from error
        wake()
        over = self._follow(row, within.total_seconds() + GRACE)
        left = liquidation.remaining(settings.KALSHI_PROFILE)
        if options["json"]:
            self.stdout.write(json.dumps({"id": row.public_id, "over": over, "remaining": left}))
        if left or not over:
            sys.exit(UNPROVEN)

    def _follow(self, row: Liquidation, within: float) -> bool:
        """Tell each step as it is written down; do the work as soon as execution does not. False after `within` s."""
        told, deadline = 0, time.monotonic() + within
        while time.monotonic() < deadline:
            over = Liquidation.objects.filter(pk=row.pk).exclude(finished_at=None).exists()
            for event in row.events.filter(pk__gt=told):
                told = event.pk
                self.stdout.write(str(event))
            if over:
                return True
            try:
                stand_in.sell_out(row.venue, wiring.whole_stand_in, pause=time.sleep)
            except KeyFileRefused as error:
                self.stderr.write(f"{error.code} {error}; start execution: it sells what is held")
                return False
            except ConfigError as error:
                self.stderr.write(f"{error} Nothing is sold; what works is canceled")
                self._wait(WITHIN)
                return False
            except (ExchangeError, locks.Busy, locks.Outrun) as error:
                self.stderr.write(f"not yet: {error}")
                time.sleep(1)
        self.stderr.write("E610 the liquidation has not come to its end: look at the exchange now")
        return False


def _act(act: str, scope: str, actor: str, reason: str) -> TradingState:
    venue = settings.KALSHI_PROFILE
    deeds = {"halt": risk.halt, "pause": risk.pause, "resume": risk.resume}
    if act == "status":
        return risk.trading_state(venue, scope=scope)
    state = _refused_as_command_error(
        lambda: deeds[act](venue=venue, actor=actor, reason=reason, scope=scope)
    )
    wake()
    return state


def _actor() -> str:
    return f"{getpass.getuser()}{risk.AT_TERMINAL}"


def _refused_as_command_error(deed: Callable[[], Row]) -> Row:
    try:
        return deed()
    except (risk.ResumeRefused, risk.ReasonMissing, risk.SecondPersonNeeded, StaleVersion) as refused:
        raise CommandError(f"{refused.code} {refused}", returncode=3) from refused


def _as_text(state: TradingState) -> str:
    lines = [_line(state)]
    lines += [_line(each) for each in risk.standing(state.venue) if each.pk != state.pk]
    return "\n".join(lines)


def _line(state: TradingState) -> str:
    orders = Order.objects.open().in_scope(state.scope).filter(venue=state.venue).count()
    since = f"since {state.changed_at:%Y-%m-%d %H:%M:%S} UTC" if state.changed_by else "since the start"
    who = f" by {state.changed_by}" if state.changed_by else ""
    why = f": {state.reason}" if state.reason else ""
    rest = f"; the exchange lists none since {state.cleared_at:%H:%M:%S}" if state.cleared_at else ""
    of = f" {state.scope}" if state.scope else ""
    return f"{state.venue}{of} {state.mode} {since}{who}{why}; {orders} orders open{rest}"


def _as_json(state: TradingState) -> str:
    return json.dumps(
        {
            "venue": state.venue,
            "scope": state.scope or "all",
            "mode": state.mode,
            "version": state.version,
            "changed_at": state.changed_at.isoformat(),
            "changed_by": state.changed_by,
            "reason": state.reason,
            "cleared_at": state.cleared_at.isoformat() if state.cleared_at else None,
            "open_orders": Order.objects.open().in_scope(state.scope).filter(venue=state.venue).count(),
            "standing": {each.scope or "all": each.mode for each in risk.standing(state.venue)},
        }
    )
