"""One paused sender: a process that is frozen between its claim and the first byte, and wakes when all is decided.

A second execution takes the lease meanwhile, looks for the order and judges. Two places to freeze: before our own last
look at the clock, which then lets nothing out; and after it, where the signed time in the request is the only fence.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from django.db import connection

from kalshi_site.models import AuditEntry
from tests.reliability import desk, rest
from tests.reliability.crash_points import is_create
from tests.reliability.desk import ExecutionProcess, Seat
from trading.domain.orders import OrderState
from trading.exchange.transport import WriteLine
from trading.execution import checkpoints
from trading.models import Order

WAITS: Final = 40.0  # seconds, for what must come; at real times as many more as they are longer
OWN_CLOCK, FENCE = "before our own clock", "before the exchange's fence"


@dataclass(frozen=True, slots=True)
class Pause:
    """`until_verdict`: it sleeps until the order is judged; else for a while of chance. `dies`: right after it sent."""

    seed: int
    place: str
    until_verdict: bool
    dies: bool


@dataclass
class Woken:
    """`late`: the exchange took the order after the verdict of absent. `gone_after`: seconds until nothing rests."""

    pause: Pause
    faults: list[str]
    # False where the machine was too busy to come to the place in time, which sends nothing at all; or where another
    # thread was frozen inside a write with it: everybody waits for SQLite's one lock then, for no watchdog runs here.
    was_frozen: bool = True
    was_judged: bool = False
    arrived: bool = False
    late: bool = False
    alarmed: bool = False
    gone_after: float | None = None


def pauses(count: int) -> list[Pause]:
    """Every kind in turn."""
    return [
        Pause(seed, (OWN_CLOCK, FENCE, FENCE)[seed % 3], until_verdict=seed % 4 != 3, dies=seed % 2 == 1)
        for seed in range(count)
    ]


def run(pause: Pause, seat: Seat) -> Woken:
    """Freeze the sender, let another decide, wake it, judge."""
    desk.take(seat)
    ticker = seat.stage.tickers[0]
    desk.approve(desk.propose(ticker, "0.02"))
    waits = WAITS + 200 / seat.tempo.divisor
    sleeper = ExecutionProcess(seat.tempo, lambda _: _freeze_at(pause.place))
    try:
        desk.wait_for(lambda: _is_frozen(sleeper) or _was_too_slow(ticker), waits)
        if not _is_frozen(sleeper) or _keeps_the_database():
            return Woken(pause, [], was_frozen=False)
        with desk.executing(seat.tempo):
            _sleep_on(pause, ticker, seat, waits)
            was_judged = Order.objects.get(ticker=ticker).state == OrderState.ABSENT
            woken_at = time.monotonic()
            sleeper.go_on()
            desk.wait_for(lambda: seat.venue.truth(seat.stage).posts or not sleeper.is_alive, 1.0)
            if pause.dies:
                sleeper.kill()
            gone_after = _gone_after(seat, woken_at, waits) if was_judged else None
            sleeper.kill()
            faults = rest.faults_after(seat, [ticker], waits)
    finally:
        sleeper.kill()
    truth = seat.venue.truth(seat.stage)
    return Woken(
        pause,
        faults,
        was_judged=was_judged,
        arrived=bool(truth.posts),
        late=was_judged and bool(truth.orders),
        alarmed=AuditEntry.objects.filter(verb="order.appeared").exists(),
        gone_after=gone_after,
    )


def _freeze_at(place: str) -> None:
    def freeze() -> None:
        desk.signal_self(signal.SIGSTOP)

    if place == OWN_CLOCK:
        checkpoints.observe(lambda point: freeze() if point == "sending" else None)
        return
    usual = WriteLine._exchange

    def passed(line: Any, method: str, target: str, *args: Any) -> Any:
        if is_create(method, target):
            freeze()
        return usual(line, method, target, *args)

    WriteLine._exchange = passed  # type: ignore[method-assign]


def _was_too_slow(ticker: str) -> bool:
    return Order.objects.filter(ticker=ticker, state="not_sent").exists()


def _is_frozen(sleeper: ExecutionProcess) -> bool:
    stat = Path(f"/proc/{sleeper.process.pid}/stat").read_text(encoding="ascii", errors="replace")
    return stat.rpartition(")")[2].split()[0] == "T"


def _keeps_the_database() -> bool:
    """Whether nobody can write any more, a second after the freeze. On PostgreSQL rows are locked, and not for ever."""
    if connection.vendor != "sqlite":
        return False
    with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=1.0)) as another:
        try:
            another.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        another.rollback()
        return False


def _sleep_on(pause: Pause, ticker: str, seat: Seat, waits: float) -> None:
    if pause.until_verdict:
        found = desk.wait_for(lambda: Order.objects.filter(ticker=ticker, state="absent").exists(), waits)
        assert found, "no verdict"
        return
    time.sleep(Random(pause.seed).uniform(1.0, 300.0 / 30) * min(1.0, 15 / seat.tempo.divisor))


def _gone_after(seat: Seat, since: float, waits: float) -> float | None:
    """How long a late order stood, as the exchange's own book has it. None when it never came or never went."""

    def resting() -> bool:
        return any(order.status == "resting" for order in seat.venue.truth(seat.stage).orders)

    if not seat.venue.truth(seat.stage).orders:
        return None
    return time.monotonic() - since if desk.wait_for(lambda: not resting(), waits) else None
