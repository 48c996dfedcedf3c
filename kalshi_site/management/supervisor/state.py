"""What the supervisor tells others: one small JSON file, replaced as a whole at each change."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kalshi_site.management.supervisor.layout import Layout, write_private
from kalshi_site.management.supervisor.leftovers import is_running, started_at

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]


@dataclass(slots=True)
class ChildState:
    """One process as others see it. `state` is starting, ready, restarting or stopped."""

    title: str
    state: str = "stopped"
    pid: int | None = None
    restarts: int = 0
    since: float = 0.0
    detail: str = ""


@dataclass(slots=True)
class DeskState:
    """The whole desk. `started` belongs to `pid`: together they name the supervisor."""

    pid: int = field(default_factory=os.getpid)
    started: str | None = None
    phase: Phase = "starting"
    url: str = ""
    profile: str = "paper"
    redis: str = ""
    degraded: list[str] = field(default_factory=list)
    failure: str = ""
    announced: bool = False
    processes: dict[str, ChildState] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file."""
        self.started = self.started or started_at(self.pid)
        write_private(path, json.dumps(asdict(self), indent=1))


def read_state(layout: Layout) -> DeskState | None:
    """What the last supervisor left, running or not; None when there never was one."""
    try:
        left: dict[str, Any] = json.loads(layout.state.read_text(encoding="utf-8"))
        children = {name: ChildState(**child) for name, child in left.pop("processes").items()}
        return DeskState(**left, processes=children)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running_state(layout: Layout) -> DeskState | None:
    """The state of a supervisor that runs now, else None."""
    state = read_state(layout)
    return state if state and is_running(state.pid, state.started) else None


class AlreadyRunning(Exception):
    """Another supervisor holds the lock of this state directory."""


class RunLock:
    """One supervisor for each state directory. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.run / "lock"
        self._descriptor: int | None = None

    def take(self, *, patience: float = 0.0) -> None:
        """Hold the lock until the process ends. Raises AlreadyRunning after `patience` seconds."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise AlreadyRunning(str(self._path)) from None
                time.sleep(0.05)
            else:
                self._descriptor = descriptor
                return

    def is_free(self) -> bool:
        """Whether nobody holds it now."""
        try:
            self.take()
        except AlreadyRunning:
            return False
        self.release()
        return True

    def release(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
