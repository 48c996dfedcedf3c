"""Which books await a snapshot, and when it is time to ask again.

A gap asks at once, but not twice within a quarter of a second: an exchange that loses one frame loses more, and a
thousand markets are many. The snapshot that a subscription itself brings gets longer, because an exchange under load
is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

FIRST_MS: Final = 10_000
AGAIN_MS: Final = 500
AT_MOST_EVERY_MS: Final = 250


class SnapshotsDue:
    """Per market the moment (our Unix ms) at which its snapshot is asked for again."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._due: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def first(self, tickers: Iterable[str]) -> None:
        """These come by themselves, or not soon: ask after FIRST_MS."""
        due = self._clock_ms() + FIRST_MS
        self._due.update(dict.fromkeys(tickers, due))

    def ask(self, tickers: Iterable[str]) -> list[str]:
        """These are needed now; return those to be asked for at this moment, the others follow by `take_overdue`."""
        now = self._clock_ms()
        ready = [
            each for each in tickers if now - self._asked.get(each, -AT_MOST_EVERY_MS) >= AT_MOST_EVERY_MS
        ]
        waiting = set(tickers).difference(ready)
        self._due.update(dict.fromkeys(waiting, now + AT_MOST_EVERY_MS))
        self._note(ready, now)
        return ready

    def take_overdue(self) -> list[str]:
        """Those whose time has come; each is due again after AGAIN_MS."""
        now = self._clock_ms()
        overdue = sorted(ticker for ticker, due in self._due.items() if due <= now)
        self._note(overdue, now)
        return overdue

    def drop(self, tickers: Iterable[str]) -> None:
        """Their snapshots have come, or nobody wants them."""
        for ticker in tickers:
            self._due.pop(ticker, None)
            self._asked.pop(ticker, None)

    def clear(self) -> None:
        self._due.clear()
        self._asked.clear()

    def _note(self, tickers: Iterable[str], now: int) -> None:
        self._asked.update(dict.fromkeys(tickers, now))
        self._due.update(dict.fromkeys(tickers, now + AGAIN_MS))
