"""Announcing from a thread of its own, for a process whose deeds must not wait for the channel layer.

Announcements are hints. Held back for a moment they cost a page a few milliseconds; sent between a claim and its send
they would cost the order as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

log = logging.getLogger(__name__)

PAUSE: Final = 0.02  # seconds; what a deed announces in a row goes out together, after the deed is done
CAPACITY: Final = 1_000  # announcements; beyond it new ones are dropped, and pages catch up by asking
SILENCE: Final = 2.0  # seconds without a try after a layer that hung

Announcement = tuple[str, dict[str, Any]]
Send = Callable[[str, dict[str, Any]], Awaitable[None]]


class Background:
    """Sends what it is handed, in order, over one event loop. `send` may fail or hang: nobody waits for it."""

    def __init__(
        self, send: Send, *, patience: float, pause: float = PAUSE, silence: float = SILENCE
    ) -> None:
        self._send = send
        self._patience, self._pause, self._silence = patience, pause, silence
        self._waiting: queue.Queue[Announcement] = queue.Queue(CAPACITY)
        threading.Thread(target=self._run, name="live-announcements", daemon=True).start()

    def hand_over(self, topic: str, message: dict[str, Any]) -> bool:
        """Take one announcement. False when too many wait already."""
        try:
            self._waiting.put_nowait((topic, message))
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # one loop, so that the layer keeps one connection
            while True:
                waiting = [self._waiting.get()]
                time.sleep(self._pause)
                waiting += self._rest()
                runner.run(self._pass_on(waiting))

    def _rest(self) -> Iterator[Announcement]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._waiting.get_nowait()

    async def _pass_on(self, announcements: list[Announcement]) -> None:
        for topic, message in announcements:
            try:
                async with asyncio.timeout(self._patience):
                    await self._send(topic, message)
            except Exception as error:  # any transport fault: the next announcement is tried all the same
                log.warning("live.publish.failed", extra={"topic": topic, "error": repr(error)})
                if isinstance(error, TimeoutError):
                    await asyncio.sleep(self._silence)
