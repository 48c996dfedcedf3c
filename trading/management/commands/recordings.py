"""`manage.py recordings verify|book`: judge a folder of recordings, and read a book out of it at any instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trading.recordings.cache import SourceChanged, cache_folder, open_columns
from trading.recordings.columns import NotKnown, RecordedBook
from trading.recordings.files import NoRecordingError
from trading.recordings.verify import MarketReport, Report, verify


class Command(BaseCommand):
    help = "Verify recordings of the exchange's stream, or show a recorded book at an instant."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        judge = acts.add_parser("verify", help="exit status 0 when every market is clean, else 1")
        judge.add_argument(
            "--processes", type=int, help="how many read at the same time (default: one a core)"
        )
        book = acts.add_parser(
            "book", help="the full book at an exchange time; exit status 1 when it is not known"
        )
        book.add_argument("--at", type=int, required=True, metavar="TS_MS", help="exchange's time, Unix ms")
        book.add_argument(
            "--cache", type=Path, metavar="DIR", help="where to keep the columns (default: DIR/.cache)"
        )
        for act in (judge, book):
            act.add_argument("dir", type=Path, metavar="DIR", help="a folder with events/ and metadata/")
            act.add_argument("--market", required=act is book, metavar="T", help="this market only")
            act.add_argument("--json", action="store_true")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        try:
            if act == "verify":
                self._verify(**options)
            else:
                self._book(**options)
        except (NoRecordingError, NotKnown, SourceChanged) as error:
            raise CommandError(f"{error.code} {error}") from error

    def _verify(self, *, dir: Path, market: str | None, processes: int | None, json: bool, **_: Any) -> None:  # noqa: A002
        report = verify(dir, tickers=[market] if market else (), processes=processes)
        self.stdout.write(_as_json(report.as_dict()) if json else _as_table(report))
        if not report.clean:
            sys.exit(1)

    def _book(self, *, dir: Path, market: str, at: int, cache: Path | None, json: bool, **_: Any) -> None:  # noqa: A002
        folder = cache or cache_folder(dir, settings.VAR_DIR / "recordings-cache")
        with open_columns(dir, market, folder) as columns:
            book = columns.book_at(at)
        self.stdout.write(_as_json(book.wire()) if json else _as_ladder(book))


def _as_json(answer: dict[str, Any]) -> str:
    return json.dumps(answer)


def _as_table(report: Report) -> str:
    width = max(len(market.ticker) for market in report.markets)
    head = f"{'market':<{width}} {'messages':>9} {'snapshots':>9} {'gaps':>5} {'negative':>8} {'crossed':>7}  verdict"
    lines = [head, *(_row(market, width) for market in report.markets)]
    verdict = "clean" if report.clean else "NOT CLEAN"
    lines += [f"{len(report.markets)} markets, {report.messages} messages: {verdict}", *report.problems]
    return "\n".join(lines)


def _row(market: MarketReport, width: int) -> str:
    verdict = (
        "clean" if market.clean else ", ".join(f"{count} {name}" for name, count in market.faults.items())
    )
    row = (
        f"{market.ticker:<{width}} {market.messages:>9} {market.snapshots:>9} {market.gaps:>5}"
        f" {market.negative_levels:>8} {market.crossings:>7}  {verdict}"
    )
    return "\n".join([row, *(f"    {note}" for note in market.reasons + market.oddities)])


def _as_ladder(book: RecordedBook) -> str:
    told = book.wire()
    return "\n".join(
        f"{side:<3} {price} {count:>12}" for side in told for price, count in reversed(told[side])
    )
