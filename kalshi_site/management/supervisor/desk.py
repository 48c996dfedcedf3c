"""All processes of the desk: started in order, each gated on the one before, stopped in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kalshi_site.management.supervisor.children import Child, ChildFailed, ChildSpec
from kalshi_site.management.supervisor.layout import Layout
from kalshi_site.management.supervisor.state import DeskState, Phase

# Ctrl+C must end everything in under 5 s.
STOP_SECONDS = 3.5
LOG_BYTES, LOG_COPIES, LOG_CHECK_SECONDS = 5_000_000, 3, 30.0

Stage = Sequence[ChildSpec]
Say = Callable[[str, str], None]
"""Called with title and detail of each process that became ready."""


class Desk:
    """The stages in order; the processes of one stage start together."""

    def __init__(self, layout: Layout, stages: Sequence[Stage], state: DeskState, say: Say) -> None:
        self.layout, self.state, self._say = layout, state, say
        self._stages = [[Child(spec, layout, self._changed) for spec in stage] for stage in stages]
        self._watchers: list[asyncio.Task[None]] = []
        for child in self._all():
            state.processes[child.spec.name] = child.state

    async def start(self) -> None:
        """Start stage after stage, each when the one before is ready. Raises ChildFailed."""
        for stage in self._stages:
            starts = [asyncio.create_task(self._start(child)) for child in stage]
            try:
                await asyncio.gather(*starts)
            except BaseException:
                for task in starts:
                    task.cancel()
                await asyncio.gather(*starts, return_exceptions=True)
                raise

    async def stop(self) -> None:
        """Stop the last stage first, all within STOP_SECONDS."""
        deadline = time.monotonic() + STOP_SECONDS
        # First nobody may restart anything.
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for left, stage in zip(range(len(self._stages), 0, -1), reversed(self._stages), strict=True):
            remaining = max(0.1, deadline - time.monotonic())
            grace = min(remaining, 2 * remaining / left)
            await asyncio.gather(*(child.stop(grace) for child in stage))

    async def run(self, stop: asyncio.Event, announce: Callable[[], None] = lambda: None) -> None:
        """Start everything, `announce` it, stand until `stop` is set, stop everything.

        Raises ChildFailed when a start fails; then everything is stopped too.
        """
        self._phase("starting")
        starting = asyncio.create_task(self.start())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not stop.is_set():
                starting.result()
                self._phase("ready")
                await asyncio.to_thread(announce)
                self._watchers.append(asyncio.create_task(self._rotate_logs()))
                await stopping
        except ChildFailed as failure:
            self.state.failure = str(failure)
            raise
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            self._phase("stopping")
            await self.stop()
            self._phase("failed" if self.state.failure else "stopped")

    async def _start(self, child: Child) -> None:
        await child.start()
        self._watchers.append(asyncio.create_task(child.watch()))
        self._say(child.spec.title, child.state.detail)

    async def _rotate_logs(self) -> None:
        while True:
            for path in sorted(self.layout.logs.glob("*.log")):
                rotate(path)
            await asyncio.sleep(LOG_CHECK_SECONDS)

    def _phase(self, phase: Phase) -> None:
        self.state.phase = phase
        self._changed()

    def _changed(self) -> None:
        with contextlib.suppress(OSError):
            self.state.write(self.layout.state)

    def _all(self) -> list[Child]:
        return [child for stage in self._stages for child in stage]


def rotate(path: Path, limit: int = LOG_BYTES) -> bool:
    """Copy a log that has outgrown `limit` bytes aside and empty it; writers append, so they need not reopen it."""
    if path.stat().st_size <= limit:
        return False
    for number in range(LOG_COPIES - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.with_name(f"{path.name}.1").write_bytes(path.read_bytes())
    with path.open("r+b") as file:
        file.truncate(0)
    return True
