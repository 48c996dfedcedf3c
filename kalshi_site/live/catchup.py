"""How a client that missed something becomes equal to the server again (RELIABILITY.md 3.3). Pure rules, no database.

Changes of a topic are numbered without gaps in commit order. Its state at a number is the last change of every key, in
some topics only of those keys that changed within the last WINDOWS numbers; both sides apply the same rule, so both
forget the same keys. The epoch is the identity of one numbering: it is new after a restore or a repair, and numbers of
two epochs say nothing about each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

# How far back a key counts, in numbers of its topic; topics that are not here keep every key.
WINDOWS: Final[Mapping[str, int]] = {"orders": 10_000, "proposals": 10_000}
MOST_CHANGES: Final = 2_000  # whoever missed more takes the snapshot
DIGEST_EVERY: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change: the object's key, its own version after it, and a word for what happened."""

    number: int
    key: str
    version: int
    kind: str = "changed"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a topic stands. All changes after `kept_after` are still in the log."""

    epoch: str
    version: int
    kept_after: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """The changes after number `since` up to `version`, complete and in order."""

    topic: str
    epoch: str
    since: int
    version: int
    changes: tuple[Change, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state at number `version`."""

    topic: str
    epoch: str
    version: int
    changes: tuple[Change, ...]
    digest: str


class Log(Protocol):
    """What the rules need of a log of changes."""

    def head(self, topic: str) -> Head: ...

    def between(self, topic: str, after: int, upto: int) -> Sequence[Change]: ...

    def last_of_each_key(self, topic: str, after: int, upto: int) -> Sequence[Change]: ...


def catch_up(log: Log, topic: str, *, since: int, epoch: str) -> Delta | Snapshot:
    """What a client that stands at `since` of `epoch` lacks: the changes, or the snapshot where they cannot tell."""
    head = log.head(topic)
    missed = head.version - since
    if epoch == head.epoch and since >= head.kept_after and 0 <= missed <= MOST_CHANGES:
        changes = tuple(log.between(topic, since, head.version))
        if len(changes) == missed:  # else the log was cut short while we read
            digest = digest_at(log, topic, head.version) if _passes_a_mark(since, head.version) else ""
            return Delta(topic, epoch, since, head.version, changes, digest)
    state = state_at(log, topic, head.version)
    return Snapshot(topic, head.epoch, head.version, state, digest_of(state))


def state_at(log: Log, topic: str, version: int) -> tuple[Change, ...]:
    """The state at a number, by number."""
    found = log.last_of_each_key(topic, oldest_kept(topic, version), version)
    return tuple(sorted(found, key=lambda change: change.number))


def digest_at(log: Log, topic: str, version: int) -> str:
    """The digest of the state at a number."""
    return digest_of(state_at(log, topic, version))


def oldest_kept(topic: str, version: int) -> int:
    """The number up to which keys are forgotten when the topic stands at `version`."""
    return max(0, version - WINDOWS[topic]) if topic in WINDOWS else 0


def digest_of(state: Iterable[Change]) -> str:
    """A short hash of keys and versions: two sides that differ anywhere differ here."""
    lines = sorted(f"{change.key}:{change.version}" for change in state)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _passes_a_mark(since: int, version: int) -> bool:
    return since // DIGEST_EVERY != version // DIGEST_EVERY
