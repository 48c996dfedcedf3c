"""How far this machine's clock is from the exchange's, noted by the feed for whoever shows or alarms it.

Kept in the cache for a minute: an old skew says nothing, and no row is worth it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.core.cache import cache

from trading.exchange.errors import ClockOff
from trading.exchange.venue_clock import ALARM_MS

_KEY: Final = "exchange-clock-skew-ms"
_LIVES: Final = 60  # seconds


def note_skew(skew_ms: Callable[[], float]) -> None:
    """Write down what the clock says now (ms; + is ahead). A cache out of reach loses the note, and nothing else."""
    cache.set(_KEY, round(skew_ms()), _LIVES)


def noted_skew() -> int | None:
    """The skew in ms as it was last noted; None when nobody has lately, or when the cache is away."""
    noted: int | None = cache.get(_KEY)
    return noted


def clock_fault() -> str:
    """What is wrong with this machine's clock, as a sentence with its code; "" while it is right or nobody knows."""
    skew = noted_skew()
    if skew is None or abs(skew) <= ALARM_MS:
        return ""
    return f"{ClockOff.code} this machine's clock is {skew / 1000:+.1f} s off the exchange's"
