"""Reads that stay behind writes, as on the real exchange (API.md 8): a second ledger that is told everything later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from trading.paper.ledger import Ledger
from trading.paper.records import Record
from trading.paper.steps import Steps
from trading.paper.wire import rfc3339, to_ms


class LaggedReads:
    """The ledger as it stood `lag` ago. Without a lag it is the ledger itself."""

    def __init__(self, steps: Steps, lag: timedelta, clock: Callable[[], datetime]) -> None:
        self.lag = lag
        self._steps = steps
        self._clock = clock
        self._live = steps.ledger
        self._past = Ledger()
        self._waiting: deque[tuple[int, list[Record]]] = deque()
        if lag:
            for record in self._live.records():
                self._past.apply(record)
        steps.witness = self._note if lag else None

    def changed(self, lag: timedelta) -> LaggedReads:
        """The same with another lag from now on: what reads show now, they show until the lag has passed."""
        return LaggedReads(self._steps, lag, self._clock)

    def ledger(self) -> Ledger:
        """What balance, orders, fills and positions are read from."""
        if not self.lag:
            return self._live
        until_ms = to_ms(self._clock() - self.lag)
        while self._waiting and self._waiting[0][0] <= until_ms:
            for record in self._waiting.popleft()[1]:
                self._past.apply(record)
        return self._past

    def as_of(self) -> str:
        """How fresh the reads are, for `GET /exchange/user_data_timestamp`."""
        return rfc3339(self._clock() - self.lag)

    def _note(self, at_ms: int, records: list[Record]) -> None:
        self._waiting.append((at_ms, records))
        self.ledger()  # what waits stays short, also when nobody reads
