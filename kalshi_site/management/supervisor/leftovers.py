"""Processes by pid and start time, so that a pid given to somebody else is never mistaken for ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 2.0


def started_at(pid: int) -> str | None:
    """The kernel's start time of a process as text to compare; None when it is gone or a zombie."""
    if not sys.platform.startswith("linux"):
        answer = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() or None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    # proc(5): after the name come state (field 3) … starttime (field 22).
    return None if fields[0] == "Z" else fields[19]


def is_running(pid: int, started: str | None) -> bool:
    """Whether this very process still runs."""
    return started is not None and started_at(pid) == started


def remember(path: Path, pid: int) -> None:
    """Leave a pid file with the start time."""
    path.write_text(json.dumps({"pid": pid, "started": started_at(pid)}), encoding="utf-8")


def end_leftovers(run: Path) -> list[str]:
    """End what an earlier supervisor left behind when it was killed; returns the names. Removes the pid files."""
    found: dict[str, int] = {}
    for path in sorted(run.glob("*.pid")):
        group = _group_of(path)
        if group is not None:
            found[path.stem] = group
        path.unlink(missing_ok=True)
    end_groups(list(found.values()))
    return sorted(found)


def end_groups(groups: list[int], *, grace: float = GRACE_SECONDS) -> None:
    """SIGTERM to each process group, SIGKILL to those that are still there after `grace` seconds."""
    for group in groups:
        _signal(group, signal.SIGTERM)
    _wait_gone(groups, grace)
    for group in groups:
        _signal(group, signal.SIGKILL)
    _wait_gone(groups, 1.0)


def _wait_gone(groups: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_exists(group) for group in groups):
        time.sleep(0.02)


def _group_of(path: Path) -> int | None:
    """The group that `path` speaks of, when it still has members. Each child leads a group of its own."""
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
        pid, started = int(left["pid"]), left["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = started_at(pid)
    if now is not None and now != started:
        return None  # The number was given to another process; then no group of ours can bear it.
    return pid if _exists(pid) else None


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
