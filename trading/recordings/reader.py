"""Read recordings: one folder per market with a compressed file per UTC day, and the markets' definitions.

    DIR/events/<market ticker>/<UTC day>.ndjson.gz    {"recv_ms", "event": {type, sid, seq, msg}} per line
    DIR/metadata/<event ticker>.json                  GET /events/{ticker} after settlement, under "response"

A recorder may die in the middle of a line or a compressed block. What cannot be read is counted and yields a
`Gap`, because a lost change would leave a wrong book; the book is right again at the next snapshot.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from trading.recordings.messages import Event, Gap, Line, Received, Snapshot, Trade

KNOWN_TYPES = frozenset({"orderbook_snapshot", "orderbook_delta", "trade"})
_line = msgspec.json.Decoder(Line)


class _AnyEvent(msgspec.Struct):
    type: str


class _AnyLine(msgspec.Struct):
    event: _AnyEvent


_any_line = msgspec.json.Decoder(_AnyLine)


@dataclass(slots=True)
class Tally:
    """What was read, and what was not: bad lines, files cut short, repeats, messages of other channels."""

    messages: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    truncated_files: int = 0
    repeated: int = 0
    other: int = 0
    gaps: int = 0


class NoRecordingError(ValueError):
    """The folder holds no recording of that market."""

    code = "E302"


def recorded_tickers(root: Path) -> list[str]:
    """Every recorded market, by the day of its first file. Raises NoRecordingError when there is none."""
    folders = [folder for folder in (root / "events").glob("*") if any(folder.glob("*.ndjson*"))]
    if not folders:
        raise NoRecordingError(f"no recordings under {root}")
    return [folder.name for folder in sorted(folders, key=lambda f: (_day_files(f)[0].name, f.name))]


def read_market(root: Path, ticker: str, tally: Tally | None = None) -> Iterator[Received]:
    """Yield a market's messages over all its day files in the order of receipt; `tally` is filled on the way.

    A repeated message (same subscription, same number) is dropped. Raises NoRecordingError.
    """
    files = _day_files(root / "events" / ticker)
    if not files:
        raise NoRecordingError(f"no recording of {ticker} under {root}")
    tally = Tally() if tally is None else tally
    order = _Sequence()
    last_ms = 0
    for raw in _lines(files, tally):
        if isinstance(raw, Gap):
            tally.gaps += 1
            yield Received(last_ms, raw)
            continue
        line = _decode(raw, tally)
        if line is None:
            continue
        if isinstance(line, Gap):
            tally.gaps += 1
            yield Received(last_ms, line)
            continue
        last_ms = line.recv_ms
        verdict = order.judge(line.event)
        if verdict == "repeated":
            tally.repeated += 1
            continue
        if verdict == "restarted":
            tally.gaps += 1
            yield Received(last_ms, Gap("the sequence started anew without a snapshot"))
        tally.messages[type(line.event).__name__.lower()] += 1
        yield Received(line.recv_ms, line.event)


class _Sequence:
    """Judges a market's messages by their numbers.

    A number that jumps forward proves nothing: it counts over all markets of the subscription. One that comes
    again is a repeat. One that goes back, or another subscription, is a new connection: its book begins with
    a snapshot.
    """

    def __init__(self) -> None:
        self._book = self._trades = (0, 0)

    def judge(self, event: Event) -> Literal["next", "repeated", "restarted"]:
        now = (event.sid, event.seq)
        if isinstance(event, Trade):
            repeated, self._trades = now == self._trades, now
            return "repeated" if repeated else "next"
        last, self._book = self._book, now
        if now == last:
            return "repeated"
        follows = now[0] == last[0] and now[1] > last[1]
        return "next" if follows or isinstance(event, Snapshot) or last == (0, 0) else "restarted"


def _day_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.ndjson*"), key=lambda file: file.name)


def _lines(files: list[Path], tally: Tally) -> Iterator[bytes | Gap]:
    for file in files:
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
                yield from stream
        except (EOFError, OSError, zlib.error) as error:
            tally.truncated_files += 1
            yield Gap(f"{file.name} is cut short: {error}")


def _decode(raw: bytes, tally: Tally) -> Line | Gap | None:
    """The line, None when it belongs to another channel, or a gap when it says nothing we can use."""
    try:
        return _line.decode(raw)
    except msgspec.DecodeError as error:
        reason = str(error)
    try:
        other = _any_line.decode(raw).event.type
    except msgspec.DecodeError:
        other = None
    if other is not None and other not in KNOWN_TYPES:
        tally.other += 1
        return None
    tally.unreadable += 1
    return Gap(f"unreadable line: {reason}")
