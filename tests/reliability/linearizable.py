"""Whether a history of calls that overlapped can be put in one order that explains every answer (Wing and Gong).

The model is a register that is decided once, by compare and set. A call may be put before another unless the other had
returned before it was called. Each proposal is a register of its own, so each is checked alone: small histories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

UNDECIDED: Final = "pending"


class Call(Protocol):
    """What the search needs of a call: when it was made and when it was answered."""

    @property
    def called(self) -> int: ...
    @property
    def returned(self) -> int: ...


Op = TypeVar("Op", bound=Call)


@dataclass(frozen=True, slots=True)
class Decide:
    """Set the register to `to` unless it is decided. `won`: the answer."""

    called: int
    returned: int
    to: str
    won: bool


@dataclass(frozen=True, slots=True)
class Read:
    """Look at the register. `seen`: the answer."""

    called: int
    returned: int
    seen: str


def decided_once(state: str, call: Decide | Read) -> str | None:
    """The register after a call that was answered so; None when it cannot have been."""
    if isinstance(call, Read):
        return state if call.seen == state else None
    if call.won:
        return call.to if state == UNDECIDED else None
    return state if state != UNDECIDED else None


def is_linearizable(
    history: Sequence[Op], step: Callable[[str, Op], str | None], begin: str = UNDECIDED
) -> bool:
    """Whether some order of the calls keeps the order of those that did not overlap, and explains all answers."""
    dead_ends: set[tuple[frozenset[int], str]] = set()

    def search(waiting: frozenset[int], state: str) -> bool:
        if not waiting:
            return True
        if (waiting, state) in dead_ends:
            return False
        first_return = min(history[number].returned for number in waiting)
        for number in waiting:
            if history[number].called > first_return:
                continue  # somebody was answered before this was asked
            after = step(state, history[number])
            if after is not None and search(waiting - {number}, after):
                return True
        dead_ends.add((waiting, state))
        return False

    return search(frozenset(range(len(history))), begin)
