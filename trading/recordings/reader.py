"""Read recordings (`files`): a market's messages, and a `Gap` wherever something is missing.

A recorder may die in the middle of a line or a compressed block. What cannot be read is counted and yields a `Gap`,
because a lost change would leave a wrong book; the book is right again at the next snapshot. Lines of other markets or
channels say nothing about this book and are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from trading.recordings.files import NoRecordingError, market_files, recorded_tickers
from trading.recordings.lines import Damaged, Digest, read_lines
from trading.recordings.messages import Delta, Event, Gap, Line, Misplaced, Received, Snapshot, Trade
from trading.recordings.notes import Breaks, Notes, Scale, read_notes
from trading.recordings.numbers import Numbers
from trading.recordings.sequence import Sequence, Verdict

__all__ = ["KNOWN_TYPES", "MOST_REASONS", "NoRecordingError", "Tally", "read_market", "recorded_tickers"]

MOST_REASONS: Final = 10  # kept of each market; the counts tell the rest
KNOWN_TYPES: Final = frozenset({"orderbook_snapshot", "orderbook_delta", "trade"})
_line: Final = msgspec.json.Decoder(Line)


class _AnyBody(msgspec.Struct):
    market_ticker: str = ""


class _AnyEvent(msgspec.Struct):
    type: str
    sid: int = 0
    seq: int = 0
    msg: _AnyBody | None = None


class _AnyLine(msgspec.Struct):
    event: _AnyEvent
    recv_ms: int = 0


_any_line: Final = msgspec.json.Decoder(_AnyLine)


@dataclass(slots=True)
class Tally:
    """What was read, and what was not.

    `messages` counts by kind; `truncated_files` were cut short or damaged; `repeated` came again and were dropped;
    `reordered` were out of their place; `foreign` belong to other markets, `other` to other channels; `gaps` counts the
    places after which the book was unknown, `reasons` says why the first of them; `reconnects` and `breaks` are new
    connections by their snapshot and by the recorder's own notes; `jumps` are numbers that other markets took;
    `continued_files` begin without a snapshot and go on with the book of the file before.
    """

    messages: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    truncated_files: int = 0
    repeated: int = 0
    reordered: int = 0
    foreign: int = 0
    other: int = 0
    gaps: int = 0
    reasons: list[str] = field(default_factory=list)
    reconnects: int = 0
    breaks: int = 0
    jumps: int = 0
    continued_files: int = 0
    numbers: Numbers = field(default_factory=Numbers)


def read_market(
    root: Path,
    ticker: str,
    tally: Tally | None = None,
    *,
    notes: Notes | None = None,
    digest: Digest | None = None,
) -> Iterator[Received]:
    """Yield a market's messages over all its files in the order of receipt; `tally` is filled on the way.

    NO prices are on the NO scale, whichever was recorded. `digest` is fed with all bytes of the files. Raises
    NoRecordingError.
    """
    files = market_files(root, ticker)
    reading = _Reading(
        ticker, read_notes(root) if notes is None else notes, Tally() if tally is None else tally
    )
    for number, file in enumerate(files):
        reading.continues = number > 0
        try:
            for raw in read_lines(file, digest):
                yield from reading.take(raw)
        except Damaged as damage:
            reading.tally.truncated_files += 1
            yield reading.gap(str(damage))
    yield from reading.end()


class _Reading:
    """One pass over one market: lines in, messages and gaps out."""

    def __init__(self, ticker: str, notes: Notes, tally: Tally) -> None:
        self.tally = tally
        self.continues = False  # in a file after the first, before its first message of the book
        self._ticker = ticker
        self._breaks: Breaks = notes.breaks(ticker)
        self._scale: Scale = notes.scale()
        self._sequence = Sequence()
        self.tally.numbers = Numbers.of(notes)
        self._last_ms = 0
        self._passed = 0  # breaks that lie before the last line

    def take(self, raw: bytes) -> Iterator[Received]:
        """What one line says."""
        line = self._decode(raw)
        if line is None:
            return
        if isinstance(line, Gap):
            yield self.gap(line.reason)
            return
        passed = self._breaks.until(line.recv_ms) if self._breaks.notes else 0
        if passed != self._passed:
            if self._last_ms:  # before the first message there is nothing to lose
                yield self._break(passed)
            self._passed = passed
        self._last_ms = line.recv_ms
        self.tally.numbers.add(line.recv_ms, line.event.sid, line.event.seq)
        verdict = self._sequence.judge(line.recv_ms, line.event)
        if verdict is Verdict.NEXT:
            yield self._believe(line)
        else:
            yield from self._doubt(verdict, line)

    def end(self) -> Iterator[Received]:
        """Breaks that came after the last line."""
        self.tally.jumps = self._sequence.jumps
        if self._passed != len(self._breaks.notes):
            yield self._break(len(self._breaks.notes))

    def gap(self, reason: str, misplaced: Misplaced | None = None) -> Received:
        self.tally.gaps += 1
        if len(self.tally.reasons) < MOST_REASONS:
            self.tally.reasons.append(reason)
        return Received(self._last_ms, Gap(reason, misplaced))

    def _doubt(self, verdict: Verdict, line: Line) -> Iterator[Received]:
        if verdict is Verdict.REPEATED:
            self.tally.repeated += 1
            return
        if verdict is Verdict.RECONNECTED:
            self.tally.reconnects += 1
        elif verdict is Verdict.REORDERED:
            self.tally.reordered += 1
            misplaced = Misplaced(line.recv_ms, line.event.seq, is_trade=isinstance(line.event, Trade))
            yield self.gap(
                "a message is out of its place, or a connection began without a snapshot", misplaced
            )
        if verdict is Verdict.RECONNECTED or not isinstance(line.event, Snapshot):
            yield self._believe(line)  # a change's time counts; no book takes it before the next snapshot

    def _believe(self, line: Line) -> Received:
        self.tally.messages[type(line.event).__name__.lower()] += 1
        event = line.event
        if self.continues and not isinstance(event, Trade):
            self.continues = False
            self.tally.continued_files += isinstance(event, Delta)
        if self._scale.starts and self._scale.use_yes_price(line.recv_ms):
            event = _on_the_no_scale(event)
        return Received(line.recv_ms, event)

    def _break(self, passed: int) -> Received:
        """The recorder's notes between two lines, told as one gap. Lines out of their place pass them both ways."""
        note = self._breaks.notes[max(passed, self._passed) - 1]
        if note.note == "gap":
            return self.gap(f"the recorder lost messages: {note.reason}")
        self.tally.breaks += 1
        self._sequence.forget()
        return Received(self._last_ms, Gap(f"the recorder {note.note}: {note.reason}"))

    def _decode(self, raw: bytes) -> Line | Gap | None:
        """The line, None when it does not concern this book, or a gap when it says nothing that we can use."""
        try:
            line = _line.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._other(raw, str(error))
        if line.event.msg.market_ticker != self._ticker:
            self.tally.foreign += 1
            return None
        return line

    def _other(self, raw: bytes, reason: str) -> Gap | None:
        try:
            line = _any_line.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            line = None
        told = None if line is None else line.event
        if told is not None and told.msg is not None and told.msg.market_ticker not in {"", self._ticker}:
            self.tally.foreign += 1
            return None
        if line is not None and line.event.type not in KNOWN_TYPES:
            self.tally.other += 1
            self.tally.numbers.add(line.recv_ms, line.event.sid, line.event.seq)
            return None
        self.tally.unreadable += 1
        return Gap(f"unreadable line: {reason}")


def _on_the_no_scale(event: Event) -> Event:
    if isinstance(event, Snapshot):
        turned = tuple((_complement(price), count) for price, count in event.msg.no_dollars_fp)
        return msgspec.structs.replace(event, msg=msgspec.structs.replace(event.msg, no_dollars_fp=turned))
    if isinstance(event, Delta) and event.msg.side == "no":
        price = _complement(event.msg.price_dollars)
        return msgspec.structs.replace(event, msg=msgspec.structs.replace(event.msg, price_dollars=price))
    return event


def _complement(price: str) -> str:
    return f"{1 - Decimal(price):.4f}"
