"""Commands of one connection: numbered, remembered until answered, and paced when the exchange asks for it.

Error 27 (too many commands) and 18 (command timeout) refuse a command for the moment: it is said again after a pause,
and everything else waits behind it, because commands keep their order. The pause doubles until one is accepted.
"""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import msgspec

from trading.exchange.frames import Command

REPEATABLE: Final = frozenset({18, 27})
ANSWER_MS: Final = 10_000
_FIRST_PAUSE_MS: Final = 500
_LONGEST_PAUSE_MS: Final = 8_000
_RELEASED_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A command of which we do not know yet whether it was accepted. `keys` are the markets or indices it names."""

    channel: str
    cmd: str
    params: dict[str, Any]
    keys: tuple[str, ...] = ()


class Commands:
    """`outbox` holds what is ready to be sent."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.outbox: list[bytes] = []
        self._clock_ms = clock_ms
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[Asked, int]] = {}
        self._held: list[tuple[int, Asked]] = []
        self._held_until = 0
        self._pause_ms = _FIRST_PAUSE_MS

    def send(self, asked: Asked) -> None:
        """Send a command, behind those that are held back."""
        number = next(self._ids)
        if self._held:
            self._held.append((number, asked))
        else:
            self._send(number, asked)

    def answered(self, number: int) -> Asked | None:
        """The command that this answers, once."""
        found = self._open.pop(number, None)
        return None if found is None else found[0]

    def accepted(self, number: int) -> Asked | None:
        """The same for a good answer, which also ends the doubling of pauses."""
        if not self._held:
            self._pause_ms = _FIRST_PAUSE_MS
        return self.answered(number)

    def hold(self, number: int, asked: Asked) -> None:
        """The exchange refused this one for the moment."""
        now = self._clock_ms()
        if now >= self._held_until:  # one pause for all that were under way together
            self._held_until = now + self._pause_ms
            self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)
        insort(self._held, (number, asked), key=itemgetter(0))

    def outstanding(self, cmd: str, channel: str) -> list[Asked]:
        """The commands of this kind that are not answered, the held ones included."""
        everything = [asked for asked, _ in self._open.values()] + [asked for _, asked in self._held]
        return [asked for asked in everything if asked.cmd == cmd and asked.channel == channel]

    def tick(self) -> list[Asked]:
        """Release held commands whose time has come. Returns those that were never answered; they are forgotten."""
        now = self._clock_ms()
        if self._held and now >= self._held_until:
            ready, self._held = self._held[:_RELEASED_AT_ONCE], self._held[_RELEASED_AT_ONCE:]
            for _, asked in ready:
                self._send(next(self._ids), asked)
        late = [number for number, (_, due) in self._open.items() if due <= now]
        return [self._open.pop(number)[0] for number in late]

    def _send(self, number: int, asked: Asked) -> None:
        self._open[number] = (asked, self._clock_ms() + ANSWER_MS)
        self.outbox.append(msgspec.json.encode(Command(number, asked.cmd, asked.params)))
