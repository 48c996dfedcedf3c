"""The drift sentinel: notes whatever the exchange says that is not as agreed, and never stands in the way.

Every REST answer is compared whole; frames of a stream at the first of each type, all of the rare ones, a sample of the
frequent ones, and every one that could not be read (`Ear`). What is noted is counted here and taken by whoever writes
it down (`trading.market_data.drift`); the log says each new drift once.

Cost on the machine that this was written on: 14 µs for a market of a list (its decoding costs 4), 0.1 µs for a frame of
a stream and 2 µs for one in 256.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from trading.exchange.conformity import DriftKind
from trading.exchange.contract import contract, is_private_frame
from trading.exchange.findings import STREAM, Drift, of_answer, of_frame, shown, type_of

log = logging.getLogger(__name__)

CODE: Final = "E606"
MOST_KINDS: Final = 256  # different drifts kept at once; more are only counted
# One in so many frames of these types is compared; of every other type each one. A session offers one change of a book
# in sixteen, so that one in 256 is compared.
_SPARSELY: Final = {"orderbook_delta": 16, "ticker": 64, "trade": 64, "orderbook_snapshot": 8}
_UNREADABLE_WATCHED: Final = 32  # unreadable frames looked at per connection before only one in so many is


@dataclass(frozen=True, slots=True)
class Sighting:
    """A drift, how often it was seen and when first and last (Unix ms)."""

    drift: Drift
    count: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard since it was last taken: drifts, and how much was compared without finding any."""

    sightings: tuple[Sighting, ...] = ()
    answers: int = 0
    frames: int = 0
    last_ms: int | None = None
    beyond: int = 0  # sightings of drifts that found no place any more


@dataclass(slots=True)
class Sentinel:
    """Notes drifts. Thread-safe; bounded; never raises for what the exchange says."""

    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[tuple[str, str, str, str], Sighting] = field(default_factory=dict)
    _logged: dict[tuple[str, str, str, str], None] = field(default_factory=dict)
    _answers: int = 0
    _frames: int = 0
    _beyond: int = 0
    _last_ms: int | None = None

    def answer(self, method: str, resource: str, status: int, body: bytes) -> None:
        """Compare one REST answer with what was agreed; an operation outside our table is left alone."""
        operation = contract().operation(method, resource)
        if operation is None:
            return
        for drift in of_answer(operation, status, body):
            self.note(drift)
        with self._lock:
            self._answers += 1
            self._last_ms = self.clock_ms()

    def frame(self, text: str | bytes) -> bool:
        """Compare one frame of the stream. False when something was noted."""
        drifts = list(of_frame(text))
        for drift in drifts:
            self.note(drift)
        with self._lock:
            self._frames += 1
            self._last_ms = self.clock_ms()
        return not drifts

    def note(self, drift: Drift) -> None:
        """Count one drift; the log says a new one once."""
        now = self.clock_ms()
        with self._lock:
            seen = self._pending.get(drift.key)
            if seen is not None:
                self._pending[drift.key] = replace(seen, count=seen.count + 1, last_ms=now)
            elif self._has_place(drift):
                self._pending[drift.key] = Sighting(drift, 1, now, now)
            else:
                self._beyond += 1
                return
            is_new = drift.key not in self._logged
            if is_new:
                self._logged[drift.key] = None
                if len(self._logged) > MOST_KINDS:
                    self._logged.pop(next(iter(self._logged)))
        if is_new:
            log.error(
                "exchange.drift",
                extra={"code": CODE, "drift": str(drift), "money": drift.is_money, "sample": drift.sample},
            )

    def take(self) -> Heard:
        """What was heard since the last take."""
        with self._lock:
            heard = Heard(
                tuple(self._pending.values()), self._answers, self._frames, self._last_ms, self._beyond
            )
            self._pending, self._answers, self._frames, self._beyond = {}, 0, 0, 0
        return heard

    def put_back(self, heard: Heard) -> None:
        """It could not be written down: take it again, with what came meanwhile."""
        with self._lock:
            for sighting in heard.sightings:
                later = self._pending.get(sighting.drift.key)
                self._pending[sighting.drift.key] = sighting if later is None else _both(sighting, later)
            self._answers += heard.answers
            self._frames += heard.frames
            self._beyond += heard.beyond

    def _has_place(self, drift: Drift) -> bool:
        """Whether there is room. A drift that money depends on takes the place of one that it does not."""
        if len(self._pending) < MOST_KINDS:
            return True
        if not drift.is_money:
            return False
        cheap = next((key for key, each in self._pending.items() if not each.drift.is_money), None)
        if cheap is None:
            return False
        self._pending.pop(cheap)
        self._beyond += 1
        return True


_ours: list[Sentinel] = [Sentinel()]


def sentinel() -> Sentinel:
    """This process's sentinel: every client of the process reports to it."""
    return _ours[-1]


@contextlib.contextmanager
def listening(other: Sentinel | None = None) -> Iterator[Sentinel]:
    """Let another sentinel hear for the block; for tests."""
    _ours.append(other or Sentinel())
    try:
        yield _ours[-1]
    finally:
        _ours.pop()


class Ear:
    """Hears one connection's frames for the sentinel: which of them are compared."""

    def __init__(self) -> None:
        self._skip: dict[type, int] = {}
        self._unreadable = 0

    def heard(self, kind: type, text: str | bytes) -> None:
        """One frame that was read, of our type `kind`."""
        left = self._skip.get(kind, 0)
        if left:
            self._skip[kind] = left - 1
            return
        sentinel().frame(text)
        self._skip[kind] = _SPARSELY.get(type_of(text), 1) - 1

    def failed(self, text: str | bytes, error: Exception) -> None:
        """One frame that could not be read, or whose values cannot be true."""
        self._unreadable += 1
        if self._unreadable > _UNREADABLE_WATCHED and self._unreadable % _UNREADABLE_WATCHED:
            return
        if sentinel().frame(text):
            # As agreed in its form, and yet not to be believed.
            kind = type_of(text)
            sample = shown(str(error), is_private=is_private_frame(kind))
            where = f"{STREAM} {kind}".rstrip()
            sentinel().note(Drift(DriftKind.UNREADABLE, where, sample=sample, is_money=True))


def unbelievable(method: str, resource: str, reason: str) -> None:
    """Note an answer that is as agreed in its form, and yet cannot be true or does not fit what was asked."""
    operation = contract().operation(method, resource)
    where = f"{method} {resource}" if operation is None else operation.name
    sentinel().note(Drift(DriftKind.UNREADABLE, where, sample=shown(reason, is_private=True), is_money=True))


def _both(earlier: Sighting, later: Sighting) -> Sighting:
    return replace(later, count=earlier.count + later.count, first_ms=earlier.first_ms)
