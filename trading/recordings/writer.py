"""Write recordings (`files`): every frame as the socket said it, by market and UTC day, compressed.

`RecordingWriter.tap` is fit for `trading.exchange.stream.Stream`: it puts the frame aside and returns. A thread of its
own sorts, compresses and writes; compression and the disk leave the interpreter to others.

- Every `FLUSH_SECONDS` all that came is handed to the operating system: a killed process loses only what is younger.
- A writer never touches a file that was there before it: after a restart a day goes on in a part of its own.
- Once a write has failed nothing more is written anywhere, and the next `tap` raises RecordingFailed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trading.recordings.files import EVENTS, SESSION, is_ticker
from trading.recordings.frames import as_line
from trading.recordings.notes import NOTES, Kind, Note, encode, read_notes
from trading.recordings.packing import Shelf

FLUSH_SECONDS: Final = 1.0
TURN_SECONDS: Final = 0.1
MOST_WAITING: Final = 1_000_000  # frames: a disk that is so far behind will not catch up
_BATCH: Final = 256
_DAY_MS: Final = 86_400_000


class RecordingFailed(Exception):
    """Nothing more is recorded; the message says why. What was recorded before stays readable."""

    code = "E874"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Finished:
    """In the queue: no more is expected of this market."""

    ticker: str


class RecordingWriter:
    """Records into `root` until `close`. Raises RecordingFailed beside another writer, or where nothing can be written.

    Frames of followed markets go to the markets' files, all others to the session's; with `follow_all` every market
    named by a frame is followed. `use_yes_price` says with what the order books are subscribed. `frames`, `written`
    (bytes) and `failure` tell how it goes.
    """

    def __init__(
        self,
        root: Path,
        *,
        use_yes_price: bool = False,
        follow_all: bool = False,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self.frames = 0
        self.written = 0
        self.failure: str | None = None
        self.root = root
        self._clock_ms = clock_ms
        self._use_yes_price = use_yes_price
        self._follow_all = follow_all
        self._followed: frozenset[str] = frozenset()
        self._waiting: deque[tuple[int, str | bytes] | Note | _Finished] = deque()
        self._shelf = Shelf()
        self._closing = threading.Event()
        try:
            self._lock = _lock(root)
            self._notes = _open_notes(root / SESSION / NOTES)
            earlier = read_notes(root).notes
            self._recv_ms = max(clock_ms(), earlier[-1].recv_ms + 1 if earlier else 0)
            self._write_note(self._after_all(Note(self._recv_ms, "started", use_yes_price)))
        except OSError as error:
            raise RecordingFailed(f"cannot record into {root}: {_reason(error)}") from error
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def follow(self, tickers: Iterable[str]) -> None:
        """Give these markets files of their own. Call before they are subscribed."""
        self._followed |= frozenset(ticker for ticker in tickers if is_ticker(ticker))

    def tap(self, recv_ms: int, raw: str | bytes) -> None:
        """Record one frame, received at `recv_ms` by our clock. Never waits. Raises RecordingFailed."""
        if self.failure is not None:
            raise RecordingFailed(self.failure)
        self._waiting.append((recv_ms, raw))

    def note(self, kind: Kind, reason: str = "", tickers: Iterable[str] = ()) -> None:
        """Record what the frames do not say, in order with them: see `notes`."""
        self._waiting.append(Note(self._clock_ms(), kind, self._use_yes_price, reason, tuple(tickers)))

    def finish(self, tickers: Iterable[str]) -> None:
        """End the files of markets of which no more is expected; should more come, they go on."""
        self._waiting.extend(map(_Finished, tickers))

    def close(self) -> None:
        """Write what is waiting, end all files and note that the recorder stopped. Raises RecordingFailed."""
        self._closing.set()
        self._thread.join()
        os.close(self._notes)
        os.close(self._lock)
        if self.failure is not None:
            raise RecordingFailed(self.failure)

    # --- the thread

    def _run(self) -> None:
        try:
            flushed_at = time.monotonic()
            while not self._closing.wait(TURN_SECONDS):
                self._drain()
                if time.monotonic() - flushed_at >= FLUSH_SECONDS:
                    self.written += self._shelf.flush()
                    flushed_at = time.monotonic()
            self._drain()
            self.written += self._shelf.finish_all()
            self._write_note(Note(max(self._clock_ms(), self._recv_ms), "stopped", self._use_yes_price))
        except OSError as error:
            self._fail(f"cannot record into {self.root}: {_reason(error)}")
        except Exception as error:  # whatever it is, the recording has ended and its owner must know
            self._fail(f"cannot record into {self.root}: {error!r}")

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self._waiting.clear()
        self._shelf.abandon()

    def _drain(self) -> None:
        """Write what has come, in its order."""
        if len(self._waiting) > MOST_WAITING:
            raise OSError(errno.EBUSY, f"the disk is {len(self._waiting)} frames behind")
        for _ in range(0, len(self._waiting), _BATCH):
            self._write_batch(min(len(self._waiting), _BATCH))

    def _write_batch(self, count: int) -> None:
        """A batch is short, so that the interpreter is soon free for whoever hears the frames."""
        lines: dict[tuple[str, int], list[bytes]] = {}
        finished = []
        for _ in range(count):
            item = self._waiting.popleft()
            if isinstance(item, Note):
                self._write_note(self._after_all(item))
                continue
            if isinstance(item, _Finished):
                finished.append(item.ticker)
                continue
            recv_ms, raw = item
            self._recv_ms = recv_ms = max(
                recv_ms, self._recv_ms
            )  # our clock may be set back; the order stays
            ticker, line = as_line(recv_ms, raw)
            lines.setdefault((ticker, recv_ms // _DAY_MS), []).append(line)
            self.frames += 1
        for (ticker, day), found in lines.items():
            self.written += self._shelf.add(self._folder(ticker), _day(day), b"".join(found))
        for ticker in finished:
            self.written += self._shelf.finish(self._folder(ticker))

    def _after_all(self, note: Note) -> Note:
        """Nothing after a note may share its millisecond: readers join notes and frames by it."""
        at = max(note.recv_ms, self._recv_ms)
        self._recv_ms = at + 1
        return Note(at, note.note, note.use_yes_price, note.reason, note.tickers)

    def _folder(self, ticker: str) -> Path:
        is_followed = ticker in self._followed or (self._follow_all and is_ticker(ticker))
        return self.root / EVENTS / ticker if is_followed else self.root / SESSION

    def _write_note(self, note: Note) -> None:
        os.write(self._notes, encode(note))


def _day(number: int) -> str:
    return f"{datetime.fromtimestamp(number * _DAY_MS / 1000, UTC):%Y-%m-%d}"


def _lock(root: Path) -> int:
    """The folder's lock; the system lets go of it when the process ends, however that happens."""
    (root / SESSION).mkdir(parents=True, exist_ok=True)
    lock = os.open(root / SESSION / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RecordingFailed(f"another recorder is at work in {root}") from None
    return lock


def _open_notes(file: Path) -> int:
    """The notes, for appending; a line that a killed recorder left half is ended."""
    notes = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    size = os.fstat(notes).st_size
    if size and os.pread(notes, 1, size - 1) != b"\n":
        os.write(notes, b"\n")
    return notes


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
