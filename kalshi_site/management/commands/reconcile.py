"""`manage.py reconcile`: one full comparison with the exchange, now, by the read key. It books and never sends."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from kalshi_site import wiring
from trading.engine.update_cycle import compare_by_hand
from trading.exchange.errors import ExchangeError
from trading.execution.comparison import Reconciled
from trading.execution.reconcile import Reconciler
from trading.execution.rows import RowComparison, compare_rows
from trading.execution.work_kinds import suggestion
from trading.models import WorkItem

CLEAN: Final = 0
DIFFERENCES: Final = 1
ABORTED: Final = 2
SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """One comparison and what stands after it."""

    found: Reconciled
    rows: RowComparison | None
    items: list[WorkItem]
    took: float

    @property
    def is_clean(self) -> bool:
        return self.found.is_clean and not self.items and not (self.rows and self.rows.differences)


class Command(BaseCommand):
    help = (
        "Compare orders, fills, positions, cash and settlements with the exchange. Exit code 0 when all agree, 1 when"
        " something differs or waits for a person, 2 when the exchange could not be read whole."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--rows",
            action="store_true",
            help="also every order and fill, row by row, archived ones included",
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """What is missing here is booked, as the loop would; no order is sent, changed or canceled."""
        started = time.monotonic()
        try:
            answer = _compared(
                wiring.reconciler(signer=wiring.public_signer()), started, rows=options["rows"]
            )
        except (ExchangeError, DatabaseError) as error:
            self._aborted(error, as_json=options["json"])
            sys.exit(ABORTED)
        self.stdout.write(json.dumps(_as_json(answer)) if options["json"] else _as_text(answer))
        if not answer.is_clean:
            sys.exit(DIFFERENCES)

    def _aborted(self, error: Exception, *, as_json: bool) -> None:
        code = getattr(error, "code", "E801")
        if as_json:
            self.stdout.write(
                json.dumps({"outcome": "aborted", "code": code, "reason": str(error), "venue": _venue()})
            )
        self.stderr.write(f"{code} aborted, nothing is judged: {error}")


def _compared(reconciler: Reconciler, started: float, *, rows: bool) -> Answer:
    found = compare_by_hand(reconciler)
    by_row = compare_rows(_venue(), reconciler.records, reconciler.open_account(), found) if rows else None
    return Answer(found, by_row, list(WorkItem.objects.shown(_venue())), time.monotonic() - started)


def _venue() -> str:
    return settings.KALSHI_PROFILE


def _as_json(answer: Answer) -> dict[str, Any]:
    return {
        "outcome": "clean" if answer.is_clean else "differences",
        "venue": _venue(),
        "seconds": round(answer.took, 3),
        "areas": answer.found.areas,
        "adopted": answer.found.adopted,
        "differences": [
            {"kind": each.kind, "subject": each.subject, "exchange": each.theirs, "ours": each.ours}
            for each in answer.found.differences
        ],
        "rows": answer.rows.as_json() if answer.rows else None,
        "work_items": [_item(each) for each in answer.items],
    }


def _item(item: WorkItem) -> dict[str, Any]:
    told = suggestion(item)
    return {
        "id": item.public_id,
        "version": item.version,
        "kind": item.kind,
        "severity": item.severity,
        "state": item.state,
        "subject": item.subject,
        "exchange": item.theirs,
        "ours": item.ours,
        "since": item.first_at.isoformat(),
        "advice": told.text,
        "command": told.command,
        "page": told.page,
    }


def _as_text(answer: Answer) -> str:
    lines = [f"{'':<12} {'compared':>9} {'changed':>8} {'differ':>7}"]
    for area, count in answer.found.areas.items():
        lines.append(f"{area:<12} {count['compared']:>9} {count['changed']:>8} {count['differ']:>7}")
    lines += [
        f"  {each.kind} {each.subject}: exchange {each.theirs or '–'}, ours {each.ours or '–'}"
        for each in answer.found.differences
    ]
    if answer.rows is not None:
        lines += _rows(answer.rows)
    for item in answer.items:
        told = suggestion(item)
        lines += [f"{item.severity.upper()} {item.public_id} ({item.state}) {item}", f"  {told.text}"]
        lines += [f"  → {told.command}"] if told.command else []
    verdict = "Both sides agree." if answer.is_clean else "NOT CLEAN: see above, or /reconciliation."
    return "\n".join([*lines, f"{verdict} ({answer.took:.2f} s)"])


def _rows(rows: RowComparison) -> list[str]:
    counted = ", ".join(f"{count} {area}" for area, count in rows.compared.items())
    lines = [f"row by row: {counted}: {rows.matched:g} % match"]
    lines += [
        f"  {each.area} {each.key} {each.field}: exchange {each.theirs}, ours {each.ours}"
        for each in rows.differences[:SHOWN]
    ]
    more = len(rows.differences) - SHOWN
    return [*lines, f"  and {more} more"] if more > 0 else lines
