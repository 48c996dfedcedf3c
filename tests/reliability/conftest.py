"""What the suites of this folder share: figures, which are shown at the end of a run whether it passed or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.books import Books, kept
from tests.reliability.venue import Venue, venues

AT_ONCE = 6  # exchanges, and so runs: most of a run's time is waiting for evidence
LETS_IN_MS = 5_000  # how old a signature they let in

_FIGURE = "figure"
Figure = Callable[[str], None]


def worst_hundredth(seconds: Sequence[float]) -> float:
    """The 99th of a hundred, by nearest rank: of fewer than a hundred it is the worst."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Note one line of figures: what was run, how often, and what was counted. It also reaches a JUnit report."""

    def note(line: str) -> None:
        record_property(_FIGURE, line)

    return note


@pytest.fixture
def books(tmp_path: Path, transactional_db: None) -> Iterator[Books]:
    """Copies of a database with what every run's books begin with."""
    from tests.reliability import desk

    desk.furnish()
    with kept(tmp_path) as copies:
        yield copies


@pytest.fixture
def exchanges(books: Books) -> Iterator[list[Venue]]:
    """Some paper exchanges, each for one run at a time."""
    from tests.reliability import desk

    with venues(AT_ONCE, oldest_ms=LETS_IN_MS) as started:
        desk.warm(started[0])
        yield started


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Every figure with its test, also of workers of xdist: their reports carry it."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    lines = [
        (report.nodeid.rsplit("::", 1)[-1], line)
        for report in reports
        for name, line in report.user_properties
        if name == _FIGURE
    ]
    if lines:
        terminalreporter.section("figures")
    for test, line in lines:
        terminalreporter.write_line(f"{test}: {line}")


@pytest.fixture(autouse=True)
def _rounds_end_by_themselves() -> None:
    """Here execution is a process with time constants of its own: its rounds are as long as the desk's."""
