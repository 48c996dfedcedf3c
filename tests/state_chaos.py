"""A server, a client and a bad line between them, on a virtual clock: the oracle for `kalshi_site.live.replica`."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from kalshi_site.live.catchup import Change, Head, catch_up, state_at
from kalshi_site.live.replica import HEARTBEAT, Ask, Replica

TOPIC = "orders"
KEYS = [f"ord_{n}" for n in range(12)]
Step = Callable[[], None]


@dataclass
class MemoryLog:
    """The log of one topic, as the database keeps it."""

    epoch: str = "e0"
    changes: list[Change] = field(default_factory=list)
    kept_after: int = 0

    def head(self, topic: str) -> Head:
        return Head(self.epoch, len(self.changes), self.kept_after)

    def between(self, topic: str, after: int, upto: int) -> Sequence[Change]:
        return [each for each in self.changes[after:upto] if each.number > self.kept_after]

    def last_of_each_key(self, topic: str, after: int, upto: int) -> Sequence[Change]:
        return list({each.key: each for each in self.changes[after:upto]}.values())

    def write(self, key: str) -> Change:
        version = sum(each.key == key for each in self.changes) + 1
        self.changes.append(Change(len(self.changes) + 1, key, version))
        return self.changes[-1]


@dataclass(frozen=True)
class Line:
    """How bad the line is: shares of frames and answers that are lost, come twice, or come late."""

    dropped: float = 0.05
    repeated: float = 0.05
    late: float = 0.05
    delay: float = 0.05  # seconds
    lateness: float = 3.0  # seconds


@dataclass
class World:
    """One run. `replica` may be another class that follows the same protocol: the negative control."""

    seed: int
    replica: Replica
    line: Line = field(default_factory=Line)
    log: MemoryLog = field(default_factory=MemoryLog)
    now: float = 0.0
    connected: bool = True
    false_live: int = 0
    noticed_late: int = 0
    healed_late: int = 0
    _steps: list[tuple[float, int, Step]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _past: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._remember()

    def run(self, seconds: float, quiet: float = 60.0) -> None:
        """Bad weather for so long, then a good line until everything has come to rest."""
        self._every(1.0, self._check)
        self._every(HEARTBEAT, self._beat)
        self._at(0.1, self._beat)
        self._weather(seconds)
        self._until(seconds)
        self.line, self.connected = Line(0, 0, 0), True
        self._until(seconds + quiet)

    @property
    def is_equal(self) -> bool:
        """Whether client and server agree, to the last version of every key."""
        head = self.log.head(TOPIC)
        mine = {key: each.version for key, each in self.replica.state.items()}
        theirs = {each.key: each.version for each in state_at(self.log, TOPIC, head.version)}
        return (self.replica.epoch, self.replica.version, mine) == (head.epoch, head.version, theirs)

    # --- the server

    def write(self) -> None:
        """A change is committed; its announcement goes over the line."""
        change, epoch = self.log.write(self.random.choice(KEYS)), self.log.epoch
        self._remember()
        self._send(lambda: self._ask(self.replica.hear(change, epoch, self.now)))

    def restore(self) -> None:
        """The server comes back from a backup: part of the past is gone, and the numbering is another one."""
        keep = self.random.randint(0, len(self.log.changes))
        self.log = MemoryLog(f"e{next(self._numbers)}", self.log.changes[:keep])
        self._remember()

    def cut(self) -> None:
        """Old rows go."""
        self.log.kept_after = max(self.log.kept_after, len(self.log.changes) - self.random.randint(0, 20))

    def _beat(self) -> None:
        head = self.log.head(TOPIC)
        self._send(lambda: self._ask(self.replica.beat(head.epoch, head.version, self.now)))

    def _answer(self, ask: Ask) -> None:
        answer = catch_up(self.log, TOPIC, since=ask.since, epoch=ask.epoch)
        self._send(lambda: self._ask(self.replica.take(answer, self.now)))

    # --- the client

    def _ask(self, ask: Ask | None) -> None:
        if ask is not None:
            self._send(lambda: self._answer(ask))

    def _check(self) -> None:
        self._ask(self.replica.check(self.now))
        if self.replica.is_live(self.now):
            mine = {key: each.version for key, each in self.replica.state.items()}
            self.false_live += self._past.get((self.replica.epoch, self.replica.version)) != mine

    # --- line and clock

    def _send(self, step: Step) -> None:
        if not self.connected or self.random.random() < self.line.dropped:
            return
        times = 2 if self.random.random() < self.line.repeated else 1
        for _ in range(times):
            late = self.line.lateness if self.random.random() < self.line.late else 1.0
            self._at(self.random.random() * self.line.delay * 2 * late, step)

    def _weather(self, seconds: float) -> None:
        """Changes several times a second, a cut of the line now and then, rarely a restore."""
        moment = 0.0
        while (moment := moment + self.random.expovariate(4.0)) < seconds:
            deed = self.random.choices(
                [self.write, self._cut_line, self.restore, self.cut], [96, 2, 0.5, 1.5]
            )[0]
            self._at(moment, deed)

    def _cut_line(self) -> None:
        self.connected = False
        self._at(self.random.uniform(0.5, 10.0), self._connect)

    def _connect(self) -> None:
        self.connected = True

    def _remember(self) -> None:
        head = self.log.head(TOPIC)
        state = {each.key: each.version for each in state_at(self.log, TOPIC, head.version)}
        self._past[head.epoch, head.version] = state

    def _every(self, seconds: float, step: Step) -> None:
        def again() -> None:
            step()
            self._at(seconds, again)

        self._at(seconds, again)

    def _at(self, delay: float, step: Step) -> None:
        heapq.heappush(self._steps, (self.now + delay, next(self._numbers), step))

    def _until(self, end: float) -> None:
        while self._steps and self._steps[0][0] <= end:
            self.now, _, step = heapq.heappop(self._steps)
            step()
        self.now = end
