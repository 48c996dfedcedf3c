"""The numbers of whole subscriptions, gathered over all files: only there a missing one proves a loss.

`seq` counts the frames of one subscription, all its markets and the replies to commands together (API.md 14). A
recording that has everything that the socket said has every number of every connection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from trading.recordings.files import SESSION, day_files
from trading.recordings.lines import Damaged, read_lines
from trading.recordings.notes import Notes


@dataclass(slots=True)
class Numbers:
    """Per connection and subscription: how many frames, and the lowest and highest number.

    `connected` are the receipts of the connections' beginnings; without any, nothing is gathered.
    """

    connected: tuple[int, ...] = ()
    found: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, notes: Notes) -> Numbers:
        return cls(tuple(note.recv_ms for note in notes.notes if note.note == "connected"))

    def add(self, recv_ms: int, sid: int, seq: int) -> None:
        """Note one frame. Frames without a number belong to channels that are not numbered."""
        if not seq or not self.connected:
            return
        key = bisect_right(self.connected, recv_ms - 1), sid
        count, low, high = self.found.get(key, (0, seq, seq))
        self.found[key] = count + 1, min(low, seq), max(high, seq)

    def merge(self, others: Iterable[Numbers]) -> None:
        """Take over what others have found in other files."""
        for other in others:
            for key, (count, low, high) in other.found.items():
                mine = self.found.get(key, (0, low, high))
                self.found[key] = mine[0] + count, min(mine[1], low), max(mine[2], high)

    @property
    def missing(self) -> int:
        """How many numbers no file has."""
        return sum(high - low + 1 - count for count, low, high in self.found.values())


class _Event(msgspec.Struct):
    sid: int = 0
    seq: int = 0


class _Line(msgspec.Struct):
    recv_ms: int
    event: _Event


_decode: Final = msgspec.json.Decoder(_Line).decode


def read_session(root: Path, notes: Notes) -> tuple[Numbers, list[str]]:
    """The numbers of the frames that belong to no market, and what is wrong with their files."""
    numbers, problems = Numbers.of(notes), list[str]()
    if notes.unreadable:
        problems.append(f"{notes.unreadable} unreadable notes of the recorder")
    for file in day_files(root / SESSION):
        try:
            for raw in read_lines(file):
                line = _decode(raw)
                numbers.add(line.recv_ms, line.event.sid, line.event.seq)
        except Damaged as damage:
            problems.append(f"session: {damage}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"session: {file.name}: {error}")
    return numbers, problems
