"""What the recorder knows and the messages do not say: when it began and ended, and where something is missing.

    DIR/session/notes.ndjson      {"recv_ms", "note", "use_yes_price", "reason", "tickers"} per line

The markets' files hold nothing but what the exchange sent, so the notes lie beside them and are joined by `recv_ms`. A
recording without notes is read as its messages stand.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from trading.recordings.files import SESSION

NOTES: Final = "notes.ndjson"
Kind = Literal["started", "connected", "disconnected", "gap", "stopped"]
# What follows one of these was not built on what came before it.
BREAKS: Final[frozenset[Kind]] = frozenset({"started", "disconnected", "gap"})


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """`tickers` names the markets concerned; none means all. `use_yes_price` is the scale of NO prices from here on."""

    recv_ms: int
    note: Kind
    use_yes_price: bool = False
    reason: str = ""
    tickers: tuple[str, ...] = ()

    def concerns(self, ticker: str) -> bool:
        return not self.tickers or ticker in self.tickers


_decode: Final = msgspec.json.Decoder(Note).decode


@dataclass(frozen=True, slots=True)
class Notes:
    """All notes of a recording in their order. `unreadable` counts lines that are none."""

    notes: tuple[Note, ...] = ()
    unreadable: int = 0

    def breaks(self, ticker: str) -> Breaks:
        """The instants at which a market's book was lost."""
        return Breaks(tuple(n for n in self.notes if n.note in BREAKS and n.concerns(ticker)))

    def scale(self) -> Scale:
        """On which scale NO prices are, at any instant."""
        return Scale(tuple(n for n in self.notes if n.note == "started"))


@dataclass(frozen=True, slots=True)
class Breaks:
    """A market's breaks, in order."""

    notes: tuple[Note, ...]

    def until(self, recv_ms: int) -> int:
        """How many lie before something received at `recv_ms`. A note comes after all that its millisecond brought."""
        return bisect_right(self.notes, recv_ms - 1, key=lambda note: note.recv_ms)


@dataclass(frozen=True, slots=True)
class Scale:
    """Asked with `use_yes_price`, both sides' prices are on the YES scale; without, as by default, NO has its own."""

    starts: tuple[Note, ...]

    def use_yes_price(self, recv_ms: int) -> bool:
        """Whether a message received at `recv_ms` tells NO prices on the YES scale."""
        number = bisect_right(self.starts, recv_ms, key=lambda note: note.recv_ms)
        return number > 0 and self.starts[number - 1].use_yes_price


def read_notes(root: Path) -> Notes:
    """The recorder's notes; a line that cannot be read stands for a break of every book at the time before it."""
    try:
        lines = (root / SESSION / NOTES).read_bytes().splitlines()
    except FileNotFoundError:
        return Notes()
    found: list[Note] = []
    unreadable = 0
    for line in lines:
        try:
            note = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += 1
            last = found[-1] if found else Note(0, "started")
            note = Note(last.recv_ms, "gap", last.use_yes_price, "unreadable note")
        found.append(note)
    return Notes(tuple(sorted(found, key=lambda note: note.recv_ms)), unreadable)


def encode(note: Note) -> bytes:
    """The note's line."""
    return msgspec.json.encode(note) + b"\n"
