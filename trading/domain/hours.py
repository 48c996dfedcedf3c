"""When the exchange takes orders: its own word, shard by shard, and its hours of maintenance (API.md 8).

TRADING      orders and cancels
PAUSED       a trading pause: cancels only; what rests stays
CLOSED       an exchange pause: neither orders nor cancels
MAINTENANCE  within an announced or the weekly window: connections may drop at any moment
UNKNOWN      it has not said lately: no word is a no
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

NEW_YORK: Final = ZoneInfo("America/New_York")
THURSDAY: Final = 3
BEGINS: Final = time(3, 0)
ENDS: Final = time(5, 0)
OLDEST_WORD: Final = timedelta(seconds=60)  # the feed asks every few seconds


class Standing(StrEnum):
    TRADING = "trading"
    PAUSED = "paused"
    CLOSED = "closed"
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"


TAKES_CANCELS: Final = frozenset({Standing.TRADING, Standing.PAUSED, Standing.MAINTENANCE, Standing.UNKNOWN})
# Where the exchange pauses as a whole and in one shard, the worse of the two holds.
_SEVERITY: Final[Mapping[Standing, int]] = MappingProxyType(
    {standing: n for n, standing in enumerate((Standing.TRADING, Standing.PAUSED, Standing.CLOSED))}
)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_at` up to, not including, `end_at`; aware times."""

    start_at: datetime
    end_at: datetime

    def holds(self, now: datetime) -> bool:
        return self.start_at <= now < self.end_at


@dataclass(frozen=True, slots=True)
class ShardState:
    """One matching engine: `is_active` False takes nothing, `is_trading` False takes cancels only."""

    exchange_index: int
    is_active: bool
    is_trading: bool

    @property
    def standing(self) -> Standing:
        return _standing(self.is_active, self.is_trading)


@dataclass(frozen=True, slots=True)
class ExchangeFacts:
    """What the exchange last said of itself. `as_of` is when it was asked; None: it never was.

    `maintenance` are announced windows; `weekly` says that it also rests every Thursday 03:00 to 05:00 in New York.
    """

    is_active: bool = False
    is_trading: bool = False
    as_of: datetime | None = None
    resumes_at: datetime | None = None
    shards: tuple[ShardState, ...] = ()
    maintenance: tuple[Window, ...] = ()
    weekly: bool = False

    def standing(self, now: datetime, exchange_index: int | None = None) -> Standing:
        """How it stands now: as a whole, or for the markets of one shard. A shard it does not list stands as the whole.

        What it said a moment ahead of `now` counts: our own clock was corrected meanwhile.
        """
        if self.as_of is None or abs(now - self.as_of) > OLDEST_WORD:
            return Standing.UNKNOWN
        if self.window(now) is not None:
            return Standing.MAINTENANCE
        own = [shard.standing for shard in self.shards if shard.exchange_index == exchange_index]
        return max([_standing(self.is_active, self.is_trading), *own], key=_SEVERITY.__getitem__)

    def paused_shards(self) -> tuple[ShardState, ...]:
        """The shards that take no orders."""
        return tuple(shard for shard in self.shards if shard.standing is not Standing.TRADING)

    def window(self, now: datetime) -> Window | None:
        """The maintenance that is going on now, or None."""
        return next((window for window in self._windows(now) if window.holds(now)), None)

    def next_window(self, now: datetime) -> Window | None:
        """The next maintenance that has not begun, or None when none is known."""
        later = [window for window in self._windows(now) if window.start_at > now]
        return min(later, key=lambda window: window.start_at, default=None)

    def _windows(self, now: datetime) -> tuple[Window, ...]:
        week = timedelta(days=7)
        weekly = (weekly_window(now), weekly_window(now + week)) if self.weekly else ()
        return (*self.maintenance, *weekly)


def weekly_window(now: datetime) -> Window:
    """The weekly maintenance that is going on at `now`, else the next one: Thursday, 03:00 to 05:00 New York's time."""
    local = now.astimezone(NEW_YORK)
    day = local.date() + timedelta(days=(THURSDAY - local.weekday()) % 7)
    window = _on(day)
    return window if now < window.end_at else _on(day + timedelta(days=7))


def _on(day: date) -> Window:
    moments = [datetime.combine(day, at, NEW_YORK).astimezone(UTC) for at in (BEGINS, ENDS)]
    return Window(*moments)


def _standing(is_active: bool, is_trading: bool) -> Standing:
    if not is_active:
        return Standing.CLOSED
    return Standing.TRADING if is_trading else Standing.PAUSED


def words(facts: ExchangeFacts, now: datetime, exchange_index: int | None = None) -> str:
    """The same in a plain sentence without a full stop; times in UTC."""
    standing = facts.standing(now, exchange_index)
    whole = facts.standing(now)
    where = f"shard {exchange_index} of the exchange" if standing is not whole else "the exchange"
    resumes = f", expected back at {_clock(facts.resumes_at, now)}" if facts.resumes_at else ""
    if standing is Standing.MAINTENANCE:
        window = facts.window(now)
        until = f" until {_clock(window.end_at, now)}" if window else ""
        return f"the exchange is in maintenance{until}: connections may drop"
    return {
        Standing.TRADING: "the exchange is trading",
        Standing.PAUSED: f"{where} has paused trading{resumes}: cancels still work, orders do not",
        Standing.CLOSED: f"{where} is closed{resumes}: neither orders nor cancels work",
        Standing.UNKNOWN: "the exchange has not said lately whether it trades",
    }[standing]


def _clock(at: datetime, now: datetime) -> str:
    day = "" if at.date() == now.date() else f"{at.day} {at:%b} "
    return f"{day}{at.astimezone(UTC):%H:%M} UTC"
