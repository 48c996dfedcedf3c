"""Every process says that it lives: one row each, renewed every five seconds by a thread of its own.

The row is the truth, also with Redis dead. A frozen process freezes its thread too, and falls silent. What hangs in one
thread alone shows elsewhere: by its lease (execution) or by the age of its last round (the loops).
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from kalshi_site.build import build_id
from kalshi_site.models import ProcessBeat

log = logging.getLogger(__name__)

BEAT_EVERY: Final = 5.0  # seconds
SILENT_AFTER: Final = timedelta(seconds=15)
FORGOTTEN_AFTER: Final = timedelta(days=1)


@dataclass(slots=True)
class Heart:
    """The beats of one process until `stop`, which takes its row away: it ended, it did not fall silent."""

    name: str
    every: float = BEAT_EVERY
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    build: str = field(default_factory=build_id)
    started_at: datetime = field(default_factory=timezone.now)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the background. A database that is away costs beats, and nothing else."""
        self._thread = threading.Thread(target=self._run, name=f"heart-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, once. In a child that was forked meanwhile it does nothing."""
        if self._thread is None or os.getpid() != self.pid:
            return
        self._over.set()
        self._thread.join(5)
        self._thread = None

    def beat(self) -> None:
        """One beat."""
        now = timezone.now()
        ours = ProcessBeat.objects.filter(name=self.name, host=self.host, pid=self.pid)
        if not ours.filter(started_at=self.started_at).update(beat_at=now):
            ours.delete()  # the pid of one that is gone
            ProcessBeat.objects.create(
                name=self.name,
                host=self.host,
                pid=self.pid,
                build=self.build,
                started_at=self.started_at,
                beat_at=now,
            )

    def _run(self) -> None:
        while not self._over.is_set():
            self._try(self.beat)
            self._over.wait(self.every)
        self._try(self._leave)

    def _leave(self) -> None:
        ProcessBeat.objects.filter(name=self.name, host=self.host, pid=self.pid).delete()

    def _try(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except DatabaseError as error:
            log.warning("heartbeat.failed", extra={"error": repr(error)})
        except Exception:  # whatever is wrong with one beat must not end them
            log.exception("heartbeat.broke")
        finally:
            # Not kept open: a worker forks, and a child must not end its parent's connection.
            connections.close_all()


def begin(name: str) -> Heart | None:
    """Let this process beat until it ends. None in the test suite, which beats by hand."""
    if settings.KALSHI_PROCESS == "test":
        return None
    heart = Heart(name[:20])
    heart.start()
    atexit.register(heart.stop)
    return heart


@dataclass(frozen=True, slots=True)
class Sign:
    """What is known of one process. `age` since its last beat; `is_silent` is an alarm."""

    row: ProcessBeat
    age: timedelta
    is_silent: bool


def signs(now: datetime) -> list[Sign]:
    """Every process that lives or fell silent, by name; without those that another of their name and host replaced."""
    rows = list(ProcessBeat.objects.filter(beat_at__gt=now - FORGOTTEN_AFTER).order_by("name", "host", "pid"))
    return [
        Sign(row, now - row.beat_at, now - row.beat_at > SILENT_AFTER)
        for row in rows
        if not _replaced(row, rows)
    ]


def _replaced(row: ProcessBeat, rows: Iterable[ProcessBeat]) -> bool:
    return any(
        other.name == row.name and other.host == row.host and other.started_at > row.beat_at for other in rows
    )


def fault(now: datetime) -> str:
    """What is wrong with the processes, as a sentence: silent ones, or code of two builds; "" when nothing is."""
    found = signs(now)
    silent = [f"{each.row.name} for {each.age.total_seconds():.0f} s" for each in found if each.is_silent]
    if silent:
        return f"E902 silent: {', '.join(silent)}"
    builds = {each.row.build for each in found}
    return f"E902 {len(builds)} builds run side by side: restart the desk" if len(builds) > 1 else ""


def builds_of(name: str, now: datetime) -> set[str]:
    """The builds that the living processes of a name run."""
    return {each.row.build for each in signs(now) if each.row.name == name and not each.is_silent}


def forget(now: datetime) -> int:
    """Delete the rows of processes that have long been gone."""
    return ProcessBeat.objects.filter(beat_at__lt=now - FORGOTTEN_AFTER).delete()[0]
