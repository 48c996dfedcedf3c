"""Circuit breakers: who fails again and again is left alone for a while, then tried with one call.

One breaker per dependency, shared by all processes over Redis; with Redis dead each process keeps its own. A breaker
is an aid, never a wall before the way out: cancels, decreases and exits pass whatever it says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from kalshi_site import audit
from kalshi_site.breakers import law
from kalshi_site.breakers.law import Memory, Rules, State
from kalshi_site.breakers.memories import Unshared, shelf
from kalshi_site.errors import NotFound

__all__ = ["BREAKERS", "Breaker", "BreakerState", "State", "Unshared", "reset", "states"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A dependency, what stops while its breaker is open, and its rules."""

    label: str
    stops: str
    rules: Rules = field(default_factory=Rules)


BREAKERS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "exchange_read": Kind(
            "Reading from the exchange",
            "Comparisons and market facts wait. Execution's own questions go on.",
        ),
        "exchange_write": Kind(
            "Sending orders",
            "Approved proposals wait, and expire in time. Exits and cancels go on.",
            Rules(opens_after=3),
        ),
        "exchange_cancel": Kind(
            "Canceling orders",
            "Nothing: cancels and decreases always go out.",
            Rules(opens_after=3, blocks=False),
        ),
        "model": Kind(
            "The analyst's model", "No new ideas.", Rules(rest=15.0, longest_rest=300.0, probe=150.0)
        ),
        "notifier": Kind("Notifications", "Nothing yet: no message leaves the desk."),
    }
)


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker as it stands. `since`: when it came into this state, None when it never left it. `failures` in a row.

    `retry_at`: when the next probe may go, None while closed. `stops`: what waits while it is open.
    """

    name: str
    state: State
    since: datetime | None
    failures: int
    label: str
    stops: str
    blocks: bool
    reason: str = ""
    retry_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """True while calls do not simply pass, or would not if this breaker could block."""
        return self.state is not State.CLOSED


class Breaker:
    """The breaker of one dependency, for the code that calls it. Never raises.

    `blocks=False`: this caller is on a way out. What it finds is counted, and it is never held back.
    """

    def __init__(self, name: str, *, blocks: bool = True) -> None:
        self.name, self._rules = name, BREAKERS[name].rules
        self._blocks = blocks and self._rules.blocks

    def allows(self) -> bool:
        """Whether a call may go out now. A yes while half open is the one probe: make the call, or give it back."""
        memory = shelf().peek(self.name)
        if memory.state is State.CLOSED or not self._blocks:
            return True
        now, passes = time.time(), False

        def move(memory: Memory) -> Memory:
            nonlocal passes
            after, passes = law.admit(memory, self._rules, now)
            return after

        shelf().change(self.name, move)
        return passes

    def unused(self) -> None:
        """The call that was allowed did not go out, for a reason of our own: the next may be the probe."""
        if shelf().peek(self.name).state is State.HALF_OPEN:
            shelf().change(self.name, lambda memory: law.give_back(memory, time.time()))

    def succeeded(self) -> None:
        """The dependency answered: close."""
        if shelf().peek(self.name).is_clean:
            return
        before, after, _ = shelf().change(self.name, lambda memory: law.succeed(memory, time.time()))
        if before.state is not after.state:
            log.warning("breaker.closed", extra={"breaker": self.name})

    def failed(self, reason: str) -> None:
        """The dependency did not answer, or said that it is broken."""
        before, after, _ = shelf().change(
            self.name, lambda memory: law.fail(memory, self._rules, time.time(), reason)
        )
        if before.state is not after.state:
            log.error(
                "breaker.opened", extra={"breaker": self.name, "failures": after.failures, "why": reason}
            )


def states() -> list[BreakerState]:
    """Every breaker as it stands, in the order of the table. Never raises."""
    return [_state(name, shelf().peek(name, within=0.0)) for name in BREAKERS]


def reset(name: str, actor: str, reason: str = "") -> BreakerState:
    """Close a breaker by hand, in all processes, on the record.

    Raises NotFound (E021) for a name that is none, Unshared (E902) when the other processes cannot be told.
    """
    if name not in BREAKERS:
        raise NotFound(f"there is no breaker {name}")
    before, after, is_shared = shelf().change(name, lambda _: Memory(since=time.time()))
    if not is_shared:
        raise Unshared(
            "Redis is out of reach: execution would not learn of it. The breaker probes by itself."
        )
    audit.record(
        actor=actor,
        verb="breaker.reset",
        object_type="breaker",
        object_id=name,
        reason=reason,
        was=before.state.value,
        failures=before.failures,
    )
    return _state(name, after)


def _state(name: str, memory: Memory) -> BreakerState:
    kind = BREAKERS[name]
    return BreakerState(
        name=name,
        state=memory.state,
        since=_moment(memory.since),
        failures=memory.failures,
        label=kind.label,
        stops=kind.stops,
        blocks=kind.rules.blocks,
        reason=memory.reason,
        retry_at=None if memory.state is State.CLOSED else _moment(memory.until),
    )


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
