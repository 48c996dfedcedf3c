"""The law of a circuit breaker: what is remembered of a dependency, and the moves from there. Pure; times in seconds.

CLOSED ── `opens_after` failures in a row ──> OPEN ── its rest is over ──> HALF_OPEN: one probe at a time
   ^                                           ^                               │
   │                                           └── the probe fails: rest twice as long
   └──────────── any call that succeeds, or a person resets ───────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

LONGEST_REASON: Final = 200


class State(StrEnum):
    """Closed: calls pass. Open: they do not. Half open: one passes, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a breaker opens and how long it rests; seconds.

    `blocks` is False where calls pass whatever the state: on a way out the breaker only tells.
    """

    opens_after: int = 5
    rest: float = 5.0
    longest_rest: float = 60.0
    probe: float = 15.0  # a probe that was not heard of for so long is lost, and another may go
    blocks: bool = True

    def rest_after(self, trips: int) -> float:
        """How long to rest after this many openings in a row."""
        return min(self.rest * 2.0 ** min(trips - 1, 30), self.longest_rest)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a dependency. `since` and `until` are Unix seconds; 0 is never.

    `failures` in a row; `trips`: openings without a success since; `until`: the end of the rest, or of the probe.
    """

    state: State = State.CLOSED
    since: float = 0.0
    failures: int = 0
    trips: int = 0
    until: float = 0.0
    reason: str = ""

    @property
    def is_clean(self) -> bool:
        """True while nothing needs to be forgiven."""
        return self.state is State.CLOSED and not self.failures


def admit(memory: Memory, rules: Rules, now: float) -> tuple[Memory, bool]:
    """Whether a call may go out, and what is remembered then: an open breaker lets one probe pass after its rest."""
    if memory.state is State.CLOSED:
        return memory, True
    # A clock that was set back must not keep the breaker open for longer than any rest lasts.
    longest = max(rules.longest_rest, rules.probe)
    if now < memory.until and memory.until - now <= longest:
        return memory, False
    began = memory.since if memory.state is State.HALF_OPEN else now
    return replace(memory, state=State.HALF_OPEN, since=began, until=now + rules.probe), True


def give_back(memory: Memory, now: float) -> Memory:
    """After a yes that was not made use of: the next who asks is the probe, at once."""
    return replace(memory, until=now) if memory.state is State.HALF_OPEN else memory


def succeed(memory: Memory, now: float) -> Memory:
    """After an answer: closed, whatever was before. A late answer of an earlier call proves as much as a probe."""
    if memory.is_clean:
        return memory
    return Memory(since=memory.since if memory.state is State.CLOSED else now)


def fail(memory: Memory, rules: Rules, now: float, reason: str) -> Memory:
    """After no answer. Failures of calls that pass an open breaker are counted and prolong nothing."""
    counted = replace(memory, failures=memory.failures + 1, reason=reason[:LONGEST_REASON])
    if memory.state is State.OPEN:
        return counted
    if memory.state is State.CLOSED and counted.failures < rules.opens_after:
        return counted
    trips = memory.trips + 1
    return replace(counted, state=State.OPEN, since=now, trips=trips, until=now + rules.rest_after(trips))
