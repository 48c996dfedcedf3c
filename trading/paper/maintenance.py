"""The weekly maintenance: Thursday 03:00 to 05:00 Eastern Time, a trading pause (API.md 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from trading.paper.wire import rfc3339

EASTERN = ZoneInfo("America/New_York")
THURSDAY = 3
BEGINS, ENDS = time(3), time(5)
ANNOUNCED = 4  # windows to come


@dataclass(frozen=True, slots=True)
class Window:
    """One maintenance window, UTC."""

    begins_at: datetime
    ends_at: datetime

    def payload(self) -> dict[str, str]:
        return {"start_datetime": rfc3339(self.begins_at), "end_datetime": rfc3339(self.ends_at)}


def window_of(moment: datetime) -> Window:
    """The window that runs at a moment, or the next one. The hours are Eastern ones, also when the clocks change."""
    day = moment.astimezone(EASTERN).date()
    day += timedelta(days=(THURSDAY - day.weekday()) % 7)
    window = _on(datetime.combine(day, BEGINS), datetime.combine(day, ENDS))
    return window if moment < window.ends_at else window_of(window.ends_at + timedelta(days=1))


def windows(moment: datetime) -> list[Window]:
    """The windows that are announced: the present or next one, and those after it."""
    found = [window_of(moment)]
    while len(found) < ANNOUNCED:
        found.append(window_of(found[-1].ends_at))
    return found


def running(moment: datetime) -> Window | None:
    """The window that runs at a moment."""
    window = window_of(moment)
    return window if window.begins_at <= moment else None


def _on(begins: datetime, ends: datetime) -> Window:
    return Window(
        begins.replace(tzinfo=EASTERN).astimezone(UTC), ends.replace(tzinfo=EASTERN).astimezone(UTC)
    )


class Upkeep:
    """Keeps the weekly window, where the exchange is told to: `trading` pauses and resumes it."""

    def __init__(self, trading: Callable[[bool], None]) -> None:
        self.keeps = False
        self.window: Window | None = None  # the one that runs
        self._trading = trading

    def pass_time(self, now: datetime) -> None:
        """Begin or end a window that is due. Call within a step."""
        window = running(now) if self.keeps else None
        if window != self.window:
            self.window = window
            self._trading(window is None)

    def resumes(self) -> dict[str, str]:
        """What `GET /exchange/status` adds while a window runs."""
        if self.window is None:
            return {}
        return {"exchange_estimated_resume_time": rfc3339(self.window.ends_at)}
