"""One child process: started with its own environment, watched, restarted with back-off, ended with its group."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.leftovers import remember
from kalshi_site.management.supervisor.readiness import Probe
from kalshi_site.management.supervisor.state import ChildState

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
# A child that has stood this long has earned a fresh start of its back-off.
STOOD_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start and how to know that it is ready.

    `env` answers the child's whole environment; it is asked at each start, as keys may be made by an earlier stage.
    """

    name: str
    title: str
    argv: Sequence[str]
    env: Callable[[], Mapping[str, str]]
    probe: Probe
    cwd: Path
    ready_file: Path | None = None
    timeout: float = 90.0


class ChildFailed(Exception):
    """A child ended, or was not ready in time, while the desk was starting."""

    def __init__(self, spec: ChildSpec, why: str, tail: str) -> None:
        self.spec, self.why, self.tail = spec, why, tail
        super().__init__(f"{spec.title} {why}")


@dataclass(slots=True)
class Child:
    """One process over its restarts. `changed` is called after each change of `state`."""

    spec: ChildSpec
    layout: Layout
    changed: Callable[[], None]
    state: ChildState = field(init=False)
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False

    def __post_init__(self) -> None:
        """Begin as stopped."""
        self.state = ChildState(title=self.spec.title)

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildFailed."""
        await self._spawn()
        await self._wait_ready()

    async def watch(self) -> None:
        """Restart it whenever it ends, until `stop`: 1 s later, then 2, 4 … 30."""
        delay = 0.0
        while self._process is not None:
            born = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            delay = next_delay(delay, stood=time.monotonic() - born)
            self._tell("restarting", f"ended with {code}; next start in {delay:.0f} s", restarts=1)
            await asyncio.sleep(delay)
            await self._restart()

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL to the whole group after `grace` seconds."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        self._end_group()
        if process is not None:
            with contextlib.suppress(TimeoutError):  # killed: a moment to be reaped, before the loop closes
                await asyncio.wait_for(process.wait(), 1.0)
        self._tell("stopped", "")

    async def _restart(self) -> None:
        if self._stopping:
            return
        self._end_group()
        await self._spawn()
        try:
            await self._wait_ready()
        except ChildFailed as failure:
            # Not fatal once the desk stands: end what is left of it and let the back-off go on.
            self._end_group()
            self._tell("restarting", failure.why)

    async def _spawn(self) -> None:
        if self.spec.ready_file is not None:
            self.spec.ready_file.unlink(missing_ok=True)
        with self.layout.log_file(self.spec.name).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.env()),
                cwd=self.spec.cwd,
                start_new_session=True,
                preexec_fn=_end_with_parent(os.getpid()),
            )
        remember(self._pid_file, self._process.pid)
        self._tell("starting", "")

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + self.spec.timeout
        while time.monotonic() < deadline:
            if self._process is None or self._process.returncode is not None:
                code = self._process.returncode if self._process else None
                raise ChildFailed(self.spec, f"ended with {code} before it was ready", self._tail())
            detail = await self.spec.probe()
            if detail is not None:
                self._tell("ready", detail)
                return
            await asyncio.sleep(0.1)
        raise ChildFailed(self.spec, f"was not ready after {self.spec.timeout:.0f} s", self._tail())

    def _end_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)

    def _tell(self, state: str, detail: str, *, restarts: int = 0) -> None:
        self.state.state, self.state.detail, self.state.since = state, detail, time.time()
        self.state.restarts += restarts
        self.state.pid = self._process.pid if self._process and state in {"starting", "ready"} else None
        self.changed()

    def _tail(self, lines: int = 15) -> str:
        try:
            text = self.layout.log_file(self.spec.name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    @property
    def _pid_file(self) -> Path:
        return self.layout.run / f"{self.spec.name}.pid"


def next_delay(last: float, *, stood: float) -> float:
    """Seconds to wait before the next start, after one that waited `last` and then stood for `stood` seconds."""
    if last == 0 or stood > STOOD_SECONDS:
        return FIRST_DELAY
    return min(last * 2, LONGEST_DELAY)


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """For Linux: the kernel sends SIGTERM to the child when the supervisor is killed."""
    if _LIBC is None:
        return None

    def ask_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
