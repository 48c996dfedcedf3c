"""The exchange's time as far as we know it (RELIABILITY.md H7): what signatures and expiries go by.

Every answer tells it: its `Date` header, which is cut to whole seconds, was written between the moment our request left
and the moment the answer came. That bounds how far the exchange's clock is from ours; many such bounds together make
it precise. They are bounds on our monotonic clock, so that a wall clock that is set meanwhile changes no signature.

Bounds that contradict each other are put to the vote (Marzullo's rule): one server with a wrong clock does not win.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from trading.exchange.errors import ClockOff

log = logging.getLogger(__name__)

ALARM_MS: Final = 1_000  # beyond, the log and the health page say so
REFUSE_MS: Final = 3_000  # beyond, no order is signed: expiries and deadlines of ours would be wrong
_KEPT: Final = 16
_OLDEST_S: Final = 900.0  # two clocks drift apart: 50 ppm make 45 ms in this time
_SLACK_MS: Final = 50.0  # servers write a Date that they made a moment ago
_SECOND_MS: Final = 1_000.0
_STEP_MS: Final = (
    500.0  # a wall clock that moves so far against the monotonic one was set, or the machine slept
)


@dataclass(frozen=True, slots=True)
class _Bound:
    """The exchange's clock minus our monotonic one lies between `low` and `high` (ms); learned at `at` (s)."""

    low: float
    high: float
    at: float


def wall_clock_ms() -> int:
    """Unix milliseconds now, by this machine."""
    return time.time_ns() // 1_000_000


class VenueClock:
    """Thread-safe. Until the first answer it is this machine's own clock."""

    def __init__(
        self,
        *,
        wall_ms: Callable[[], int] = wall_clock_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bounds: deque[_Bound] = deque(maxlen=_KEPT)
        self._agreed: tuple[float, float] | None = None
        self._wall_ahead: float | None = None  # wall minus monotonic clock when last looked at
        self._told = ""

    def monotonic(self) -> float:
        """The clock that `heard_date` measures by, in seconds."""
        return self._monotonic()

    def now_ms(self) -> int:
        """The exchange's Unix milliseconds: what to sign with."""
        agreed = self._agreed
        if agreed is None:
            return self._wall_ms()
        return round(self._monotonic() * _SECOND_MS + sum(agreed) / 2)

    def now(self) -> datetime:
        """The exchange's time: what expiries are counted from."""
        return datetime.fromtimestamp(self.now_ms() / _SECOND_MS, UTC)

    @property
    def skew_ms(self) -> float:
        """By how much our wall clock is surely ahead (+) or behind (-); 0 while what is known allows that it is right.

        Also 0 while nothing is known.
        """
        agreed = self._agreed
        if agreed is None:
            return 0.0
        ahead = self._wall_ms() - self._monotonic() * _SECOND_MS
        low, high = ahead - agreed[1], ahead - agreed[0]
        return low if low > 0 else min(high, 0.0)

    def require_steady(self) -> None:
        """Raises ClockOff (E611) when our clock is more than 3 s off: then nothing that opens may be signed."""
        skew = self.skew_ms
        if abs(skew) > REFUSE_MS:
            raise ClockOff(f"our clock is {skew / _SECOND_MS:+.1f} s off the exchange's")

    def heard_date(self, date: str | None, *, sent: float, received: float, age: str | None = None) -> None:
        """Learn from an answer's `Date` and `Age`. `sent` and `received` are `monotonic()` around the request.

        An answer out of a cache, and a date that cannot be read, teach nothing.
        """
        if not date or (age and age.strip() != "0"):
            return
        try:
            at_ms = parsedate_to_datetime(date).timestamp() * _SECOND_MS
        except (ValueError, TypeError, OverflowError):
            return
        self._learn(at_ms - _SLACK_MS, at_ms + _SECOND_MS + _SLACK_MS, sent, received)

    def heard_ms(self, ts_ms: int, *, sent: float, received: float) -> None:
        """Learn from a millisecond stamp in an answer. It refines what dates have told and never outweighs it: the
        engine that wrote it need not be the gateway that checks signatures."""
        low, high = ts_ms - _SLACK_MS - received * _SECOND_MS, ts_ms + _SLACK_MS - sent * _SECOND_MS
        agreed = self._agreed
        if agreed is not None and low <= agreed[1] and high >= agreed[0]:
            self._learn(ts_ms - _SLACK_MS, ts_ms + _SLACK_MS, sent, received)

    def trust_newest(self) -> None:
        """Forget all but the last answer: the exchange has just refused the time that we signed with."""
        with self._lock:
            newest = [self._bounds[-1]] if self._bounds else []
            self._bounds.clear()
            self._bounds.extend(newest)
            self._settle()

    def _learn(self, earliest_ms: float, latest_ms: float, sent: float, received: float) -> None:
        bound = _Bound(earliest_ms - received * _SECOND_MS, latest_ms - sent * _SECOND_MS, received)
        with self._lock:
            if self._was_set():
                self._bounds.clear()
            while self._bounds and received - self._bounds[0].at > _OLDEST_S:
                self._bounds.popleft()
            self._bounds.append(bound)
            self._settle()
        self._tell()

    def _was_set(self) -> bool:
        ahead = self._wall_ms() - self._monotonic() * _SECOND_MS
        before, self._wall_ahead = self._wall_ahead, ahead
        return before is not None and abs(ahead - before) > _STEP_MS

    def _settle(self) -> None:
        bounds = self._bounds
        if not bounds:
            self._agreed = None
            return

        def votes(at: float) -> int:
            return sum(each.low <= at <= each.high for each in bounds)

        # The newest comes first: among points with equally many votes it wins.
        low = max((each.low for each in reversed(bounds)), key=votes)
        self._agreed = low, min(each.high for each in bounds if each.low <= low <= each.high)

    def _tell(self) -> None:
        """Say once that the clock is off, and once that it is right again."""
        skew = self.skew_ms
        state = "refused" if abs(skew) > REFUSE_MS else "off" if abs(skew) > ALARM_MS else ""
        if state == self._told:
            return
        self._told = state
        if state:
            log.error("exchange.clock.off", extra={"code": ClockOff.code, "skew_ms": round(skew)})
        else:
            log.info("exchange.clock.right", extra={"skew_ms": round(skew)})
