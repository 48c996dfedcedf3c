"""Judge a recording: what each market's files hold, what is missing, and whether every book in it can be believed.

Everything is read from the files themselves, never from a cache. A market is clean when nothing of it was lost, damaged
or out of place and its messages describe a possible book throughout. What looks odd and is not is told as an oddity.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from trading.domain.book import Book, BookFault
from trading.domain.matching import TICKS_PER_DOLLAR
from trading.recordings.definitions import read_states
from trading.recordings.files import market_files, recorded_tickers
from trading.recordings.messages import Delta, Event, Gap, Received, Snapshot, delta_change, snapshot_levels
from trading.recordings.notes import read_notes
from trading.recordings.numbers import Numbers, read_session
from trading.recordings.reader import MOST_REASONS, Tally, read_market

_WORTH_A_PROCESS: Final = (
    2_000_000  # bytes, compressed: below that, starting one takes longer than the reading
)
# Each of these means that something is wrong; the rest of a report is figures and oddities.
FAULTS: Final = (
    *("gaps", "negative_levels", "impossible_levels", "crossings", "withheld"),
    *("reordered", "unreadable", "truncated_files", "foreign"),
)


@dataclass(slots=True)
class MarketReport:
    """One market.

    `gaps`: places after which the book was unknown. `negative_levels`, `impossible_levels`, `crossings`: messages that
    describe no real book; after one the book is unknown, too. `withheld`: changes that had no snapshot to build on.
    `jumps`: numbers left out, which other markets of the subscription took: no fault.
    `unreadable`, `truncated_files`, `reordered`, `foreign`, `other`, `repeated`: see `reader.Tally`. Times are Unix ms,
    None when there are none.
    """

    ticker: str
    clean: bool = False
    messages: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    snapshots: int = 0
    gaps: int = 0
    negative_levels: int = 0
    impossible_levels: int = 0
    crossings: int = 0
    withheld: int = 0
    repeated: int = 0
    reordered: int = 0
    unreadable: int = 0
    truncated_files: int = 0
    foreign: int = 0
    other: int = 0
    jumps: int = 0
    first_recv_ms: int | None = None
    last_recv_ms: int | None = None
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None
    files: int = 0
    definition: str = "missing"  # or "settled", or "open" while nobody knows how it ends
    reasons: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, int]:
        """What makes the market unclean, by name."""
        return {name: count for name in FAULTS if (count := getattr(self, name))}


@dataclass(slots=True)
class Report:
    """A whole recording. `problems` concern no single market; `missing_numbers`: see `numbers`."""

    clean: bool
    messages: int
    markets: list[MarketReport]
    missing_numbers: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(root: Path, *, tickers: Iterable[str] = (), processes: int | None = None) -> Report:
    """Read every market (or the given ones) and judge it. Raises NoRecordingError when there is nothing to read."""
    wanted = list(tickers) or recorded_tickers(root)
    sizes = {ticker: sum(f.stat().st_size for f in market_files(root, ticker)) for ticker in wanted}
    judged = {report.ticker: (report, numbers) for report, numbers in _reports(root, sizes, processes)}
    markets = [judged[ticker][0] for ticker in wanted]
    numbers, problems = read_session(root, read_notes(root))
    numbers.merge(numbers for _, numbers in judged.values())
    missing = 0 if tickers else numbers.missing
    if missing:
        problems.append(f"{missing} messages are missing: the subscriptions' numbers have holes")
    problems += _define(root, markets)
    return Report(
        clean=not problems and all(report.clean for report in markets),
        messages=sum(report.messages for report in markets),
        markets=markets,
        missing_numbers=missing,
        problems=problems,
    )


def verify_market(root: Path, ticker: str) -> MarketReport:
    """Judge one market by its files alone."""
    return _judge(root, ticker)[0]


def _judge(root: Path, ticker: str) -> tuple[MarketReport, Numbers]:
    tally = Tally()
    report = MarketReport(ticker, files=len(market_files(root, ticker)))
    book = _Judge(report)
    for received in read_market(root, ticker, tally):
        book.take(received)
    report.by_type = dict(tally.messages)
    report.messages = sum(tally.messages.values())
    report.snapshots = tally.messages["snapshot"]
    for name in (
        "gaps",
        "repeated",
        "reordered",
        "unreadable",
        "truncated_files",
        "foreign",
        "other",
        "jumps",
    ):
        setattr(report, name, getattr(tally, name))
    report.reasons = tally.reasons + report.reasons
    report.oddities = list(_oddities(tally))
    report.clean = not report.faults
    return report, tally.numbers


class _Judge:
    """Folds the messages and notes what no real book can do."""

    def __init__(self, report: MarketReport) -> None:
        self._report = report
        self._book = Book(report.ticker)

    def take(self, received: Received) -> None:
        event = received.event
        if isinstance(event, Gap):
            self._book.invalidate()
            return
        self._note_times(received.recv_ms, event)
        try:
            if isinstance(event, Delta):
                self._change(event)
            elif isinstance(event, Snapshot):
                self._snapshot(event)
        except BookFault as fault:
            if len(self._report.reasons) < MOST_REASONS:
                self._report.reasons.append(str(fault))

    def _change(self, event: Delta) -> None:
        report, book = self._report, self._book
        if not book.is_current:
            report.withheld += 1
            return
        side, tick, change = delta_change(event.msg)
        before = book.quantity_at(side, tick)
        try:
            book.apply_delta(side, tick, change)
        except BookFault:
            if before + change < 0:
                report.negative_levels += 1
            elif 0 < tick < TICKS_PER_DOLLAR:
                report.crossings += 1
            else:
                report.impossible_levels += 1
            raise

    def _snapshot(self, event: Snapshot) -> None:
        bids, asks = snapshot_levels(event.msg)
        try:
            self._book.apply_snapshot(bids, asks)
        except BookFault:
            if all(0 < tick < TICKS_PER_DOLLAR for tick, _ in (*bids, *asks)):
                self._report.crossings += 1
            else:
                self._report.impossible_levels += 1
            raise

    def _note_times(self, recv_ms: int, event: Event) -> None:
        report = self._report
        if report.first_recv_ms is None:
            report.first_recv_ms = recv_ms
        report.last_recv_ms = recv_ms
        stamp = None if isinstance(event, Snapshot) else event.msg.ts_ms
        if stamp is not None:
            report.first_ts_ms = stamp if report.first_ts_ms is None else min(stamp, report.first_ts_ms)
            report.last_ts_ms = stamp if report.last_ts_ms is None else max(stamp, report.last_ts_ms)


def _oddities(tally: Tally) -> Iterator[str]:
    """What a reader must know how to take; ours does."""
    if tally.reconnects:
        yield f"{tally.reconnects} × reconnected: a new snapshot and numbers that start anew"
    if tally.breaks:
        yield f"{tally.breaks} × the recorder lost its connection or was started again: unknown up to the next snapshot"
    if tally.continued_files:
        yield f"{tally.continued_files} × a file without a snapshot of its own goes on with the book of the one before"
    if tally.repeated:
        yield f"{tally.repeated} × the same message again, dropped"


def _reports(
    root: Path, sizes: dict[str, int], processes: int | None
) -> Iterator[tuple[MarketReport, Numbers]]:
    # The largest first: the last one alone decides when all are done.
    ordered = sorted(sizes, key=lambda ticker: -sizes[ticker])
    most = min(processes or os.cpu_count() or 1, len(ordered))
    judge = partial(_judge, root)
    if most < 2 or sum(sizes.values()) < _WORTH_A_PROCESS:
        yield from map(judge, ordered)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(most, mp_context=fresh) as pool:
        yield from pool.map(judge, ordered)


def _define(root: Path, markets: list[MarketReport]) -> list[str]:
    try:
        states = read_states(root)
    except ValueError as error:
        return [str(error)]
    for report in markets:
        report.definition = states.get(report.ticker, "missing")
    return []
