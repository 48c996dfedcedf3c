"""A process that is frozen inside a write keeps SQLite's one write lock from everybody: it is found, and ended.

PostgreSQL gives up on such a client after ten seconds; SQLite has nobody to do so. Only a process that the kernel has
stopped is ended, never one that is slow, and kill -9 is harmless at any point: what it had not committed is undone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.db import connection

from kalshi_site import audit

log = logging.getLogger(__name__)

WRITE_LOCK: Final = (
    120  # the byte of the -shm file that the writer locks (https://sqlite.org/walformat.html, 2.3)
)
LOOKS_APART: Final = 0.5  # seconds: a debugger's or a shell's short stop is none of ours
_STOPPED: Final = ("T", "t")


def end_frozen_writer(actor: str, *, person: bool = False) -> int | None:
    """End the process that holds the write lock and is stopped; returns its pid, or None where there is none.

    Looks twice. Where the kernel's list of locks cannot be read, as on other systems than Linux, nothing is done.
    """
    if connection.vendor != "sqlite":
        return None
    shared = Path(f"{connection.settings_dict['NAME']}-shm")
    for pid in _stopped_writers(shared):
        with contextlib.suppress(OSError), _held(pid) as process:
            time.sleep(LOOKS_APART)
            if pid not in _stopped_writers(shared):
                continue
            signal.pidfd_send_signal(process, signal.SIGKILL)
            log.error("database.frozen_writer.ended", extra={"ended": pid})
            audit.record(
                actor=actor,
                actor_kind="person" if person else "system",
                verb="process.ended",
                object_type="process",
                object_id=str(pid),
                reason="it was frozen inside a write and kept the database from everybody",
            )
            return pid
    return None


@contextlib.contextmanager
def _held(pid: int) -> Iterator[int]:
    """The process itself: its number may be another's by the time that a signal arrives."""
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def _stopped_writers(shared: Path) -> list[int]:
    try:
        inode, locks = shared.stat().st_ino, Path("/proc/locks").read_text(encoding="ascii")
        return [pid for pid in _writers(locks, inode) if _has_open(pid, shared) and _is_stopped(pid)]
    except OSError:
        return []


def _writers(locks: str, inode: int) -> list[int]:
    """Who holds the write lock. proc(5): number, class, mode, READ or WRITE, pid, device:inode, first, last byte."""
    found = []
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) != 8 or fields[1] == "->" or fields[3] != "WRITE":
            continue  # an arrow stands before those that wait
        *_, pid, file, first, last = fields
        covers = int(first) <= WRITE_LOCK and (last == "EOF" or int(last) >= WRITE_LOCK)
        if covers and file.rpartition(":")[2] == str(inode):
            found.append(int(pid))
    return found


def _has_open(pid: int, file: Path) -> bool:
    """Whether it is this file: inodes of two file systems may have one number."""
    return any(_is_same(each, file) for each in Path(f"/proc/{pid}/fd").iterdir())


def _is_same(link: Path, file: Path) -> bool:
    try:
        return link.samefile(file)
    except OSError:  # closed meanwhile, or no file
        return False


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(")")[2].split()[0] in _STOPPED
