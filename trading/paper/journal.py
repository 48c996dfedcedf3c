"""The journal: an append-only file of JSON lines that survives kill -9.

One line is one step of the exchange, all or nothing. `append` only queues; a step is durable when
`durable_sequence` has reached it, and nothing may be acknowledged before (`settled`). A group of steps shares
one fsync, in a worker thread unless the disk is quick.

At start the lines are read back. A torn last line (the process died while writing) was never acknowledged: it
is cut off. A broken line before the last means that the file was damaged, and the exchange refuses to start
on it.

When the file has grown much larger than the state it describes it is written anew, beside the old one, and
renamed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from trading.paper.records import Entry, Record

COMPACT_AT_BYTES = 16 * 1024 * 1024
COMPACT_FACTOR = 4
# A disk this quick is written from the loop: handing the work to a thread and back takes longer than the disk does.
QUICK_SECONDS = 0.002
_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder = msgspec.json.Decoder(Entry)


class JournalDamaged(Exception):
    """The journal cannot be trusted; carries file and line. The operator must restore it or start with a new
    home."""


class JournalFailed(Exception):
    """The journal could not be written: nothing more may be acknowledged."""


class Journal:
    """One file. Made with `open`, which also yields what it holds; then `start` inside the loop."""

    def __init__(self, path: Path, *, compact_at: int = COMPACT_AT_BYTES) -> None:
        self.path = path
        self.sequence = 0
        self.durable_sequence = 0
        self.failure: BaseException | None = None
        self.on_durable: Callable[[], None] = lambda: None
        self.snapshot: Callable[[], Iterable[Record]] | None = None
        self._compact_at = compact_at
        self._size = 0
        self._fd = -1
        self._queue: list[bytes] = []
        self._work = asyncio.Event()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = (
            deque()
        )  # by the sequence that each waits for
        self._usual_seconds = 0.0  # that a write to this disk takes, the latest counting most
        self._disk = ThreadPoolExecutor(1, "paper-journal")  # it starts no thread before its first task
        self._writer: asyncio.Task[None] | None = None

    def read(self) -> Iterator[Entry]:
        """All whole entries, oldest first; cuts off a torn tail. Raises JournalDamaged."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            entry = self._decode(line, number)
            self.sequence = self.durable_sequence = entry.sequence
            yield entry
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def _decode(self, line: bytes, number: int) -> Entry:
        try:
            entry = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise JournalDamaged(f"{self.path} line {number}: {error}") from error
        if entry.sequence <= self.sequence:
            raise JournalDamaged(
                f"{self.path} line {number}: sequence {entry.sequence} follows {self.sequence}"
            )
        return entry

    def start(self) -> None:
        """Begin to write; call inside the running loop, after `read` is exhausted."""
        existed = self.path.exists()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if not existed:
            _sync_directory(self.path.parent)
        self._size = os.fstat(self._fd).st_size
        self._writer = asyncio.create_task(self._write_forever(), name="paper journal")

    def append(self, at_ms: int, records: list[Record]) -> int:
        """Queue one step; returns its sequence. Raises JournalFailed when writing has failed before."""
        if self.failure is not None:
            raise JournalFailed(str(self.failure)) from self.failure
        self.sequence += 1
        self._queue.append(_encoder.encode(Entry(self.sequence, at_ms, records)) + b"\n")
        self._work.set()
        return self.sequence

    async def settled(self) -> None:
        """Wait until everything appended so far is on the disk. Raises JournalFailed."""
        if self.durable_sequence >= self.sequence:
            return
        if self.failure is not None:
            raise JournalFailed(str(self.failure)) from self.failure
        settled = asyncio.get_running_loop().create_future()
        self._waiting.append((self.sequence, settled))
        await settled

    async def close(self) -> None:
        """Write what is queued and stop."""
        if self._writer is None:
            return
        if self.failure is None:
            await self.settled()
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        self._disk.shutdown()
        os.close(self._fd)
        self._writer = None

    async def _write_forever(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await self._write_queue()
        except Exception as error:  # a full or broken disk: whoever waits must learn that nothing is durable
            self.failure = error
            for _, settled in self._waiting:
                if not settled.done():
                    settled.set_exception(JournalFailed(str(error)))
            self._waiting.clear()

    async def _write_queue(self) -> None:
        await asyncio.sleep(0)  # whoever is about to append in this round comes along
        sequence, lines = self.sequence, b"".join(self._queue)
        self._queue.clear()
        if self.snapshot is not None and self._size + len(lines) > self._compact_at:
            # The state in memory already holds the queued steps, so they need no line of their own.
            whole = _encoder.encode(Entry(sequence, 0, list(self.snapshot()))) + b"\n"
            await self._on_disk(self._rewrite, whole)
            self._compact_at = max(self._compact_at, COMPACT_FACTOR * len(whole))
        elif lines and self._usual_seconds < QUICK_SECONDS:
            self._write(lines)
        elif lines:
            await self._on_disk(self._write, lines)
        self.durable_sequence = sequence
        self.on_durable()
        self._wake(sequence)

    async def _on_disk(self, work: Callable[[bytes], None], content: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._disk, work, content)

    def _wake(self, sequence: int) -> None:
        """Let those go on whose step is on the disk, and only those."""
        while self._waiting and self._waiting[0][0] <= sequence:
            settled = self._waiting.popleft()[1]
            if not settled.done():  # else its request was given up
                settled.set_result(None)

    def _write(self, lines: bytes) -> None:
        began = time.perf_counter()
        _write_all(self._fd, lines)
        os.fdatasync(self._fd)
        self._size += len(lines)
        self._usual_seconds += (time.perf_counter() - began - self._usual_seconds) / 8

    def _rewrite(self, whole: bytes) -> None:
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        _write_all(fd, whole)
        os.fsync(fd)
        fresh.rename(self.path)
        _sync_directory(self.path.parent)
        os.close(self._fd)
        self._fd, self._size = fd, len(whole)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
