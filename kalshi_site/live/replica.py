"""The client's side of a topic: what to do with each frame, so that a client that missed anything converges.

A change that follows is applied, an old one dropped, a later one kept while the missing ones are asked for. Silence
with a gap shows at the next heartbeat, silent divergence at the next digest. Pure: time comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kalshi_site.live.catchup import Change, Delta, Snapshot, digest_of, oldest_kept

MOST_KEPT: Final = 256  # changes that wait for the ones before them
PATIENCE: Final = 2.0  # seconds after which a gap is no longer asked for in pieces
HEARTBEAT: Final = 15.0  # seconds
NOTHING: Final = -1  # stands before every number: only a snapshot follows


@dataclass(frozen=True, slots=True)
class Ask:
    """A question for the server: what happened after `since` of `epoch`?"""

    since: int
    epoch: str


@dataclass(slots=True)
class Replica:
    """One topic as a client knows it. Each method returns the question to be asked now, or None."""

    topic: str
    epoch: str = ""
    version: int = NOTHING
    state: dict[str, Change] = field(default_factory=dict)
    heartbeat_at: float = float("-inf")
    heartbeat_of: tuple[str, int] = ("", NOTHING)
    _waiting: dict[int, Change] = field(default_factory=dict)
    _gap_since: float | None = None

    def hear(self, change: Change, epoch: str, now: float, digest: str = "") -> Ask | None:
        """A change was announced."""
        if epoch != self.epoch:
            return self._ask_all()
        if change.number <= self.version:
            return None
        self._waiting[change.number] = change
        self._apply_waiting()
        if digest and change.number == self.version and digest != self.digest:
            return self._ask_all()
        return self._gap(now) if self._waiting else None

    def beat(self, epoch: str, version: int, now: float) -> Ask | None:
        """The server's heartbeat: where it stands."""
        self.heartbeat_at, self.heartbeat_of = now, (epoch, version)
        if epoch != self.epoch:
            return self._ask_all()
        return self._gap(now) if version > self.version else None

    def take(self, answer: Delta | Snapshot, now: float) -> Ask | None:
        """The answer to a question, however late."""
        if isinstance(answer, Snapshot):
            if answer.epoch != self.epoch or answer.version >= self.version:
                self._start_over(answer)
        elif answer.epoch == self.epoch and answer.since <= self.version:
            self._waiting |= {each.number: each for each in answer.changes if each.number > self.version}
        self._apply_waiting()
        if answer.digest and answer.version == self.version and answer.digest != self.digest:
            return self._ask_all()
        return self._gap(now) if self._waiting else None

    def check(self, now: float) -> Ask | None:
        """Called about once a second: a question that was not answered is asked again."""
        behind = self.heartbeat_of[0] == self.epoch and self.heartbeat_of[1] > self.version
        return self._gap(now) if self._waiting or behind or self.version == NOTHING else None

    def is_live(self, now: float) -> bool:
        """Whether this may be shown as current: equal to a heartbeat that is not too old."""
        fresh = now - self.heartbeat_at <= 2 * HEARTBEAT
        epoch, version = self.heartbeat_of
        return fresh and epoch == self.epoch and version <= self.version and not self._waiting

    @property
    def digest(self) -> str:
        return digest_of(self.state.values())

    def _start_over(self, answer: Snapshot) -> None:
        if answer.epoch != self.epoch:
            self._waiting.clear()  # numbers of another epoch
        self.epoch, self.version = answer.epoch, answer.version
        self.state = {change.key: change for change in answer.changes}

    def _apply_waiting(self) -> None:
        while (change := self._waiting.pop(self.version + 1, None)) is not None:
            self.version = change.number
            self.state.pop(change.key, None)  # so that the state stands in the order of its numbers
            self.state[change.key] = change
            self._forget()
        for number in [n for n in self._waiting if n <= self.version]:
            del self._waiting[number]
        while len(self._waiting) > MOST_KEPT:
            del self._waiting[max(self._waiting)]
        if not self._waiting:
            self._gap_since = None

    def _forget(self) -> None:
        limit = oldest_kept(self.topic, self.version)
        while self.state:
            oldest = next(iter(self.state.values()))
            if oldest.number > limit:
                return
            del self.state[oldest.key]

    def _gap(self, now: float) -> Ask:
        self._gap_since = now if self._gap_since is None else self._gap_since
        return self._ask_all() if now - self._gap_since > PATIENCE else Ask(self.version, self.epoch)

    def _ask_all(self) -> Ask:
        self._waiting.clear()
        self._gap_since = None
        return Ask(NOTHING, "")
